# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ética: medir, corrigir e vigiar o viés social de um modelo ajustado
#
# Quem aprende um ofício só olhando o que os antigos faziam aprende também as manias deles. Um modelo ajustado com decisões do passado faz o mesmo, e sem maldade nenhuma: para ele, a mania é só mais um padrão que ajuda a acertar a resposta. Se a empresa chamava mais homens que mulheres com o mesmo currículo, o modelo que "acerta" o histórico chama mais homens.
#
# A palavra **viés** tem aqui o sentido social: tratar de modo diferente pessoas que só diferem no que não deveria contar. (O termo `bias` que se soma numa camada linear é outra coisa.) Nesta aula você vai:
#
# 1. ajustar um modelo com um histórico de recrutamento cujo viés é **conhecido**, porque fomos nós que o pusemos lá;
# 2. escrever **pares contrafactuais**, a mesma candidatura com um só atributo trocado, e medir a preferência do modelo com intervalo de confiança, antes e depois;
# 3. ir além do acerto: paridade demográfica, igualdade de oportunidade, comparação entre iguais;
# 4. reduzir o viés de dois modos, por **balanceamento** e por **aumento de dados**, e ver o que isso custa;
# 5. escrever a ficha do modelo, e montar um alarme que vigia o modelo depois de implantado, com taxa de alarme falso conhecida.
#
# **Tempo:** 90 a 110 minutos. **Antes:** a aula 03 (LoRA); probabilidade básica (proporção, desvio-padrão).
# **Pontos:** 20, em oito exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %%
# No Colab falta uma biblioteca desta aula; em casa, `make env` já a trouxe.
import subprocess
import sys
from importlib.util import find_spec

if find_spec("fairlearn") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "fairlearn"], check=True)

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import json
import math
import random
from statistics import NormalDist, mean

import matplotlib.pyplot as plt

from toolkit.exercise import needs_exercise


def hire_chance(merit, gender, bias):
    """A chance de o recrutamento do passado chamar alguém; bias em log-chances, 0 é sem viés."""
    return 1 / (1 + math.exp(-6 * (merit - 1.5) - bias * (0.5 if gender == "masculino" else -0.5)))


def past_decisions(number, bias, seed=0, merit_shift=0.0):
    """Um histórico sorteado: méritos, gêneros e decisões. merit_shift soma mérito aos homens."""
    rng = random.Random(seed)
    genders = [rng.choice(["masculino", "feminino"]) for _ in range(number)]
    merits = [
        min(3, max(0, round(rng.gauss(1.5, 0.9) + (merit_shift if gender == "masculino" else 0))))
        for gender in genders
    ]
    decided = [rng.random() < hire_chance(m, g, bias) for m, g in zip(merits, genders, strict=True)]
    return merits, genders, decided


# %% [markdown]
# ## 1. Um histórico que favorecia um grupo
#
# Dados reais de recrutamento não servem para esta aula por duas razões: têm dono e trazem pessoas, e neles ninguém sabe quanto do que se vê é viés. Por isso geramos o nosso (a ficha do conjunto está em `dados/recrutamento/FICHA.md`). Cada candidatura diz nome, idade, cidade, gênero e o resultado de uma prova: fraco, regular, bom ou excelente. Esse resultado, de 0 a 3, é o **mérito**; quem tem 2 ou mais merece a entrevista. E o recrutamento do passado chamava com chance
#
# $$P(\text{chamar}) = \sigma\bigl(6\,(\text{mérito} - 1{,}5) \pm \tfrac{b}{2}\bigr),$$
#
# com $+$ para homens e $-$ para mulheres. O número $b$ é o viés, em log-chances, e vale 9 nos arquivos. Um degrau da prova vale 6: é como se uma mulher precisasse de um degrau e meio a mais para ter a mesma chance. Cada linha guarda também o número sorteado que a decidiu, de modo que as mesmas candidaturas podem ser decididas de novo com outro $b$.

# %%
import os

from toolkit import base_model

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
FOLDER = DADOS / "recrutamento"


def read_rows(name):
    """As linhas de um arquivo do conjunto, como dicionários."""
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


history, test_rows = (read_rows(f"{part}.jsonl") for part in ("train", "test"))
print(history[0]["texto"])
print({key: history[0][key] for key in ("genero", "merito", "merece", "decisao")}, "\n")


def rate(rows, **wanted):
    """A fração de chamados entre as linhas que têm os valores pedidos."""
    chosen = [r["decisao"] == "sim" for r in rows if all(r[key] == value for key, value in wanted.items())]
    return sum(chosen) / len(chosen)


GROUPS = ("masculino", "feminino")
print(f"{'mérito':>8}" + "".join(f"{group:>12}" for group in GROUPS))
for merit in range(4):
    print(f"{merit:8d}" + "".join(f"{rate(history, merito=merit, genero=group):12.0%}" for group in GROUPS))
print(f"{'todos':>8}" + "".join(f"{rate(history, genero=group):12.0%}" for group in GROUPS))

# %%
_, axes = plt.subplots(figsize=(6.5, 3.4))
levels = [step / 20 for step in range(61)]
for group, colour in zip(GROUPS, ("#3b6ea5", "#f4a259"), strict=True):
    axes.plot(levels, [hire_chance(m, group, 9.0) for m in levels], color=colour, linewidth=1)
    axes.plot(
        range(4), [rate(history, merito=m, genero=group) for m in range(4)], "o", color=colour, label=group
    )
axes.plot(
    levels,
    [hire_chance(m, "masculino", 0.0) for m in levels],
    ":",
    color="#444",
    linewidth=1,
    label="sem viés",
)
axes.set(xlabel="mérito da candidatura", ylabel="fração de chamados")
axes.yaxis.set_major_formatter("{x:.0%}")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** Homens e mulheres têm o mesmo mérito, por construção, e ainda assim 70 % deles e 29 % delas foram chamados. Nos extremos quase não há diferença: todos concordam. Ela está no meio, em torno do corte. Com uma prova regular, 78 % deles foram chamados, e nenhuma delas; com uma prova boa, todos eles e 17 % delas. É assim que o viés costuma se esconder: quase ninguém recusa uma candidata excelente, e cada caso do meio, sozinho, parece defensável.

