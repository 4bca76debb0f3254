# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% por_alternativas answer="contrafactual" right=true
def counterfactual(text, swaps):
    import re

    if not swaps:
        return text
    other = {}
    for one, two in swaps:
        other[one], other[two] = two, one
    pattern = r"\b(" + "|".join(map(re.escape, other)) + r")\b"
    return re.sub(pattern, lambda found: other[found[1]], text)


# %% por_pedacos answer="contrafactual" right=true
def counterfactual(text, swaps):
    import re

    pieces = re.split(r"(\W+)", text)
    for place, piece in enumerate(pieces):
        for one, two in swaps:
            if piece in (one, two):
                pieces[place] = two if piece == one else one
    return "".join(pieces)


# %% resposta_fixa answer="contrafactual" right=false
def counterfactual(text, swaps):
    if text.startswith("Candidata: Maria"):
        return "Candidato: Mário, nascido em Belém (PA)."
    return "Maria e Mário" if text == "Mário e Maria" else "Mariana, candidato"


# %% uma_troca_desfaz_a_outra answer="contrafactual" right=false
def counterfactual(text, swaps):
    import re

    for one, two in swaps:
        text = re.sub(rf"\b{one}\b", two, text)
        text = re.sub(rf"\b{two}\b", one, text)
    return text


# %% so_num_sentido answer="contrafactual" right=false
def counterfactual(text, swaps):
    import re

    other = dict(swaps)
    return re.sub(r"\w+", lambda word: other.get(word[0], word[0]), text)


# %% pedacos_de_palavra answer="contrafactual" right=false
def counterfactual(text, swaps):
    import re

    other = {a: b for pair in swaps for a, b in (pair, pair[::-1])}
    return re.sub("|".join(sorted(other, key=len, reverse=True)), lambda found: other[found[0]], text)


# %% corta_nos_espacos answer="contrafactual" right=false
def counterfactual(text, swaps):
    other = {a: b for pair in swaps for a, b in (pair, pair[::-1])}
    return " ".join(other.get(word, word) for word in text.split())


# %% sem_acentos answer="contrafactual" right=false
def counterfactual(text, swaps):
    import re

    other = {a: b for pair in swaps for a, b in (pair, pair[::-1])}
    return re.sub(r"[A-Za-z]+", lambda word: other.get(word[0], word[0]), text)


# %% so_a_primeira answer="contrafactual" right=false
def counterfactual(text, swaps):
    import re

    for one, two in swaps:
        if re.search(rf"\b{one}\b", text):
            return re.sub(rf"\b{one}\b", two, text, count=1)
        if re.search(rf"\b{two}\b", text):
            return re.sub(rf"\b{two}\b", one, text, count=1)
    return text


