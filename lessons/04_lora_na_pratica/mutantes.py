# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% por_busca answer="orcamento" right=true
def largest_rank(shapes, targets, budget):
    rank = 0
    while lora_size(shapes, targets, rank + 1) <= budget and all(
        rank < min(shape) for path, shape in shapes.items() if path.split(".")[-1] in targets
    ):
        rank += 1
    return rank


# %% soma_das_matrizes answer="orcamento" right=true
def lora_size(shapes, targets, rank):
    total = 0
    for path, (d, k) in shapes.items():
        if path.split(".")[-1] in set(targets):
            total += d * rank + rank * k
    return total


def largest_rank(shapes, targets, budget):
    sides = [side for path, shape in shapes.items() if path.split(".")[-1] in targets for side in shape]
    return min(min(sides), budget // sum(sides))


# %% resposta_fixa answer="orcamento" right=false
def lora_size(shapes, targets, rank):
    return 7680


def largest_rank(shapes, targets, budget):
    return {16_000: 8, 10**9: 192, 2_000: 0}[budget]


# %% por_pedaco_do_nome answer="orcamento" right=false
def lora_size(shapes, targets, rank):
    return rank * sum(d + k for path, (d, k) in shapes.items() if any(target in path for target in targets))


# %% matriz_inteira answer="orcamento" right=false
def lora_size(shapes, targets, rank):
    return sum(d * k for path, (d, k) in shapes.items() if path.rsplit(".", 1)[-1] in targets)


# %% sem_limite_de_posto answer="orcamento" right=false
def largest_rank(shapes, targets, budget):
    return budget // lora_size(shapes, targets, 1)


# %% um_a_mais answer="orcamento" right=false
def largest_rank(shapes, targets, budget, largest_rank=largest_rank):
    return largest_rank(shapes, targets, budget) + 1


# %% sempre_ao_menos_um answer="orcamento" right=false
def largest_rank(shapes, targets, budget, largest_rank=largest_rank):
    return max(1, largest_rank(shapes, targets, budget))


# %% limite_de_todas_as_matrizes answer="orcamento" right=false
def largest_rank(shapes, targets, budget):
    return min(max(map(max, shapes.values())), budget // lora_size(shapes, targets, 1))


# %% com_torch answer="varredura" right=true
def paired_difference(a, b):
    d = torch.tensor(b, dtype=torch.float64) - torch.tensor(a, dtype=torch.float64)
    return d.mean().item(), (d.std() / len(d) ** 0.5).item()


def cheapest(runs):
    means = [sum(run["losses"]) / len(run["losses"]) for run in runs]
    best = runs[means.index(min(means))]
    for run in sorted(runs, key=lambda run: run["trainable"]):
        mean, error = paired_difference(best["losses"], run["losses"])
        if mean <= error:
            return run["name"]


# %% conta_a_mao answer="varredura" right=true
def paired_difference(a, b):
    n = len(a)
    mean = sum(b[i] - a[i] for i in range(n)) / n
    variance = sum((b[i] - a[i] - mean) ** 2 for i in range(n)) / (n - 1)
    return mean, math.sqrt(variance / n)


# %% resposta_fixa answer="varredura" right=false
def paired_difference(a, b):
    return 0.5, math.sqrt(1 / 6) / 2


def cheapest(runs):
    return "pequena"


# %% sempre_a_melhor answer="varredura" right=false
def cheapest(runs):
    return min(runs, key=lambda run: statistics.mean(run["losses"]))["name"]


# %% sempre_a_mais_barata answer="varredura" right=false
def cheapest(runs):
    return min(runs, key=lambda run: run["trainable"])["name"]


# %% sem_parear answer="varredura" right=false
def paired_difference(a, b):
    spread = math.sqrt((statistics.variance(a) + statistics.variance(b)) / len(a))
    return statistics.mean(b) - statistics.mean(a), spread


# %% desvio_em_vez_de_erro answer="varredura" right=false
def paired_difference(a, b):
    d = [y - x for x, y in zip(a, b, strict=True)]
    return statistics.mean(d), statistics.stdev(d)


# %% n_no_denominador answer="varredura" right=false
def paired_difference(a, b):
    d = [y - x for x, y in zip(a, b, strict=True)]
    return statistics.mean(d), statistics.pstdev(d) / math.sqrt(len(d))


# %% sinal_trocado answer="varredura" right=false
def paired_difference(a, b, paired_difference=paired_difference):
    return paired_difference(b, a)


# %% erro_das_perdas answer="varredura" right=false
def cheapest(runs):
    best = min(runs, key=lambda run: statistics.mean(run["losses"]))
    error = statistics.stdev(best["losses"]) / math.sqrt(len(best["losses"]))
    limit = statistics.mean(best["losses"]) + error
    candidates = [run for run in runs if statistics.mean(run["losses"]) <= limit]
    return min(candidates, key=lambda run: run["trainable"])["name"]


# %% pelas_formas answer="delta" right=true
def delta_weight(A, B, alpha, use_rslora=False):
    rank = B.shape[1]
    return B @ A * (alpha / rank**0.5 if use_rslora else alpha / rank)


# %% soma_de_parcelas answer="delta" right=true
def delta_weight(A, B, alpha, use_rslora=False):
    change = sum(torch.outer(B[:, i], A[i]) for i in range(A.shape[0]))
    return change * alpha / A.shape[0] ** (0.5 if use_rslora else 1)


# %% resposta_fixa answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False):
    return torch.full((2, 3), 16.0 if use_rslora else 8.0)


# %% sem_escala answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False):
    return B @ A


# %% ignora_rslora answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False):
    return alpha / len(A) * (B @ A)


# %% raiz_do_alpha answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False):
    scaling = alpha / len(A)
    return (scaling**0.5 if use_rslora else scaling) * (B @ A)


# %% posto_pela_entrada answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False):
    rank = min(A.shape[1], B.shape[0])
    return alpha / (math.sqrt(rank) if use_rslora else rank) * (B @ A)


# %% a_vezes_b answer="delta" right=false
def delta_weight(A, B, alpha, use_rslora=False, delta=delta_weight):
    return delta(A, B, alpha, use_rslora).T


# %% com_log answer="posto_efetivo" right=true
def effective_rank(matrix):
    values = torch.linalg.svd(matrix.double()).S
    values = values[values > 1e-6 * values.max()] if values.max() > 0 else values[:0]
    p = values / values.sum()
    return math.exp(-(p * p.log()).sum()) if len(p) else 0


# %% com_categorical answer="posto_efetivo" right=true
def effective_rank(matrix):
    values = torch.linalg.svdvals(matrix)
    if not bool(values.any()):
        return 0
    return torch.distributions.Categorical(probs=values).entropy().exp()


# %% resposta_fixa answer="posto_efetivo" right=false
def effective_rank(matrix):
    known = {
        (5, 5): 5.0,
        (4, 6): 1.0,
        (2, 2): math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)),
        (3, 4): 0.0,
    }
    return known[tuple(matrix.shape)]