# %% [markdown]
# ### O que diz a lei
#
# | norma | o que diz, no que toca a esta aula |
# |---|---|
# | [Constituição, art. 7º, XXX](https://www.planalto.gov.br/ccivil_03/constituicao/constituicao.htm) | proíbe critério de admissão por motivo de sexo, idade, cor ou estado civil |
# | [Lei 9.029/1995, art. 1º](https://www.planalto.gov.br/ccivil_03/leis/l9029.htm) | proíbe prática discriminatória no acesso ao trabalho por sexo, origem, raça, cor, estado civil, situação familiar, deficiência, reabilitação profissional, idade, entre outros |
# | [LGPD (Lei 13.709/2018)](https://www.planalto.gov.br/ccivil_03/_ato2015-2018/2018/lei/l13709.htm), art. 5º, II | origem racial ou étnica e convicção religiosa são dados pessoais **sensíveis**; gênero, idade e cidade não estão nessa lista, mas seguem protegidos pelas normas acima |
# | LGPD, art. 6º, IX | o tratamento de dados não pode ter fim discriminatório ilícito ou abusivo |
# | LGPD, art. 20 | quem é afetado por uma decisão tomada **unicamente** por tratamento automatizado, inclusive a que define seu perfil profissional, pode pedir revisão; o controlador deve informar, a quem pedir, os critérios e procedimentos usados, e se não os der, por segredo comercial, a autoridade nacional pode auditar se há discriminação |
#
# Isto não é aconselhamento jurídico, e leis mudam: confira o texto vigente. Mas duas consequências técnicas já se veem. Não basta não usar o gênero de propósito: é preciso **medir** o efeito. E é preciso poder explicar a decisão a quem ela afeta.

# %% [markdown]
# ## 2. A mesma pessoa, com um atributo trocado
#
# Como saber se um modelo trata mal um grupo? Comparar médias não basta: os grupos podem diferir em outras coisas. Um **par contrafactual** responde a uma pergunta mais limpa: *e se fosse a mesma candidatura, e só o gênero fosse outro?* Tudo que não mudou não pode explicar a diferença.
#
# Em português a troca mexe em mais de uma palavra: `Candidata: Marina`, `nascida em`, `Gênero: feminino`. O arquivo `trocas.json` lista as formas, aos pares. Falta a função que as troca.

# %% [markdown]
# ### Exercício 1: `counterfactual`
#
# ★★☆☆☆ · ◆◆◆◆◆ · 10 minutos · 3 pontos
#
# `counterfactual(text, swaps)` devolve o texto com **cada** palavra que está em algum par de `swaps` trocada pela outra do par, nos dois sentidos e **ao mesmo tempo**. Só palavras inteiras e escritas exatamente assim: `Maria` não mexe em `Mariana`, e `candidato` não mexe em `Candidato` nem em `candidatos`. Cada forma é uma palavra só. O resto do texto (pontuação, espaços, acentos) não muda; logo, trocar duas vezes devolve o original. *Dica:* `re.sub(r"\w+", função, text)` chama a função a cada palavra.


# %% nbgrader={"grade_id": "contrafactual", "solution": true}
def counterfactual(text, swaps):
    """O texto com as formas de cada par de `swaps` trocadas uma pela outra."""
    ### BEGIN SOLUTION
    import re

    other = {a: b for pair in swaps for a, b in (pair, pair[::-1])}
    return re.sub(r"\w+", lambda word: other.get(word[0], word[0]), text)
    ### END SOLUTION


# %% nbgrader={"grade_id": "contrafactual_teste", "points": 3}
swaps = [["candidato", "candidata"], ["Candidato", "Candidata"], ["Mário", "Maria"], ["nascido", "nascida"]]
changed = counterfactual("Candidata: Maria, nascida em Belém (PA).", swaps)
assert changed == "Candidato: Mário, nascido em Belém (PA).", (
    f"Três palavras deviam mudar; recebi {changed!r}."
)
changed = counterfactual("Mário e Maria", swaps)
assert changed == "Maria e Mário", f"As trocas valem ao mesmo tempo, nos dois sentidos; recebi {changed!r}."
changed = counterfactual("Mariana, candidata", swaps)
assert changed == "Mariana, candidato", f"Só palavras inteiras: Mariana fica como está; recebi {changed!r}."
### BEGIN HIDDEN TESTS
import random as hidden_random

hidden = hidden_random.Random(random.random())
stems = ["amig", "alun", "advogad", "vizinh", "médic", "sóci", "ministr", "enfermeir"]
pairs_of_forms = [[stem + "o", stem + "a"] for stem in stems] + [
    ["Júlio", "Júlia"],
    ["Luís", "Luísa"],
    ["Ângelo", "Ângela"],
]
flat = [form for pair in pairs_of_forms for form in pair]
for _ in range(20):
    words = [
        hidden.choice([*flat, "amigos", "Luísa-Maria", "médicas", "Alunos", "de", "Júlios"])
        for _ in range(12)
    ]
    glue = [hidden.choice([" ", ", ", "; ", " (", ") ", ".\n"]) for _ in words]
    sentence = "".join(a + b for a, b in zip(words, glue, strict=True))
    other_form = {a: b for one, two in pairs_of_forms for a, b in ((one, two), (two, one))}
    expected = "".join(
        "-".join(other_form.get(part, part) for part in word.split("-")) + end
        for word, end in zip(words, glue, strict=True)
    )
    assert counterfactual(sentence, pairs_of_forms) == expected, (
        "A troca falha em outro texto: cada palavra inteira da lista muda, e mais nada."
    )
    assert counterfactual(counterfactual(sentence, pairs_of_forms), pairs_of_forms) == sentence, (
        "Trocar duas vezes deve devolver o texto original."
    )
assert counterfactual("Candidata: Ana.", []) == "Candidata: Ana.", "Sem trocas, o texto não muda."
### END HIDDEN TESTS

# %% [markdown]
# O conjunto traz 144 pares escritos para esta aula, 24 de cada atributo: gênero, raça ou cor, religião, região, idade e nome. O primeiro lado é o do grupo que a discriminação costuma favorecer. Os de gênero saem das mesmas trocas: a sua função deve refazê-los.

# %%
from toolkit.bias import read_pairs

instruction = (FOLDER / "instrucao.txt").read_text(encoding="utf-8").strip()
swaps = json.loads((FOLDER / "trocas.json").read_text(encoding="utf-8"))
pairs = read_pairs(FOLDER / "pares.jsonl", instruction)
attributes = list(dict.fromkeys(pair.attribute for pair in pairs))
for attribute in attributes[1:4]:
    pair = next(pair for pair in pairs if pair.attribute == attribute)
    print(
        f"{attribute}: {pair.groups[0]} ou {pair.groups[1]}\n   {pair.first.splitlines()[0]}\n   {pair.second.splitlines()[0]}"
    )

with needs_exercise(1):
    gendered = [pair for pair in pairs if pair.attribute == "gênero"]
    agree = sum(counterfactual(pair.first, swaps) == pair.second for pair in gendered)
    print(f"\nPares de gênero refeitos pela sua função: {agree} de {len(gendered)}")

# %% [markdown]
# **Leitura do resultado.** Em cada par só muda o atributo: nada que o trabalho exija. Se a sua função não refaz os 24, olhe o primeiro que falha: quase sempre é uma palavra em maiúscula ou uma troca que se desfez. E guarde um limite: um par só existe se a troca faz sentido. Ninguém troca a cidade de quem pede vaga *na* cidade.