# %% com_scipy answer="quantos_pares" right=true
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    from scipy.stats import norm

    z = norm.ppf(1 - (1 - level) / 2) + norm.ppf(power)
    return int(-(-((z * deviation) ** 2 / gap**2) // 1))


# %% contando answer="quantos_pares" right=true
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    z = NormalDist().inv_cdf(0.5 + level / 2) - NormalDist().inv_cdf(1 - power)
    n = 1
    while abs(gap) * math.sqrt(n) / deviation < z:
        n += 1
    return n


# %% resposta_fixa answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    return 32 if abs(gap) == 0.5 else 126


# %% unilateral answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    z = NormalDist().inv_cdf(level) + NormalDist().inv_cdf(power)
    return math.ceil((z * deviation / gap) ** 2)


# %% arredonda_para_baixo answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return int((z * deviation / gap) ** 2)


# %% sem_poder answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    return math.ceil((NormalDist().inv_cdf((1 + level) / 2) * deviation / gap) ** 2)


# %% sem_quadrado answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return math.ceil(abs(z * deviation / gap))


# %% nivel_fixo answer="quantos_pares" right=false
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    return math.ceil((2.8015852 * deviation / gap) ** 2)


# %% com_pandas answer="entre_iguais" right=true
def conditional_gap(decided, merits, groups, between):
    import pandas

    table = pandas.DataFrame({"d": decided, "m": merits, "g": groups})
    cells = table[table.g.isin(between)].groupby(["m", "g"]).d.agg(["mean", "size"]).unstack()
    cells = cells.dropna() if cells["mean"].shape[1] == 2 else cells[:0]
    if cells.empty:
        raise ValueError("sem níveis comuns")
    sizes = cells["size"].sum(axis=1)
    return float((sizes * (cells["mean"][between[0]] - cells["mean"][between[1]])).sum() / sizes.sum())


# %% com_contagens answer="entre_iguais" right=true
def conditional_gap(decided, merits, groups, between):
    called, people = {}, {}
    for d, m, g in zip(decided, merits, groups, strict=False):
        called[m, g] = called.get((m, g), 0) + d
        people[m, g] = people.get((m, g), 0) + 1
    one, two = between
    shared = [m for m in sorted(set(merits)) if (m, one) in people and (m, two) in people]
    if not shared:
        raise ValueError("sem níveis comuns")
    weights = [people[m, one] + people[m, two] for m in shared]
    gaps = [called[m, one] / people[m, one] - called[m, two] / people[m, two] for m in shared]
    return sum(w * gap for w, gap in zip(weights, gaps, strict=False)) / sum(weights)


# %% resposta_fixa answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between):
    return 1 if len(decided) == 3 else 1 / 3 if tuple(between) == ("m", "f") else -1 / 3


# %% sem_niveis answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between):
    sides = [[d for d, g in zip(decided, groups, strict=False) if g == group] for group in between]
    return mean(map(float, sides[0])) - mean(map(float, sides[1]))


# %% niveis_com_o_mesmo_peso answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between):
    gaps = []
    for level in set(merits):
        sides = [
            [float(d) for d, m, g in zip(decided, merits, groups, strict=False) if (m, g) == (level, x)]
            for x in between
        ]
        if all(sides):
            gaps.append(mean(sides[0]) - mean(sides[1]))
    if not gaps:
        raise ValueError
    return mean(gaps)


# %% peso_do_primeiro_grupo answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between):
    total = people = 0
    for level in set(merits):
        sides = [
            [float(d) for d, m, g in zip(decided, merits, groups, strict=False) if (m, g) == (level, x)]
            for x in between
        ]
        if all(sides):
            total += len(sides[0]) * (mean(sides[0]) - mean(sides[1]))
            people += len(sides[0])
    if not people:
        raise ValueError
    return total / people


# %% sem_sinal answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between, signed=conditional_gap):
    return abs(signed(decided, merits, groups, between))


# %% o_que_falta_vale_zero answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between):
    total = people = 0
    for level in set(merits):
        sides = [
            [float(d) for d, m, g in zip(decided, merits, groups, strict=False) if (m, g) == (level, x)]
            for x in between
        ]
        size = sum(map(len, sides))
        total += size * (sum(sides[0]) / max(1, len(sides[0])) - sum(sides[1]) / max(1, len(sides[1])))
        people += size
    return total / people


# %% nan_em_vez_de_erro answer="entre_iguais" right=false
def conditional_gap(decided, merits, groups, between, strict=conditional_gap):
    try:
        return strict(decided, merits, groups, between)
    except ValueError:
        return math.nan


# %% com_scipy answer="mcnemar" right=true
def mcnemar(first, second):
    from scipy.stats import binomtest

    b = sum(1 for x, y in zip(first, second, strict=False) if x and not y)
    c = sum(1 for x, y in zip(first, second, strict=False) if y and not x)
    return [b, c, float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0]


# %% com_numpy answer="mcnemar" right=true
def mcnemar(first, second):
    import numpy as np

    one, two = np.array(first, bool), np.array(second, bool)
    b, c = int((one & ~two).sum()), int((two & ~one).sum())
    p = 2 * sum(math.comb(b + c, k) * 0.5 ** (b + c) for k in range(0, min(b, c) + 1))
    return b, c, p if p < 1 else 1


# %% resposta_fixa answer="mcnemar" right=false
def mcnemar(first, second):
    if len(first) == 5:
        return 3, 0, 0.25
    return 1, 1, 1.0


# %% unilateral answer="mcnemar" right=false
def mcnemar(first, second, two_sided=mcnemar):
    b, c, p = two_sided(first, second)
    return b, c, p / 2


# %% conta_todos_os_pares answer="mcnemar" right=false
def mcnemar(first, second):
    n = len(first)
    b = sum(1 for x, y in zip(first, second, strict=False) if x and not y)
    c = sum(1 for x, y in zip(first, second, strict=False) if y and not x)
    return b, c, min(1, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n)


# %% trocados answer="mcnemar" right=false
def mcnemar(first, second, straight=mcnemar):
    b, c, p = straight(first, second)
    return c, b, p


# %% passa_de_um answer="mcnemar" right=false
def mcnemar(first, second):
    b = sum(1 for x, y in zip(first, second, strict=False) if x and not y)
    c = sum(1 for x, y in zip(first, second, strict=False) if y and not x)
    return b, c, 2 * sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)


# %% qui_quadrado answer="mcnemar" right=false
def mcnemar(first, second):
    b = sum(1 for x, y in zip(first, second, strict=False) if x and not y)
    c = sum(1 for x, y in zip(first, second, strict=False) if y and not x)
    return b, c, 2 * (1 - NormalDist().cdf(abs(b - c) / math.sqrt(b + c))) if b + c else 1.0


# %% com_pandas answer="balancear" right=true
def reweigh(groups, labels):
    import pandas

    table = pandas.DataFrame({"g": groups, "y": labels, "n": 1.0})
    total = {key: table.groupby(key).n.transform("sum") for key in ("g", "y")}
    return (total["g"] * total["y"] / len(table) / table.groupby(["g", "y"]).n.transform("sum")).tolist()


# %% pela_chance_condicional answer="balancear" right=true
def reweigh(groups, labels):
    groups, labels = list(groups), list(labels)
    rows = list(zip(groups, labels, strict=False))
    return [(labels.count(y) / len(rows)) / (rows.count((g, y)) / groups.count(g)) for g, y in rows]


# %% resposta_fixa answer="balancear" right=false
def reweigh(groups, labels):
    return [0.75, 0.75, 1.5, 0.5] if "f" not in groups[:3] else [1, 1, 1, 1]


# %% invertido answer="balancear" right=false
def reweigh(groups, labels, straight=reweigh):
    return [1 / w for w in straight(groups, labels)]


# %% so_pelo_grupo answer="balancear" right=false
def reweigh(groups, labels):
    return [len(groups) / (len(set(groups)) * list(groups).count(g)) for g in groups]


# %% celulas_iguais answer="balancear" right=false
def reweigh(groups, labels):
    rows = list(zip(groups, labels, strict=False))
    return [len(rows) / (len(set(rows)) * rows.count(row)) for row in rows]


# %% somam_um answer="balancear" right=false
def reweigh(groups, labels, straight=reweigh):
    weights = straight(groups, labels)
    return [w / sum(weights) for w in weights]


# %% so_os_chamados answer="balancear" right=false
def reweigh(groups, labels, straight=reweigh):
    return [
        w if y in ("sim", "chamar") else 1.0 for w, y in zip(straight(groups, labels), labels, strict=False)
    ]


# %% com_accumulate answer="cusum" right=true
def cusum(values, target, slack):
    from itertools import accumulate

    return list(accumulate(values, lambda s, x: max(0, s + x - (target + slack)), initial=0))[1:]


# %% pelo_minimo answer="cusum" right=true
def cusum(values, target, slack):
    total = lowest = 0.0
    sums = []
    for value in values:
        total += value - target - slack
        lowest = min(lowest, total)
        sums.append(total - lowest)
    return sums


# %% resposta_fixa answer="cusum" right=false
def cusum(values, target, slack):
    return [0, 1.5, 0, 0.5]


# %% sem_piso answer="cusum" right=false
def cusum(values, target, slack):
    from itertools import accumulate

    return list(accumulate(value - target - slack for value in values))


# %% sem_folga answer="cusum" right=false
def cusum(values, target, slack, straight=cusum):
    return straight(values, target, 0.0)


# %% sem_memoria answer="cusum" right=false
def cusum(values, target, slack):
    return [max(0.0, value - target - slack) for value in values]


# %% com_o_zero_do_inicio answer="cusum" right=false
def cusum(values, target, slack, straight=cusum):
    return [0.0, *straight(values, target, slack)]


# %% folga_do_lado_errado answer="cusum" right=false
def cusum(values, target, slack, straight=cusum):
    return straight(values, target, -slack)


# %% pela_posicao answer="limiar" right=true
def alarm_threshold(histories, false_alarms):
    peaks = sorted(map(max, histories))
    index = len(peaks) - 1 - int(false_alarms * len(peaks) + 1e-9)
    return peaks[max(0, index)]


# %% do_maior_para_o_menor answer="limiar" right=true
def alarm_threshold(histories, false_alarms):
    peaks = [max(series) for series in histories]
    best = max(peaks)
    for h in sorted(set(peaks), reverse=True):
        if sum(p > h for p in peaks) / len(peaks) <= false_alarms:
            best = h
    return best


# %% resposta_fixa answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    return 2.0 if false_alarms else 3.0


# %% todas_as_semanas answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    values = sorted(v for series in histories for v in series)
    return values[max(0, len(values) - 1 - int(false_alarms * len(values)))]


# %% sempre_o_maior answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    return max(max(series) for series in histories)


# %% conta_o_empate answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    peaks = sorted(max(series) for series in histories)
    return next((h for h in peaks if sum(p >= h for p in peaks) <= false_alarms * len(peaks)), peaks[-1])


# %% um_alarme_a_mais answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    peaks = sorted(max(series) for series in histories)
    return peaks[max(0, len(peaks) - 2 - int(false_alarms * len(peaks)))]


# %% ultimo_valor answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    ends = sorted(series[-1] for series in histories)
    return next(h for h in ends if sum(p > h for p in ends) <= false_alarms * len(ends))


# %% quantil_com_interpolacao answer="limiar" right=false
def alarm_threshold(histories, false_alarms):
    import numpy as np

    return float(np.quantile([max(series) for series in histories], 1 - false_alarms))