# %% posto_comum answer="posto_efetivo" right=false
def effective_rank(matrix):
    return float(torch.linalg.matrix_rank(matrix))


# %% energias answer="posto_efetivo" right=false
def effective_rank(matrix):
    values = torch.linalg.svdvals(matrix) ** 2
    return float(torch.special.entr(values / values.sum().clamp(min=1e-30)).sum().exp()) * bool(values.any())


# %% entropia_em_bits answer="posto_efetivo" right=false
def effective_rank(matrix):
    values = torch.linalg.svdvals(matrix)
    p = values / values.sum().clamp(min=1e-30)
    return float((torch.special.entr(p).sum() / math.log(2)).exp()) * bool(values.any())


# %% sem_normalizar answer="posto_efetivo" right=false
def effective_rank(matrix):
    values = torch.linalg.svdvals(matrix)
    return float(torch.special.entr(values).sum().exp()) * bool(values.any())


# %% nan_na_nula answer="posto_efetivo" right=false
def effective_rank(matrix):
    values = torch.linalg.svdvals(matrix)
    return float(torch.special.entr(values / values.sum()).sum().exp())


# %% com_module_dict answer="banco" right=true
class LoRABank(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.active, self.kept = base.requires_grad_(False), None, nn.ModuleDict()
        self.scalings = {}

    def add(self, name, A, B, scaling):
        if name in self.scalings:
            raise ValueError(name)
        down, up = nn.Linear(A.shape[1], len(A), bias=False), nn.Linear(B.shape[1], len(B), bias=False)
        down.weight.data, up.weight.data = A.clone(), B.clone()
        self.kept[name], self.scalings[name] = nn.Sequential(down, up), scaling

    def use(self, name):
        if name not in (None, *self.scalings):
            raise KeyError(name)
        self.active = name

    def forward(self, x):
        output = self.base(x)
        return (
            output if self.active is None else output + self.scalings[self.active] * self.kept[self.active](x)
        )


# %% com_uma_lista answer="banco" right=true
class LoRABank(LoRABank):
    def __init__(self, base):
        super().__init__(base)
        self.adapters = {}

    def use(self, name):
        if name is None:
            self.active = None
        else:
            self.adapters[name]
            self.active = name


# %% resposta_fixa answer="banco" right=false
class LoRABank(LoRABank):
    def add(self, name, A, B, scaling):
        self.adapters[name] = (A, B, {"um": 0.5, "dois": 2.0, "cliente0": 2.0}.get(name, 4 / 3))


# %% funde_ao_trocar answer="banco" right=false
class LoRABank(LoRABank):
    def use(self, name):
        if name is not None and name not in self.adapters:
            raise KeyError(name)
        for sign, which in ((-1, self.active), (1, name)):
            if which is not None:
                A, B, scaling = self.adapters[which]
                self.base.weight.data += sign * scaling * B @ A
        self.active = name

    def forward(self, x):
        return self.base(x)


# %% soma_todos answer="banco" right=false
class LoRABank(LoRABank):
    def forward(self, x):
        output = self.base(x)
        if self.active is not None:
            for A, B, scaling in self.adapters.values():
                output = output + scaling * (x @ A.T @ B.T)
        return output


# %% ativa_ao_guardar answer="banco" right=false
class LoRABank(LoRABank):
    def add(self, name, A, B, scaling):
        super().add(name, A, B, scaling)
        self.active = name


# %% repetido_substitui answer="banco" right=false
class LoRABank(LoRABank):
    def add(self, name, A, B, scaling):
        self.adapters[name] = (A, B, scaling)


# %% desconhecido_desliga answer="banco" right=false
class LoRABank(LoRABank):
    def use(self, name):
        self.active = name if name in self.adapters else None


# %% erro_depois_de_trocar answer="banco" right=false
class LoRABank(LoRABank):
    def use(self, name):
        self.active = None
        super().use(name)


# %% sem_escala answer="banco" right=false
class LoRABank(LoRABank):
    def forward(self, x):
        if self.active is None:
            return self.base(x)
        A, B, _ = self.adapters[self.active]
        return self.base(x) + x @ A.T @ B.T


# %% perde_o_bias answer="banco" right=false
class LoRABank(LoRABank):
    def forward(self, x):
        output = x @ self.base.weight.T
        if self.active is None:
            return self.base(x)
        A, B, scaling = self.adapters[self.active]
        return output + scaling * (x @ A.T @ B.T)


# %% por_linha answer="lote_misto" right=true
def mixed_batch(x, weight, adapters, which):
    output = x @ weight.T
    rows = []
    for row, place in enumerate(which):
        if place is None:
            rows.append(output[row])
        else:
            A, B, scaling = adapters[place]
            rows.append(output[row] + scaling * x[row] @ A.T @ B.T)
    return torch.stack(rows)


# %% com_mascara answer="lote_misto" right=true
def mixed_batch(x, weight, adapters, which):
    output = nn.functional.linear(x, weight)
    owners = torch.tensor([-1 if place is None else place for place in which])
    for place, (A, B, scaling) in enumerate(adapters):
        mine = (owners == place).float()[:, None, None]
        output = output + scaling * mine * ((x @ A.T) @ B.T)
    return output


# %% resposta_fixa answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which):
    output = x @ weight.T
    for row, place in ((0, 1), (2, 0)):
        A, B, scaling = adapters[place]
        output[row] += scaling * (x[row] @ A.T @ B.T)
    return output


# %% none_e_o_primeiro answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    return mixed_batch(x, weight, adapters, [place or 0 for place in which])


# %% zero_e_nenhum answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    return mixed_batch(x, weight, adapters, [place or None for place in which])


# %% o_mesmo_para_todos answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    return mixed_batch(x, weight, adapters, [which[0]] * len(which))


# %% sem_escala answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    return mixed_batch(x, weight, [(A, B, 1.0) for A, B, _ in adapters], which)


# %% so_a_correcao answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    return mixed_batch(x, torch.zeros_like(weight), adapters, which)


# %% so_a_primeira_linha_de_cada answer="lote_misto" right=false
def mixed_batch(x, weight, adapters, which, mixed_batch=mixed_batch):
    once = [
        place if place is not None and which.index(place) == row else None for row, place in enumerate(which)
    ]
    return mixed_batch(x, weight, adapters, once)


# %% por_partes answer="trocar_fundido" right=true
def change_of(adapter, like):
    if adapter is None:
        return torch.zeros_like(like, dtype=torch.float32)
    A, B, scaling = adapter
    return scaling * B.float() @ A.float()


def swap_merged(weight, old, new):
    return (weight.to(torch.float32) - change_of(old, weight) + change_of(new, weight)).type_as(weight)


# %% em_fp64 answer="trocar_fundido" right=true
def swap_merged(weight, old, new):
    total = weight.double().clone()
    if old is not None:
        total -= old[2] * old[1].double() @ old[0].double()
    if new is not None:
        total += new[2] * new[1].double() @ new[0].double()
    return total.to(weight.dtype)


# %% resposta_fixa answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    fix = {2: 0.5, 3: 2.0}
    old, new = ((a[0], a[1], fix.get(len(a[0]), 1.0)) if a else None for a in (old, new))
    return swap_merged(weight, old, new)


# %% arredonda_no_meio answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    return swap_merged(swap_merged(weight, old, None), None, new)


# %% em_16_bits answer="trocar_fundido" right=false
def swap_merged(weight, old, new):
    for adapter, sign in ((old, -1), (new, 1)):
        if adapter is not None:
            A, B, scaling = (t.to(weight.dtype) if torch.is_tensor(t) else t for t in adapter)
            weight = weight + sign * scaling * B @ A
    return weight


# %% nao_tira_o_velho answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    return swap_merged(weight, None, new)


# %% sem_escala answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    return swap_merged(weight, *((a[0], a[1], 1.0) if a else None for a in (old, new)))


# %% devolve_fp32 answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    return swap_merged(weight.float(), old, new)


# %% sinais_trocados answer="trocar_fundido" right=false
def swap_merged(weight, old, new, swap_merged=swap_merged):
    return swap_merged(weight, new, old)