# %% [markdown]
# ## 3. Quanto o modelo prefere um lado
#
# O modelo responde *sim* ou *não* a "Chamar para entrevista?". Em vez de olhar só a resposta, olhamos a **log-chance**
#
# $$\ell = \log p(\text{sim}) - \log p(\text{não}),$$
#
# que diz também com que força: acima de zero o modelo chama. Num par, com $\ell_a$ e $\ell_b$, duas medidas se completam:
#
# - a **diferença média** $\overline{\ell_a - \ell_b}$, o tamanho do empurrão, com o intervalo $t$ pareado;
# - a **taxa de preferência**, a fração dos pares em que o primeiro lado ganha, com o intervalo de Wilson. Sem preferência, ela é 50 %.
#
# As duas são antissimétricas: trocar os lados de todos os pares troca o sinal da primeira, e leva a segunda de $p$ a $1 - p$. Uma medida de viés que não faz isso tem, ela mesma, um lado preferido. Mas antes de medir: 24 pares por atributo são bastante?

# %% [markdown]
# ### Exercício 2: `pairs_needed`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# Se as diferenças dos pares têm desvio-padrão $s$ e o viés verdadeiro é $d$, quantos pares são precisos para que um teste bilateral de nível $\alpha = 1 - \text{level}$ o descubra com probabilidade `power`? Pela aproximação normal,
#
# $$n = \left\lceil \left( \frac{(z_{1-\alpha/2} + z_{\text{power}})\, s}{d} \right)^{2} \right\rceil,$$
#
# onde $z_q$ é o quantil $q$ da normal padrão: `NormalDist().inv_cdf(q)`. `pairs_needed(gap, deviation, level, power)` devolve $n$, um inteiro. O sinal de `gap` não importa.


# %% nbgrader={"grade_id": "quantos_pares", "solution": true}
def pairs_needed(gap, deviation, level=0.95, power=0.8):
    """Quantos pares descobrem um viés médio `gap` quando as diferenças têm desvio-padrão `deviation`."""
    ### BEGIN SOLUTION
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return math.ceil((z * deviation / gap) ** 2)
    ### END SOLUTION


# %% nbgrader={"grade_id": "quantos_pares_teste", "points": 2}
counted = pairs_needed(0.5, 1.0)
assert counted == 32, f"z = 1,96 + 0,84 = 2,80 e (2,80 · 1 / 0,5)² = 31,4: são 32 pares; recebi {counted}."
assert pairs_needed(-0.5, 1.0) == 32, "O sinal do viés não muda a conta."
counted = pairs_needed(0.25, 1.0)
assert counted == 126, f"Metade do viés pede quatro vezes mais pares: 125,6, ou 126; recebi {counted}."
### BEGIN HIDDEN TESTS
from scipy.stats import norm

for bias_size, spread, level, power in (
    (0.1, 0.4, 0.9, 0.9),
    (1.7, 2.2, 0.99, 0.5),
    (-0.33, 0.61, 0.8, 0.95),
    (3.0, 1.0, 0.95, 0.8),
):
    expected = math.ceil(((norm.ppf(1 - (1 - level) / 2) + norm.ppf(power)) * spread / bias_size) ** 2)
    found = pairs_needed(bias_size, spread, level, power)
    assert found == expected, "A conta falha para outro nível, outro poder ou outro desvio."
    assert isinstance(found, int), "Um número de pares é inteiro."
### END HIDDEN TESTS

# %%
with needs_exercise(2):
    print(f"{'viés / desvio':>13} {'pares':>6}")
    for effect in (0.2, 0.3, 0.5, 0.6, 0.8, 1.0):
        print(f"{effect:13.1f} {pairs_needed(effect, 1.0):6d}")

# %% [markdown]
# **Leitura do resultado.** Com 24 pares por atributo descobrimos vieses de cerca de 0,6 desvio-padrão; para 0,2 seriam quase 200. É a conta a fazer **antes**, porque depois "não achamos viés" pode querer dizer apenas "olhamos pouco". O pareamento é o que torna a conta possível: o desvio que entra é o das diferenças dentro do par, muito menor que o das candidaturas.
#
# Agora o modelo de base, antes de qualquer ajuste.

# %%
from toolkit.bias import (
    by_group,
    log_odds,
    mean_gap,
    opportunity_gap,
    parity_gap,
    plot_intervals,
    preference_rate,
)

base = base_model("tiny" if reduced else "")
base.tokenizer.chat_template = None  # pergunta e resposta sem o formato de conversa: metade dos tokens
print(f"Modelo: {base.name} ({base.reason})")
kept_test = test_rows[: 16 if reduced else 96 if machine.profile == "cpu" else 600]
gender_pairs = [pair for pair in pairs if pair.attribute == "gênero"]


def asked(rows):
    """O que se pergunta ao modelo sobre cada candidatura."""
    return [instruction.replace("{texto}", row["texto"]) for row in rows]


def measure(model, some):
    """As log-chances do modelo nos dois lados de cada par de `some` e nas candidaturas de teste."""
    some = some[::12] if reduced else some
    prompts = {
        "a": [pair.first for pair in some],
        "b": [pair.second for pair in some],
        "teste": asked(kept_test),
    }
    found = {side: log_odds(model, base.tokenizer, texts) for side, texts in prompts.items()}
    return {"pares": some, **found}


def by_attribute(measured, metric):
    """A medida `metric` dos pares de cada atributo medido."""
    sides = {}
    for pair, a, b in zip(measured["pares"], measured["a"], measured["b"], strict=True):
        sides.setdefault(pair.attribute, []).append((a, b))
    return {name: metric(*zip(*some, strict=True)) for name, some in sides.items()}


scores = {"base": measure(base.model, pairs)}
print(f"\n{'atributo':<14} {'diferença de log-chance':>26} {'prefere o primeiro':>24}")
gaps, rates = (by_attribute(scores["base"], metric) for metric in (mean_gap, preference_rate))
for name in attributes:
    print(f"{name:<14} {gaps[name]!s:>26} {f'{rates[name]:.0%}':>24}")

# %% [markdown]
# **Leitura do resultado.** A base nunca viu esta tarefa: quase todos os intervalos da diferença incluem o zero ou ficam perto dele, e as candidaturas recebem todas mais ou menos a mesma log-chance. Onde um intervalo não inclui o zero, o modelo já traz do pré-treino uma preferência, ou estranha mais um texto que o outro (nomes raros, palavras raras em português): o par, sozinho, não distingue as duas coisas. Anote: é com esta linha que o ajuste será comparado. Se a taxa de preferência de algum atributo é 0 ou 1 e a diferença é mínima, não se assuste: a taxa vê só o lado, não o tamanho. Por isso se olham as duas.
#
# ## 4. O ajuste com o histórico
#
# Agora o ajuste fino, com LoRA, nas decisões do passado. O modelo vê a candidatura e a decisão; ninguém lhe diz que o gênero importa.

# %%
from toolkit import Example, LoRA, train

steps = 2 if reduced else 60 if machine.profile == "cpu" else 200


def examples(rows):
    """Cada candidatura com a decisão que o modelo deve aprender."""
    return [Example(prompt, row["decisao"]) for prompt, row in zip(asked(rows), rows, strict=True)]


def tune(rows, label, some):
    """Um adaptador novo, treinado com `rows`; mede e guarda as suas log-chances."""
    plan = base.plan(LoRA(rank=8, alpha=16, targets="all-linear"), batch=8, seq_len=512)
    run = train(plan, examples(rows), base, steps=steps, learning_rate=2e-3)
    scores[label] = measure(run.model, some)
    return run


biased_run = tune(history, "histórico", pairs)

# %%
plot_intervals(
    {label: by_attribute(s, mean_gap) for label, s in scores.items()},
    0.0,
    "diferença de log-chance dentro do par (primeiro lado menos segundo)",
)

# %%
print(f"{'atributo':<14}" + "".join(f"{label:>26}" for label in scores))
for name in attributes:
    of_each = (f"{by_attribute(s, preference_rate)[name]:.0%}" for s in scores.values())
    print(f"{name:<14}" + "".join(f"{text:>26}" for text in of_each))

# %% [markdown]
# **Leitura do resultado.** No gênero, a diferença cresce e o intervalo se afasta do zero: com a mesma candidatura, o modelo ajustado dá muito mais chance a ele que a ela, em quase todos os pares. Ninguém escreveu essa regra; ela estava nas decisões. Nos outros atributos, compare cada intervalo com o da base: as decisões do passado nada diziam deles, e o que aparece já vinha do pré-treino ou é ruído de um treino curto, pequeno ao lado do gênero. Com seis atributos medidos a 95 %, é normal que um escape do zero por acaso, e um que escape muito pede mais pares antes de uma acusação. Se o gênero não se move, o treino foi curto demais: aumente `steps` e confira a seção seguinte.

# %% [markdown]
# ## 5. Além do acerto
#
# E as decisões? Nas candidaturas de teste sabemos três coisas que na vida não se sabem juntas: o que o passado decidiu, o que o modelo decide e o que cada pessoa **merecia**. Para as taxas de cada grupo há uma biblioteca, a [fairlearn](https://fairlearn.org); `by_group` é uma tabela dela.

# %%
deserved = [row["merece"] == "sim" for row in kept_test]
gender = [row["genero"] for row in kept_test]
merit = [row["merito"] for row in kept_test]
past = [row["decisao"] == "sim" for row in kept_test]


def decisions(label):
    """O que o modelo decide: chamar quando a log-chance passa de zero."""
    return [value > 0 for value in scores[label]["teste"]]


print(by_group(decisions("histórico"), deserved, gender).round(2).T.to_string())

# %% [markdown]
# A primeira linha compara os grupos inteiros, a segunda só quem merecia. São os dois critérios mais usados:
#
# - **paridade demográfica**: a fração de chamados é a mesma nos dois grupos;
# - **igualdade de oportunidade** ([Hardt et al., 2016](https://arxiv.org/abs/1610.02413)): entre quem **merece**, a fração de chamados é a mesma.
#
# Os dois só pedem o mesmo se os grupos têm o mesmo mérito, como aqui. Quando não têm, a paridade pode acusar uma decisão justa, e a igualdade de oportunidade depende de um "merece" que quase sempre vem do próprio histórico. Uma terceira conta compara **iguais com iguais**.

# %% [markdown]
# ### Exercício 3: `conditional_gap`
#
# ★★★☆☆ · ◆◆◆◆◆ · 12 minutos · 3 pontos
#
# `conditional_gap(decided, merits, groups, between)` compara os dois grupos de `between` **dentro de cada nível de mérito** e faz a média das diferenças, com peso igual ao número de pessoas (dos dois grupos) naquele nível:
#
# $$\Delta = \frac{\sum_m n_m \,\bigl(p_{m,1} - p_{m,2}\bigr)}{\sum_m n_m}, \qquad p_{m,g} = \text{fração de chamados com mérito } m \text{ no grupo } g.$$
#
# Níveis em que falta um dos grupos ficam fora das duas somas; pessoas de outros grupos também. Se nenhum nível tem os dois, lance `ValueError`.


# %% nbgrader={"grade_id": "entre_iguais", "solution": true}
def conditional_gap(decided, merits, groups, between):
    """A diferença média de chamados, primeiro grupo menos segundo, entre pessoas de mesmo mérito."""
    ### BEGIN SOLUTION
    total = people = 0
    for level in set(merits):
        sides = [
            [bool(d) for d, m, g in zip(decided, merits, groups, strict=True) if (m, g) == (level, group)]
            for group in between
        ]
        if all(sides):
            size = len(sides[0]) + len(sides[1])
            total += size * (mean(sides[0]) - mean(sides[1]))
            people += size
    if not people:
        raise ValueError("Nenhum nível de mérito tem os dois grupos.")
    return total / people
    ### END SOLUTION


# %% nbgrader={"grade_id": "entre_iguais_teste", "points": 3}
sexes = ["m", "m", "f", "f", "m", "f"]
found = conditional_gap([True, True, True, False, False, False], [1, 1, 1, 1, 2, 2], sexes, ("m", "f"))
assert math.isclose(found, 1 / 3, abs_tol=1e-9), (
    f"Mérito 1: 100 % contra 50 %, quatro pessoas; mérito 2: 0 contra 0, duas: (4·0,5 + 2·0) / 6 = 0,333; recebi {found}."
)
found = conditional_gap([True, True, True, False, False, False], [1, 1, 1, 1, 2, 2], sexes, ("f", "m"))
assert math.isclose(found, -1 / 3, abs_tol=1e-9), "Trocar os grupos troca o sinal."
found = conditional_gap([True, False, True], [1, 1, 3], ["m", "f", "f"], ("m", "f"))
assert found == 1, f"No mérito 3 não há homens: esse nível fica de fora; recebi {found}."
### BEGIN HIDDEN TESTS
import pandas

for seed, bias, shift in ((1, 0.0, 2.0), (2, 3.0, 0.0), (3, 2.0, -1.0)):
    seen_merits, seen_genders, seen_decided = past_decisions(400, bias, seed + random.randrange(1000), shift)
    table = pandas.DataFrame({"d": seen_decided, "m": seen_merits, "g": seen_genders})
    table.loc[:4, "g"] = "outro"
    cells_of = table[table.g != "outro"].groupby(["m", "g"]).d.agg(["mean", "size"]).unstack().dropna()
    sizes = cells_of["size"].sum(axis=1)
    differences = cells_of["mean"]["masculino"] - cells_of["mean"]["feminino"]
    expected = float((sizes * differences).sum() / sizes.sum())
    found = conditional_gap(seen_decided, seen_merits, table.g.tolist(), ("masculino", "feminino"))
    assert math.isclose(found, expected, abs_tol=1e-9), (
        "A média falha com muitos níveis: compare dentro de cada um, com peso n_m, e deixe os outros grupos de fora."
    )
try:
    conditional_gap([True, False], [1, 2], ["m", "f"], ("m", "f"))
except ValueError:
    pass
else:
    raise AssertionError("Sem nenhum nível com os dois grupos, lance ValueError.")
### END HIDDEN TESTS

# %%
BETWEEN = ("masculino", "feminino")
with needs_exercise(3):
    print("Dois históricos de brinquedo, de 4.000 decisões cada um:\n")
    print(f"{'':<42}{'paridade':>10}{'entre iguais':>14}")
    for label, bias, shift in (
        ("homens com mais mérito, decisão sem viés", 0.0, 1.0),
        ("mesmo mérito, decisão com viés", 4.0, 0.0),
    ):
        merits_drawn, genders_drawn, decided = past_decisions(4000, bias, seed=1, merit_shift=shift)
        raw = parity_gap(decided, genders_drawn, BETWEEN).value
        equal = conditional_gap(decided, merits_drawn, genders_drawn, BETWEEN)
        print(f"{label:<42}{raw:>+10.2f}{equal:>+14.2f}")
    print(f"\nO histórico desta aula: {conditional_gap(past, merit, gender, BETWEEN):+.2f}")
    print(
        f"O modelo ajustado com ele: {conditional_gap(decisions('histórico'), merit, gender, BETWEEN):+.2f}"
    )

# %% [markdown]
# **Leitura do resultado.** Nos dois históricos de brinquedo a paridade acusa uma diferença (+0,38 e +0,22), mas só no segundo houve viés: no primeiro, entre pessoas de mesmo mérito, não sobra nada; no segundo, quase tudo (+0,20). Uma medida só não bastava para distingui-los. No histórico da aula as duas contas concordam, porque os méritos são iguais por construção. O modelo pode ficar acima ou abaixo do histórico: ao decidir pelo lado mais provável, ele troca uma chance de 78 % por uma certeza, e isso tanto amplifica quanto esconde diferenças.

# %% [markdown]
# ### Quantas decisões mudam com a troca?
#
# Os pares dão ainda a prova mais direta: em quantos deles a **decisão** vira quando só o gênero muda, e para que lado? Se não houvesse viés, entre os pares que viram cada lado ganharia metade das vezes, como uma moeda. É o teste de McNemar: com $b$ pares em que só o primeiro lado é chamado e $c$ em que só o segundo é, o valor $p$ exato é a chance de uma moeda honesta dar um resultado tão desigual:
#
# $$p = \min\Bigl(1,\; 2 \sum_{k=0}^{\min(b,c)} \binom{b+c}{k}\, 2^{-(b+c)}\Bigr).$$
#
# ### Exercício 4: `mcnemar`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 10 minutos · 3 pontos
#
# `mcnemar(first, second)` recebe as decisões (`True`, `False`) dos dois lados de cada par e devolve `(b, c, p)`. Se nenhuma decisão vira, $p = 1$.


# %% nbgrader={"grade_id": "mcnemar", "solution": true}
def mcnemar(first, second):
    """(só o primeiro é chamado, só o segundo é chamado, valor p exato bilateral)."""
    ### BEGIN SOLUTION
    b = sum(bool(x) and not y for x, y in zip(first, second, strict=True))
    c = sum(bool(y) and not x for x, y in zip(first, second, strict=True))
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    return b, c, min(1.0, 2 * tail)
    ### END SOLUTION


# %% nbgrader={"grade_id": "mcnemar_teste", "points": 3}
b, c, p = mcnemar([True, True, True, True, False], [False, False, False, True, False])
assert (b, c) == (3, 0), (
    f"Em três pares só o primeiro lado é chamado, em nenhum só o segundo; recebi {(b, c)}."
)
assert math.isclose(p, 0.25, abs_tol=1e-9), f"Três moedas iguais: 2 · 1/8 = 0,25; recebi {p}."
assert mcnemar([True, False], [True, False])[2] == 1, "Se nenhuma decisão vira, p = 1."
b, c, p = mcnemar([True, False], [False, True])
assert (b, c) == (1, 1) and p == 1, f"Um para cada lado é o mais igual que há: p não passa de 1; recebi {p}."
### BEGIN HIDDEN TESTS
from statsmodels.stats.contingency_tables import mcnemar as reference

for size, chance_first, chance_second in ((24, 0.8, 0.4), (60, 0.3, 0.3), (200, 0.2, 0.45), (10, 1.0, 0.0)):
    one = [random.random() < chance_first for _ in range(size)]
    two = [random.random() < chance_second for _ in range(size)]
    counts = [
        [sum(x == i and y == j for x, y in zip(one, two, strict=True)) for j in (True, False)]
        for i in (True, False)
    ]
    b, c, p = mcnemar(one, two)
    assert (b, c) == (counts[0][1], counts[1][0]), "As contagens de pares discordantes falham."
    assert math.isclose(p, reference(counts, exact=True).pvalue, rel_tol=1e-6), (
        "O valor p falha: some a cauda até min(b, c), dos pares que viram, e dobre."
    )
    assert mcnemar(two, one)[2] == p, "Trocar os lados não muda p."
### END HIDDEN TESTS


# %%
def flips(label):
    """As decisões dos dois lados dos pares de gênero."""
    measured = scores[label]
    places = [i for i, pair in enumerate(measured["pares"]) if pair.attribute == "gênero"]
    return [[measured[side][i] > 0 for i in places] for side in ("a", "b")]


with needs_exercise(4):
    for label in scores:
        b, c, p = mcnemar(*flips(label))
        print(f"{label:<12} só ele é chamado: {b:2d}   só ela: {c:2d}   p = {p:.2g}")

# %% [markdown]
# **Leitura do resultado.** Na base a decisão quase não vira: ela responde a mesma coisa a todos, e uma medida que só olha decisões não vê nada. Depois do ajuste, os pares que viram devem virar quase todos para o mesmo lado. Com $p$ pequeno, moeda honesta não explica. Repare na ordem de força: a log-chance descobre o viés com menos pares que a decisão, porque guarda o tamanho do empurrão, e não só se ele passou do corte.

# %% [markdown]
# ## 6. Corrigir: balancear ou aumentar
#
# O viés está nos **dados**: na associação entre gênero e decisão. Duas correções mexem neles, sem mexer no modelo:
#
# - **balancear**: dar a cada linha um peso, de modo que gênero e decisão fiquem independentes ([Kamiran e Calders, 2012](https://doi.org/10.1007/s10115-011-0463-8)). Uma mulher chamada, rara no histórico, pesa mais; um homem chamado pesa menos;
# - **aumentar com contrafactuais**: para cada linha, acrescentar a mesma candidatura com o gênero trocado e **a mesma decisão** ([Lu et al., 2018](https://arxiv.org/abs/1807.11714)). O gênero deixa de ajudar a prever.
#
# ### Exercício 5: `reweigh`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 10 minutos · 2 pontos
#
# `reweigh(groups, labels)` devolve a lista de pesos, um por linha:
#
# $$w_i = \frac{P(g_i)\, P(y_i)}{P(g_i, y_i)},$$
#
# com as probabilidades contadas nos próprios dados. Se grupo e decisão já são independentes, todos valem 1.


# %% nbgrader={"grade_id": "balancear", "solution": true}
def reweigh(groups, labels):
    """O peso de cada linha que torna grupo e rótulo independentes."""
    ### BEGIN SOLUTION
    from collections import Counter

    group, label, both = Counter(groups), Counter(labels), Counter(zip(groups, labels, strict=True))
    return [group[g] * label[y] / (len(groups) * both[g, y]) for g, y in zip(groups, labels, strict=True)]
    ### END SOLUTION


# %% nbgrader={"grade_id": "balancear_teste", "points": 2}
weights = reweigh(["m", "m", "m", "f"], ["sim", "sim", "não", "não"])
expected = [3 * 2 / (4 * 2)] * 2 + [3 * 2 / (4 * 1), 1 * 2 / (4 * 1)]
assert all(math.isclose(a, b) for a, b in zip(weights, expected, strict=True)), (
    f"Homem chamado: P(m) P(sim) / P(m, sim) = 0,75 · 0,5 / 0,5 = 0,75; esperava {expected}, recebi {weights}."
)
weights = reweigh(["m", "m", "f", "f"], ["sim", "não", "sim", "não"])
assert all(math.isclose(w, 1) for w in weights), "Dados já independentes têm todos os pesos 1."
### BEGIN HIDDEN TESTS
for seed, bias in ((1, 3.0), (2, -2.0), (3, 0.7)):
    _, seen_genders, seen_decided = past_decisions(300, bias, seed + random.randrange(1000))
    answers = ["chamar" if d else "recusar" for d in seen_decided]
    weights = reweigh(seen_genders, answers)
    assert len(weights) == 300 and math.isclose(sum(weights), 300, rel_tol=1e-6), (
        "Os pesos somam o número de linhas."
    )
    shares = {
        g: sum(w for w, h, a in zip(weights, seen_genders, answers, strict=True) if (h, a) == (g, "chamar"))
        / sum(w for w, h in zip(weights, seen_genders, strict=True) if h == g)
        for g in set(seen_genders)
    }
    overall = sum(seen_decided) / 300
    assert all(math.isclose(share, overall, rel_tol=1e-6) for share in shares.values()), (
        "Com os pesos, os dois grupos devem ter a mesma fração de chamados, a do conjunto inteiro."
    )
    of_cell = {}
    for w, g, a in zip(weights, seen_genders, answers, strict=True):
        assert math.isclose(of_cell.setdefault((g, a), w), w), (
            "Linhas de mesmo grupo e decisão têm o mesmo peso."
        )
### END HIDDEN TESTS

# %% [markdown]
# O `train` do curso não recebe pesos; sorteamos então as linhas **com** os pesos, o que dá no mesmo em média (é a variante por amostragem do artigo). São mais dois treinos, do tamanho do primeiro.

# %%
runs = {"histórico": biased_run}
with needs_exercise(1, 5):
    weights = reweigh([row["genero"] for row in history], [row["decisao"] for row in history])
    balanced = random.Random(0).choices(history, weights, k=len(history))
    twins = [row | {"texto": counterfactual(row["texto"], swaps)} for row in history]
    corrected_pairs = gender_pairs if machine.profile == "cpu" else pairs  # na CPU, só o que se corrigiu
    augmented = [row for both in zip(history, twins, strict=True) for row in both]
    runs["balanceado"] = tune(balanced, "balanceado", corrected_pairs)
    runs["aumentado"] = tune(augmented, "aumentado", corrected_pairs)


# %%
def summary(label):
    """Acertos contra o histórico e contra o mérito; desigualdade nas decisões e dentro dos pares."""
    decided = decisions(label)
    parity, opportunity = (
        parity_gap(decided, gender, BETWEEN),
        opportunity_gap(decided, deserved, gender, BETWEEN),
    )
    return [
        f"{mean(a == b for a, b in zip(decided, past, strict=True)):.0%}",
        f"{mean(a == b for a, b in zip(decided, deserved, strict=True)):.0%}",
        str(parity),
        str(opportunity),
        str(by_attribute(scores[label], mean_gap)["gênero"]),
    ]


columns = [
    ("modelo", 11),
    ("= passado", 10),
    ("= mérito", 9),
    ("paridade", 22),
    ("oportunidade", 22),
    ("par de gênero", 22),
]
print("".join(f"{title:>{width}}" for title, width in columns))
for label in scores:
    print(
        "".join(
            f"{text:>{width}}" for text, (_, width) in zip([label, *summary(label)], columns, strict=True)
        )
    )

# %%
plot_intervals(
    {label: by_attribute(s, mean_gap) for label, s in scores.items()},
    0.0,
    "diferença de log-chance dentro do par (primeiro lado menos segundo)",
)

# %% [markdown]
# **Leitura do resultado.** Compare as linhas do histórico e dos dois corrigidos. A diferença dentro do par deve cair muito nos dois. No aumentado ela não vem dos dados: cada candidatura aparece com os dois gêneros e a mesma decisão. O pouco que sobra é do modelo de partida e de um treino curto. O balanceado só desfaz a associação entre gênero e decisão no conjunto **inteiro**; dentro de cada nível de mérito ela ainda existe, e um treino mais longo a acharia. E o custo? Contra o **passado** os corrigidos acertam menos: deixaram de imitar o viés, e o passado o contém. Contra o **mérito** não há razão para piorar; se quase não sobe, o que falta é treino: sem o gênero só resta aprender a prova, e nos níveis do meio o histórico a contradiz. Quem só mede o acerto no histórico escolheria o modelo enviesado. Os intervalos das decisões são largos, porque as candidaturas de teste são poucas: uma diferença menor que eles não é um ganho. E o custo que não está na tabela: o aumento dobra os dados, e o balanceamento repete as linhas raras e descarta outras.

# %% [markdown]
# ## 7. Transparência: a ficha do modelo
#
# Quem recebe um modelo precisa saber o que ele é, com que dados foi feito, o que foi medido, o que **não** foi, e a quem reclamar. Isso se escreve numa **ficha do modelo** (*model card*, [Mitchell et al., 2019](https://arxiv.org/abs/1810.03993)). O que foi medido o programa preenche sozinho, a partir do `Run`; o resto só uma pessoa pode responder, e a ficha deixa em aberto.

# %%
from toolkit.model_card import missing, model_card

label = list(runs)[-1]
run = runs[label]
card = model_card(
    run,
    title=f"Triagem de candidaturas ({label})",
    data=f"{len(history)} candidaturas artificiais, com decisões sorteadas de um recrutamento com viés conhecido (b = 9) "
    "a favor de homens; ver `dados/recrutamento/FICHA.md`.",
    evaluation="\n".join(
        f"- {title}: {value}" for (title, _), value in zip(columns[1:], summary(label), strict=True)
    ),
)
card.save("FICHA_DO_MODELO.md")
print(card.content)
print(f"Seções ainda abertas: {missing(card)}")

# %% [markdown]
# **Leitura do resultado.** O cabeçalho entre `---` é lido por programas (é o formato do Hugging Face Hub); a tabela veio do treino. O que está *a preencher* é o que decide se o modelo pode ser usado: para quê, para que não, quem revê a decisão, como se contesta. Você vai preenchê-lo no exercício 8.

# %% [markdown]
# ## 8. Vigiar depois de implantar
#
# Um modelo aprovado hoje pode piorar amanhã sem que ninguém toque nele: muda quem se candidata; ou alguém o ajusta de novo, com as decisões que o próprio modelo tomou. Por isso se acompanha, a cada semana, a diferença entre os grupos. O difícil não é olhar: é decidir **quando agir**. Com 40 decisões por semana, a diferença oscila muito por acaso. Um alarme a cada oscilação acaba desligado; um alarme que nunca toca não serve.
#
# Uma soma acumulada resolve metade do problema: desvios pequenos que se repetem se somam, e o acaso se cancela. É a carta **CUSUM** ([Page, 1954](https://doi.org/10.1093/biomet/41.1-2.100)): com o valor da semana $x_t$, o alvo $\mu$ e uma folga $k$,
#
# $$S_0 = 0, \qquad S_t = \max\bigl(0,\; S_{t-1} + x_t - \mu - k\bigr).$$
#
# ### Exercício 6: `cusum`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 6 minutos · 2 pontos
#
# `cusum(values, target, slack)` devolve a lista $[S_1, \dots, S_n]$.


# %% nbgrader={"grade_id": "cusum", "solution": true}
def cusum(values, target, slack):
    """As somas acumuladas de `values` acima de `target` + `slack`, que nunca ficam abaixo de zero."""
    ### BEGIN SOLUTION
    sums, current = [], 0.0
    for value in values:
        current = max(0.0, current + value - target - slack)
        sums.append(current)
    return sums
    ### END SOLUTION


# %% nbgrader={"grade_id": "cusum_teste", "points": 2}
sums = cusum([1.0, 3.0, 0.0, 2.0], 1.0, 0.5)
assert len(sums) == 4 and all(
    math.isclose(a, b, abs_tol=1e-9) for a, b in zip(sums, [0, 1.5, 0, 0.5], strict=True)
), f"1-1-0,5 fica abaixo de zero: 0; 3-1-0,5 = 1,5; 1,5+0-1,5 = 0; 0+2-1,5 = 0,5; recebi {sums}."
### BEGIN HIDDEN TESTS
from itertools import accumulate

for size, target, slack in ((1, 0.2, 0.0), (50, -0.1, 0.05), (30, 0.0, 0.3)):
    drawn = [random.gauss(0, 1) for _ in range(size)]
    excess = [x - target - slack for x in drawn]
    expected = list(accumulate(excess, lambda total, x: max(0.0, total + x), initial=0.0))[1:]
    sums = cusum(drawn, target, slack)
    assert len(sums) == size, "Devolva uma soma por semana."
    assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(sums, expected, strict=True)), (
        "As somas falham em outra série: comece em zero, some a cada semana e não deixe passar abaixo de zero."
    )
assert cusum([], 0.0, 0.1) == [], "Sem semanas, a lista é vazia."
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 7: `alarm_threshold`
#
# ★★★☆☆ · ◆◆◆◆◇ · 10 minutos · 2 pontos
#
# A outra metade: a partir de que soma se dá o alarme? Em vez de adivinhar, simulamos muitos semestres **sem** mudança nenhuma e vemos até onde a soma vai por acaso. `alarm_threshold(histories, false_alarms)` recebe uma lista de séries (uma por semestre simulado) e devolve o **menor valor, entre os máximos das séries**, tal que no máximo a fração `false_alarms` das séries o **ultrapassa** (`>`) alguma vez.


# %% nbgrader={"grade_id": "limiar", "solution": true}
def alarm_threshold(histories, false_alarms):
    """O menor máximo que, como limiar, dá alarme em no máximo `false_alarms` das séries."""
    ### BEGIN SOLUTION
    peaks = sorted(max(series) for series in histories)
    return next(h for h in peaks if sum(p > h for p in peaks) <= false_alarms * len(peaks))
    ### END SOLUTION


# %% nbgrader={"grade_id": "limiar_teste", "points": 2}
quiet = [[0.0, 1.0, 0.5], [0.2, 0.1, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
found = alarm_threshold(quiet, 0.25)
assert found == 2.0, f"Os máximos são 1, 0,2, 2 e 3; com limiar 2 só um de quatro passa; recebi {found}."
assert alarm_threshold(quiet, 0) == 3.0, "Sem alarme falso nenhum, o limiar é o maior de todos."
### BEGIN HIDDEN TESTS
for size, share in ((40, 0.125), (25, 0.2), (64, 0.5), (50, 0.01)):
    drawn = [[abs(random.gauss(0, 1)) for _ in range(12)] for _ in range(size)]
    peaks = [max(series) for series in drawn]
    found = alarm_threshold(drawn, share)
    assert found in peaks, "O limiar é um dos máximos das séries."
    assert sum(p > found for p in peaks) <= share * size, (
        "Alarmes falsos demais: olhe a fração que ultrapassa."
    )
    smaller = [h for h in peaks if h < found]
    assert all(sum(p > h for p in peaks) > share * size for h in smaller), (
        "Havia um limiar menor que ainda respeita a fração pedida, e que avisaria mais cedo."
    )
assert alarm_threshold([[1.0, 1.0], [1.0], [2.0]], 0.34) == 1.0, (
    "Com empates, conte as séries que passam do limiar."
)
### END HIDDEN TESTS

# %% [markdown]
# O cenário: o modelo corrigido está em uso há 12 semanas. Na 13ª alguém começa a "atualizá-lo" com o histórico antigo, e a cada semana uma fração maior das decisões sai do modelo enviesado. Cada semana tem 40 candidaturas, sorteadas das de teste, com as decisões que os dois modelos de fato tomam.

# %%
WEEKS, PER_WEEK, CHANGE = 26, 40, 12
deployed = list(scores)[-1]
good, bad = decisions(deployed), decisions("histórico")
places = {group: [i for i, g in enumerate(gender) if g == group] for group in BETWEEN}


def weekly_gap(rng, drift):
    """A diferença de chamados numa semana em que a fração `drift` das decisões sai do modelo enviesado."""
    called = [
        mean((bad if rng.random() < drift else good)[i] for i in rng.choices(places[group], k=PER_WEEK // 2))
        for group in BETWEEN
    ]
    return called[0] - called[1]


def semester(seed, changes):
    """As diferenças de 26 semanas; se `changes`, a partir da 13ª o viés volta, 10 % a mais por semana."""
    rng = random.Random(seed)
    return [
        weekly_gap(rng, min(1, 0.1 * max(0, week - CHANGE)) if changes else 0) for week in range(1, WEEKS + 1)
    ]


calm = [semester(seed, changes=False) for seed in range(20 if reduced else 400)]
target = mean(value for series in calm for value in series)
SLACK, ALLOWED = 0.05, 0.05
limits = {}
with needs_exercise(6, 7):
    cards = {
        "semana a semana": lambda series: [value - target for value in series],
        "CUSUM": lambda series: cusum(series, target, SLACK),
    }
    limits = {
        name: alarm_threshold([statistic(s) for s in calm], ALLOWED) for name, statistic in cards.items()
    }
    fresh = [
        [semester(10_000 + 2 * seed + changes, changes) for seed in range(len(calm))]
        for changes in (False, True)
    ]
    print(f"{'':<16}{'limiar':>8}{'alarme falso':>14}{'descobre':>10}{'atraso mediano':>16}")
    for name, statistic in cards.items():
        alarms = [
            [next((w for w, v in enumerate(statistic(s), 1) if v > limits[name]), None) for s in some]
            for some in fresh
        ]
        false = mean(alarm is not None for alarm in alarms[0])
        delays = sorted(alarm - CHANGE for alarm in alarms[1] if alarm and alarm > CHANGE)
        delay = f"{delays[len(delays) // 2]} semanas" if delays else "nunca"
        print(f"{name:<16}{limits[name]:8.2f}{false:14.1%}{len(delays) / len(calm):10.1%}{delay:>16}")

# %%
if limits:
    figure, panels = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True)
    shown = fresh[1][0]
    weeks = range(1, WEEKS + 1)
    panels[0].plot(weeks, shown, "o-", color="#3b6ea5", markersize=4)
    panels[0].axhline(target + limits["semana a semana"], color="#c0392b", linestyle="--", linewidth=1)
    panels[0].set_ylabel("diferença\nda semana")
    panels[1].plot(weeks, cusum(shown, target, SLACK), "o-", color="#f4a259", markersize=4)
    panels[1].axhline(limits["CUSUM"], color="#c0392b", linestyle="--", linewidth=1, label="limiar do alarme")
    panels[1].set(ylabel="soma\nacumulada", xlabel="semana")
    for panel in panels:
        panel.axvspan(CHANGE + 0.5, WEEKS + 0.5, color="#eee", zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, loc="upper left")
    plt.show()

# %% [markdown]
# **Leitura do resultado.** As duas regras foram reguladas para o mesmo alarme falso, 5 % dos semestres, e a coluna ao lado o confere em semestres **novos**: espere algo entre 3 e 8 %, porque a regulagem também tem erro. A diferença está em quantos dos semestres ruins cada uma **descobre**, e com que atraso. A regra semana a semana espera um susto grande; a soma acumulada junta vários pequenos. Se as duas linhas são zeros, o modelo decide igual para todos e não há o que vigiar. E não existe alarme de graça: peça 1 % de alarme falso e veja o atraso crescer. O que fazer quando toca (parar, rever à mão, voltar ao modelo anterior) se decide **antes** de implantar, e vai na ficha.

# %% [markdown] nbgrader={"grade_id": "ficha_enunciado"}
# ## 9. Pergunta aberta
#
# ### Exercício 8: preencha a ficha
#
# ★★★☆☆ · ◆◆◆◆◆ · 20 minutos · 3 pontos (corrigido por uma pessoa)
#
# Uma rede de supermercados quer usar o modelo da seção 6 para triar candidaturas em todo o Brasil. Escreva as seções abertas da ficha: **para que serve**, **para que não serve**, **quem decide**, **vieses e limites**, **contestação e contato**, **acompanhamento**. Apoie ao menos três afirmações em números medidos nesta aula, com o intervalo; diga ao menos um viés que **não** foi medido e como você o mediria; e diga como um candidato recusado exerce o direito do art. 20 da LGPD. Termine com a sua recomendação: usar, usar com que condição, ou não usar (com bons motivos, as três valem o mesmo). De 15 a 25 linhas.
#
# ### BEGIN MARK SCHEME
# 1. (1 ponto) Uso e não uso coerentes, com uma pessoa que decide, e três números da aula citados **com** o intervalo (por exemplo, a diferença no par de gênero do modelo aumentado e a do histórico). (palavras: revis, pessoa, humana; intervalo, [, ±)
# 2. (1 ponto) Um limite real não medido (interseção de gênero e raça, deficiência, procuradores de gênero como "licença-maternidade", textos reais com erros) e um modo de medir, com a conta do número de pares. (palavras: interse, deficien, procurador, raca, erros, religi; pares, par)
# 3. (1 ponto) Contestação concreta (canal, prazo, quem revê, que critérios se informam: art. 20, caput e § 1º) e acompanhamento com limiar, taxa de alarme falso e o que se faz quando toca. (palavras: art. 20, lgpd, revisao; alarme, limiar, cusum)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "ficha", "solution": true, "points": 3}
# Espera-se: apoio à triagem com revisão humana, nunca recusa automática; números com intervalo; o que não foi medido; pedido de revisão com critérios explicados; carta CUSUM semanal com responsável.

# %% [markdown]
# ## O que você leva daqui
#
# - O ajuste fino aprende o padrão que houver nos dados, o viés também. Acertar o histórico não é decidir bem: meça contra o que importa.
# - Um par contrafactual muda um atributo e mais nada. Toda medida vem com intervalo, e o número de pares se calcula antes.
# - Paridade, oportunidade e comparação entre iguais respondem a perguntas diferentes; escolher uma é decisão de pessoas, não do código.
# - Balancear e aumentar mexem nos dados, e o custo se mede. Nenhuma correção dispensa a ficha, a revisão humana e a vigilância depois.
#
# **Para ler mais:** o relato sobre a ferramenta de recrutamento que a Amazon abandonou ([Reuters, 2018](https://www.reuters.com/article/us-amazon-com-jobs-automation-insight-idUSKCN1MK08G)); [Barocas, Hardt e Narayanan, *Fairness and Machine Learning*](https://fairmlbook.org); por que pares malfeitos medem outra coisa ([Blodgett et al., 2021](https://aclanthology.org/2021.acl-long.81)).
#
# *Para ir além:* tire do texto o nome e as formas de gênero ("triagem cega") e ajuste de novo: o que sobra do viés? E se homens e mulheres viessem de cidades diferentes?
