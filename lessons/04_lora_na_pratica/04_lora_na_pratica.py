# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # LoRA na prática: dois clientes, um modelo
#
# Quem fotografa não compra uma câmera para cada foto. Compra **um** corpo, caro e pesado, e várias lentes: a de retrato, a de paisagem. A troca leva segundos, e o corpo não muda. Na aula 03 você construiu a lente. Nesta, vai usá-la como num trabalho: dois clientes, um escritório que classifica **cláusulas de contrato** e uma loja que quer um **atendimento** com a voz da marca, e um só modelo base para os dois.
#
# Você vai:
#
# 1. decidir **onde** pôr os adaptadores e com que **posto**, dado um orçamento de parâmetros;
# 2. varrer alvos, postos e fatores de escala, e **ler a varredura** sem confundir ruído com efeito;
# 3. medir o tamanho e o **posto efetivo** do que foi aprendido, e ver o que a escala rsLoRA muda;
# 4. pôr dois adaptadores na mesma base, com **troca a quente** em milissegundos, e até os dois no mesmo lote;
# 5. fundir, separar, e descobrir por que fundir e separar muitas vezes estraga o modelo;
# 6. ver onde o LoRA fica **abaixo** do ajuste completo, e por quê.
#
# **Tempo:** 80 a 90 minutos. **Antes:** a aula 03 (LoRA do zero). A aula 02 ajuda na comparação do fim.
# **Pontos:** 20, em sete exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import math
import random
import statistics
import time
import warnings

import matplotlib.pyplot as plt
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from toolkit import Architecture, LoRA, Plan, count
from toolkit.exercise import needs_exercise

warnings.filterwarnings("ignore", category=FutureWarning)  # das bibliotecas às suas próprias versões futuras
warnings.filterwarnings(
    "ignore", message="Already found a `peft_config`"
)  # dois adaptadores: é o que queremos


def gaussian(*shape, seed=0, std=1.0):
    """Um tensor sorteado de uma normal, sempre o mesmo para a mesma semente."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def dense(k, d, bias=False, seed=0):
    """Uma camada linear que leva k números a d números; o peso tem forma (d, k)."""
    torch.manual_seed(seed)
    return nn.Linear(k, d, bias=bias)


def weight_shapes(architecture):
    """Caminho → forma (d, k) de cada matriz linear dos blocos do modelo descrito por `architecture`."""
    return {
        f"layers.{layer}.{linear.name}": (linear.outputs, linear.inputs)
        for linear in architecture.linears()
        for layer in range(linear.count)
    }


def factors(k, d, rank, seed=0):
    """Um par (A, B) sorteado, de formas (rank, k) e (d, rank): um adaptador já treinado."""
    return gaussian(rank, k, seed=seed), gaussian(d, rank, seed=seed + 1000)


def peft_layer(k, d, ranks, alpha, bias=False, seed=0):
    """Uma camada da peft com um adaptador sorteado por posto de `ranks`; e os seus (A, B, escala), por nome."""
    net, tensors = nn.ModuleDict({"proj": dense(k, d, bias, seed)}), {}
    for place, rank in enumerate(ranks):
        name = f"cliente{place}"
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=["proj"]), net, name)
        A, B = factors(k, d, rank, seed=seed + place)
        with torch.no_grad():
            net["proj"].lora_A[name].weight.copy_(A)
            net["proj"].lora_B[name].weight.copy_(B)
        tensors[name] = (A, B, alpha / rank)
    return net["proj"].eval(), tensors


# %% [markdown]
# ## 1. Os dois clientes, antes de qualquer ajuste

# %%
import os

from toolkit import base_model, clauses, shop

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
base = base_model("tiny" if reduced else "")
SIZES = {  # passos: da varredura, das cláusulas, do atendimento; exemplos: validação, cláusulas, perguntas
    "cpu": (10, 160, 40, 16, 36, 8),
    "t4": (300, 864, 800, 108, 360, 158),
    "big": (300, 864, 800, 216, 360, 158),
}
sweep_steps, clause_steps, shop_steps, held_out, asked, questions = (
    (1, 1, 1, 3, 12, 1) if reduced else SIZES[machine.profile]
)
contracts, tangerina = clauses(DADOS), shop(DADOS)


def examine(model):
    """As figuras do modelo nas duas tarefas, em exemplos de teste."""
    return {
        **contracts.score(model, base.tokenizer, contracts.test[:asked]),
        **tangerina.score(model, base.tokenizer, tangerina.test[:questions]),
    }


print(f"Modelo: {base.name} ({base.reason})\n")
for task in (contracts, tangerina):
    print(f"{task.train[0].prompt}\n → {task.train[0].answer}\n")
found = {"base": examine(base.model)}
print("  ".join(f"{name} {value:.2f}" for name, value in found["base"].items()))

# %% [markdown]
# **Leitura do resultado.** Três números por modelo. O **macro-F1** (cláusulas) é a média do acerto nos doze tipos: o acaso dá 0,08. **Fatos** é a fração de respostas da loja com preço, medida ou regra certos, letra por letra; **tom**, a média das cinco regras da voz da Tina. O modelo base não conhece os doze tipos, responde quase sempre os mesmos, e fica no acaso ou abaixo dele; também não conhece a loja, e não acerta os fatos dela. O tom não começa em zero: regras como não dizer "senhor" se cumprem sem querer. É para isso que se mede antes: o ganho de um ajuste fino é a diferença, não o número final.

# %% [markdown]
# ## 2. Onde pôr, e com que posto
#
# Um bloco do Transformer tem sete matrizes. O artigo original pôs LoRA só em `q_proj` e `v_proj`; o do QLoRA, em todas. Mas comparar os dois com o **mesmo posto** é comparar orçamentos diferentes: com mais alvos há mais parâmetros. A comparação justa fixa o **orçamento** e pergunta: poucos alvos com posto alto, ou todos com posto baixo?

# %% [markdown]
# ### Exercício 1: `lora_size` e `largest_rank`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 10 minutos · 3 pontos
#
# `shapes` é um dicionário: caminho do módulo, como `layers.0.self_attn.q_proj`, → forma `(d, k)` do peso. Um módulo é alvo se o seu nome depois do último ponto **está** em `targets`.
#
# - `lora_size(shapes, targets, rank)` devolve quantos parâmetros o LoRA treina.
# - `largest_rank(shapes, targets, budget)` devolve o maior posto cujo tamanho não passa de `budget`. O posto não pode passar do menor lado da menor matriz-alvo; se nem o posto 1 cabe, devolva 0.


# %% nbgrader={"grade_id": "orcamento", "solution": true}
def lora_size(shapes, targets, rank):
    """Parâmetros treinados pelo LoRA de posto `rank` nos módulos de nome em `targets`."""
    ### BEGIN SOLUTION
    chosen = [shape for path, shape in shapes.items() if path.rsplit(".", 1)[-1] in targets]
    return rank * sum(d + k for d, k in chosen)
    ### END SOLUTION


def largest_rank(shapes, targets, budget):
    """O maior posto que cabe em `budget` parâmetros, ou 0."""
    ### BEGIN SOLUTION
    limit = min(min(shape) for path, shape in shapes.items() if path.rsplit(".", 1)[-1] in targets)
    return min(limit, budget // lora_size(shapes, targets, 1))
    ### END SOLUTION


# %% nbgrader={"grade_id": "orcamento_teste", "points": 3}
shapes = {"layers.0.self_attn.q_proj": (576, 576), "layers.0.self_attn.v_proj": (192, 576), "layers.0.mlp.up_proj": (1536, 576)}  # fmt: skip
size = lora_size(shapes, ["q_proj", "v_proj"], 4)
assert size == 4 * (576 + 576) + 4 * (192 + 576), (
    f"Posto 4 em q (576 x 576) e v (192 x 576): 7680 números; recebi {size}."
)
rank = largest_rank(shapes, ["q_proj", "v_proj"], 16_000)
assert rank == 8, f"Cada posto custa 1920 números: em 16 000 cabem 8; recebi {rank}."
rank = largest_rank(shapes, ["q_proj", "v_proj"], 10**9)
assert rank == 192, f"Com orçamento de sobra, o limite é o menor lado, 192; recebi {rank}."
rank = largest_rank(shapes, ["up_proj"], 2_000)
assert rank == 0, f"up_proj já custa 2112 com posto 1: em 2000 nada cabe; recebi {rank}."
### BEGIN HIDDEN TESTS
for name in ("HuggingFaceTB/SmolLM2-135M", "TucanoBR/Tucano-1b1", "meta-llama/Llama-3.1-8B"):
    architecture = Architecture.from_config(name)
    shapes = weight_shapes(architecture)
    for targets in (("q_proj", "v_proj"), ("k_proj", "o_proj", "down_proj"), ("gate_proj",)):
        for rank in (1, 7):
            expected = count(Plan(architecture, LoRA(rank, targets=targets))).trainable
            assert lora_size(shapes, list(targets), rank) == expected, (
                "A conta difere da do toolkit em algum modelo: cada matriz custa rank · (d + k)."
            )
        for budget in (10**5, 3 * 10**6, 10**11):
            rank = largest_rank(shapes, list(targets), budget)
            each, limit = lora_size(shapes, list(targets), 1), min(
                min(s) for p, s in shapes.items() if p.split(".")[-1] in targets
            )  # fmt: skip
            assert rank <= limit and rank * each <= budget, "O posto passou do orçamento ou do menor lado."
            assert rank == limit or (rank + 1) * each > budget, "Ainda caberia um posto maior."
shapes = {"a.q_proj": (8, 6), "b.q_proj_norm": (50, 50), "c.my_q_proj": (50, 50)}
assert lora_size(shapes, ["q_proj"], 2) == 28, "O nome depois do último ponto deve ser igual ao alvo."
### END HIDDEN TESTS

# %%
TARGETS = {
    "q, v": ("q_proj", "v_proj"),
    "q, k, v, o": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "todas": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
shapes = weight_shapes(base.architecture)
total = count(base.plan(LoRA())).total
BUDGET_RANK = 16 if reduced else 24  # o posto que q, v recebem; os outros, o que couber no mesmo orçamento
ranks = {"q, v": BUDGET_RANK, "q, k, v, o": BUDGET_RANK, "todas": BUDGET_RANK}
with needs_exercise(1):
    budget = lora_size(shapes, TARGETS["q, v"], BUDGET_RANK)
    print(f"orçamento: {budget:,d} parâmetros, {budget / total:.2%} de {base.name}\n")
    print(f"{'alvos':<12} {'parâmetros com posto 8':>23} {'posto no orçamento':>19}")
    for label, targets in TARGETS.items():
        ranks[label] = largest_rank(shapes, targets, budget)
        print(f"{label:<12} {lora_size(shapes, targets, 8):23,d} {ranks[label]:19d}")

# %% [markdown]
# **Leitura do resultado.** Com o mesmo posto, "todas" treina várias vezes mais parâmetros que "q, v": o MLP é a maior parte do bloco, e as suas matrizes são as mais compridas. No mesmo orçamento, o posto cai na mesma proporção. (As matrizes $k$ e $v$ custam menos que $q$ e $o$ onde várias cabeças dividem chaves e valores.) Se a coluna do meio é igual para todos, o seu `lora_size` não olha os alvos.

# %% [markdown]
# ## 3. A varredura
#
# Seis adaptadores para as cláusulas, com a mesma taxa de aprendizado, o mesmo $\alpha = 16$, os mesmos dados na mesma ordem e poucos passos: três conjuntos de alvos no mesmo orçamento; e, em "q, v", posto 1, posto alto, e posto alto com a escala **rsLoRA**, $\alpha/\sqrt r$ no lugar de $\alpha/r$. A escala que multiplica $BA$ vai de 0,25 a 16. Ao lado, um ajuste completo com os mesmos passos. Na CPU são alguns minutos; o que já terminou não se repete se você rodar a célula de novo.

# %%
from dataclasses import replace

from toolkit import Full, train
from toolkit.data import encode_all
from toolkit.evaluation import mean_loss

RATE, FULL_RATE = 2e-3, 1e-4
LOW, HIGH = 1, 32 if reduced else 64
CONFIGS = {
    **{
        f"{label}; r={ranks[label]}": LoRA(ranks[label], alpha=16, targets=targets)
        for label, targets in TARGETS.items()
    },
    f"q, v; r={LOW}": LoRA(LOW, alpha=16, targets=TARGETS["q, v"]),
    f"q, v; r={HIGH}": LoRA(HIGH, alpha=16, targets=TARGETS["q, v"]),
    f"q, v; r={HIGH}, rsLoRA": LoRA(HIGH, alpha=16, targets=TARGETS["q, v"], use_rslora=True),
}
validation = encode_all(base.tokenizer, contracts.validation[:held_out], 1024)


def run_of(label, method, data, steps, rate):
    """Um treino medido; se a célula rodar de novo, um LoRA já treinado não se repete."""
    folder = f"runs/04_{''.join(c if c.isalnum() else '_' for c in label)}"
    kept = {} if isinstance(method, Full) else {"checkpoint_dir": folder, "resume": True}
    plan = base.plan(method, batch=2, seq_len=1024)
    return train(plan, data, base, steps=steps, learning_rate=rate, **kept)


def example_losses(model):
    """A perda de cada exemplo de validação, sempre na mesma ordem."""
    return [mean_loss(model, [example], 1, base.tokenizer.pad_token_id) for example in validation]


WATCHED = [path for path in shapes if path.endswith(("self_attn.q_proj", "self_attn.v_proj"))]
WATCHED = WATCHED[:: 1 if reduced else 6]  # as matrizes que a seção 4 vai examinar


def learnt(model):
    """Os pesos treinados das matrizes de WATCHED: pares (A, B), ou a matriz inteira, no ajuste completo."""
    named = [(name, p) for name, p in model.named_parameters() if "base_layer" not in name]
    own = [[p.detach().float().cpu() for name, p in named if f"{path}." in name] for path in WATCHED]
    return [tensors if len(tensors) == 2 else tensors[0] for tensors in own]


runs, losses, weights = {}, {"sem ajuste": example_losses(base.model)}, {"base": learnt(base.model)}
for label, method in {**CONFIGS, "completo": Full()}.items():
    rate = FULL_RATE if label == "completo" else RATE
    run = run_of(label, method, contracts.train, sweep_steps, rate)
    losses[label], weights[label] = example_losses(run.model), learnt(run.model)
    runs[label] = replace(run, model=None)  # guardar oito modelos encheria a memória
    del run

# %%
print(f"{'':<20} {'treinados':>11} {'escala':>7} {'s/passo':>8} {'em disco':>10} {'perda na validação':>19}")
for label, run in runs.items():
    scaling = f"{CONFIGS[label].scaling:.2f}" if label in CONFIGS else ""
    print(
        f"{label:<20} {run.trainable:11,d} {scaling:>7} {run.seconds / run.steps:8.2f} "
        f"{run.adapter_bytes / 2**20:6.2f} MiB {statistics.mean(losses[label]):19.3f}"
    )
print(f"{'sem ajuste':<20} {'':>39} {statistics.mean(losses['sem ajuste']):19.3f}")

# %% [markdown]
# **Leitura do resultado.** Todas as linhas partiram da mesma perda, a da última, e todas a derrubam em poucos passos, mas com pressas muito diferentes. Olhe a escala. Posto 1 e posto 64, ambos com $\alpha = 16$, ficam quase juntos, embora um treine 64 vezes mais parâmetros: com a divisão por $r$, quem decide o tamanho do passo é $\alpha$, e não o posto. No posto 64, trocar $\alpha/r$ por $\alpha/\sqrt r$ multiplica a escala por 8 e dá uma queda bem mais rápida. Entre as três primeiras, de mesmo orçamento e mesmo $\alpha$, "todas", com posto 4, sai na frente: são mais lugares onde dar um passo. No tempo, se a máquina não faz mais nada, os LoRA quase empatam, e o ajuste completo, que calcula o gradiente de todos os pesos, é o mais lento. Se alguma linha fica na perda da última, a taxa não serve para aquela escala. Quanto dessas diferenças é sorte? É o que falta saber.

# %% [markdown]
# ### Exercício 2: ler a varredura
#
# ★★★☆☆ · ◆◆◆◆◆ · 12 minutos · 3 pontos
#
# A menor perda da tabela é a melhor configuração, ou teve sorte com aqueles exemplos? As perdas de duas configurações foram medidas **nos mesmos exemplos**, e isso ajuda: um exemplo difícil é difícil para as duas. Em vez de comparar médias, olhe as **diferenças**, exemplo por exemplo.
#
# - `paired_difference(a, b)` devolve `(mean, error)`: a média de $b_i - a_i$ e o seu **erro-padrão**, o desvio-padrão das diferenças (com $n - 1$ no denominador) dividido por $\sqrt n$.
# - `cheapest(runs)` aplica a **regra de um erro-padrão**. `runs` é uma lista de dicionários com `name`, `trainable` e `losses`. Ache o de menor perda média; são candidatos todos os que não são piores que ele por mais de um erro-padrão (da diferença com ele); devolva o nome do candidato com menos parâmetros treinados.


# %% nbgrader={"grade_id": "varredura", "solution": true}
def paired_difference(a, b):
    """(média, erro-padrão) das diferenças b - a, exemplo por exemplo."""
    ### BEGIN SOLUTION
    differences = [y - x for x, y in zip(a, b, strict=True)]
    return statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    ### END SOLUTION


def cheapest(runs):
    """O nome da configuração mais barata entre as que não se distinguem da melhor."""
    ### BEGIN SOLUTION
    best = min(runs, key=lambda run: statistics.mean(run["losses"]))
    gaps = [(run, paired_difference(best["losses"], run["losses"])) for run in runs]
    candidates = [run for run, (worse, error) in gaps if worse <= error]
    return min(candidates, key=lambda run: run["trainable"])["name"]
    ### END SOLUTION


# %% nbgrader={"grade_id": "varredura_teste", "points": 3}
mean, error = paired_difference([1.0, 2.0, 3.0, 4.0], [1.5, 2.5, 3.0, 5.0])
assert math.isclose(mean, 0.5, rel_tol=1e-6), f"As diferenças são 0.5, 0.5, 0 e 1: média 0.5; recebi {mean}."
assert math.isclose(error, math.sqrt(1 / 6) / 2, rel_tol=1e-4), (
    f"O desvio delas (com n - 1) é √(1/6), e o erro-padrão, a metade, 0.2041; recebi {error:.4f}."
)
table = [
    {"name": "grande", "trainable": 900, "losses": [0.50, 1.50, 0.90, 2.00]},
    {"name": "pequena", "trainable": 100, "losses": [0.52, 1.46, 0.95, 1.98]},
    {"name": "minúscula", "trainable": 10, "losses": [0.80, 1.80, 1.20, 2.40]},
]
name = cheapest(table)
assert name == "pequena", (
    f"A 'pequena' não se distingue da 'grande', e a 'minúscula' é pior em todos os exemplos; recebi {name!r}."
)
### BEGIN HIDDEN TESTS
for _ in range(30):
    size = random.randint(5, 40)
    a = [random.gauss(2, 1) for _ in range(size)]
    b = [x + random.gauss(0.1, 0.3) for x in a]
    mean, error = paired_difference(a, b)
    d = torch.tensor(b, dtype=torch.float64) - torch.tensor(a, dtype=torch.float64)
    assert math.isclose(mean, float(d.mean()), rel_tol=1e-4, abs_tol=1e-6), "A média das diferenças falha."
    assert math.isclose(error, float(d.std() / size**0.5), rel_tol=1e-4), (
        "O erro-padrão é o das diferenças, não o das perdas, e divide por √n."
    )
hard = [random.uniform(0, 4) for _ in range(20)]  # exemplos fáceis e difíceis, os mesmos para todos
wobble = [0.02 * (-1) ** i for i in range(20)]


def made(name, trainable, worse):
    return {"name": name, "trainable": trainable, "losses": [h + worse + w for h, w in zip(hard, wobble, strict=True)]}  # fmt: skip


best = {"name": "melhor", "trainable": 5_000, "losses": hard}
table = [made("cara", 9_000, 0.001), best, made("empate", 700, 0.003), made("pior", 20, 0.01)]
random.shuffle(table)
assert cheapest(table) == "empate", (
    "Erro-padrão 0,0046: quem perde por 0,003 empata com a melhor, quem perde por 0,01 não, por mais que os exemplos variem."
)
assert cheapest([best, made("longe", 1, 0.5)]) == "melhor", (
    "Se nenhuma outra empata, a escolhida é a melhor, mesmo cara."
)
assert cheapest([{**best, "name": "só ela"}]) == "só ela", "Uma varredura de uma configuração só também vale."
### END HIDDEN TESTS

# %%
with needs_exercise(2):
    lora_runs = [
        {"name": label, "trainable": runs[label].trainable, "losses": losses[label]} for label in CONFIGS
    ]
    best = min(lora_runs, key=lambda run: statistics.mean(run["losses"]))["name"]
    print(f"melhor média: {best}; a mais barata que empata: {cheapest(lora_runs)}\n")
    gaps = {label: paired_difference(losses[best], losses[label]) for label in runs}
    for label, (mean, error) in gaps.items():
        unpaired = statistics.stdev(losses[label]) / len(losses[label]) ** 0.5
        print(f"{label:<20} {mean:+.3f} ± {error:.3f}   (sem parear: ± {unpaired:.3f})")

    _, axes = plt.subplots(figsize=(8, 3.2))
    means, errors = zip(*gaps.values(), strict=True)
    colors = ["#5b8e7d" if label == "completo" else "#f4a259" for label in gaps]
    axes.errorbar(means, range(len(gaps)), xerr=errors, fmt="none", ecolor="#444", capsize=3)
    axes.scatter(means, range(len(gaps)), c=colors, s=50, zorder=3)
    axes.axvline(0, color="#444", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(gaps)), gaps)
    axes.invert_yaxis()
    axes.set(xlabel=f"perda a mais que {best!r} (± 1 erro-padrão)")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** Cada ponto é o que uma configuração perde para a melhor, com um erro-padrão para cada lado; a faixa que toca a linha pontilhada é um empate. Compare com a coluna "sem parear": ela trata os exemplos fáceis e difíceis como ruído, e é várias vezes mais larga onde as duas configurações se parecem. A regra escolhe, entre os que empatam, quem treina menos parâmetros. Dois avisos. Este erro-padrão só conta o sorteio dos *exemplos*: outra semente do treino também mexeria na ordem, e uma decisão cara pede três ou mais sementes. E poucos passos medem quem aprende **depressa**, não quem chegaria mais longe. Se tudo empata com tudo, há exemplos de validação de menos.

# %% [markdown]
# ## 4. O que foi aprendido
#
# Os adaptadores da varredura mudaram os pesos do mesmo jeito? Para ver, é preciso montar a correção de cada um: $\Delta W = s\, B A$, com $s = \alpha / r$ no LoRA comum e $s = \alpha/\sqrt r$ na variante rsLoRA ([Kalajdzievski, 2023](https://arxiv.org/abs/2312.03732)).
#
# Por que $\sqrt r$? $BA$ é uma soma de $r$ parcelas. No começo do treino, elas são quase independentes, e uma soma de $r$ parcelas independentes cresce como $\sqrt r$, e não como $r$. Dividir por $r$ freia demais os postos altos: o adaptador tem lugar de sobra e anda devagar.

# %% [markdown]
# ### Exercício 3: `delta_weight`
#
# ★☆☆☆☆ · ◆◆◆◇◇ · 5 minutos · 2 pontos
#
# `delta_weight(A, B, alpha, use_rslora)` devolve $\Delta W$, de forma `(d, k)`. `A` tem forma `(r, k)` e `B`, `(d, r)`.


# %% nbgrader={"grade_id": "delta", "solution": true}
def delta_weight(A, B, alpha, use_rslora=False):
    """A correção que o adaptador soma ao peso, com a sua escala."""
    ### BEGIN SOLUTION
    rank = len(A)
    return alpha / (math.sqrt(rank) if use_rslora else rank) * (B @ A)
    ### END SOLUTION


# %% nbgrader={"grade_id": "delta_teste", "points": 2}
A, B = torch.ones(4, 3), torch.ones(2, 4)
change = delta_weight(A, B, alpha=8)
assert tuple(change.shape) == (2, 3), f"A correção tem a forma do peso, (2, 3); recebi {tuple(change.shape)}."
assert torch.allclose(change, torch.full((2, 3), 8.0)), "Cada elemento de B A é 4, e a escala é 8/4 = 2."
change = delta_weight(A, B, alpha=8, use_rslora=True)
assert torch.allclose(change, torch.full((2, 3), 16.0)), "Com rsLoRA a escala é 8/√4 = 4."
### BEGIN HIDDEN TESTS
for k, d, rank, alpha, rslora in ((7, 5, 3, 2.0, False), (6, 9, 5, 16, True), (8, 4, 1, 3, True)):
    net = nn.ModuleDict({"proj": dense(k, d)})
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["proj"], use_rslora=rslora)
    layer = inject_adapter_in_model(config, net)["proj"]
    A, B = factors(k, d, rank, seed=rank)
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(A)
        layer.lora_B["default"].weight.copy_(B)
    expected = layer.get_delta_weight("default").detach()
    assert torch.allclose(delta_weight(A, B, alpha, rslora), expected, rtol=1e-4, atol=1e-4), (
        "A correção difere da da peft para outros postos, alphas ou com rsLoRA."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 4: `effective_rank`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 8 minutos · 2 pontos
#
# Um adaptador de posto 128 usa mesmo 128 direções? Os valores singulares $\sigma_i$ de $\Delta W$ dizem quanto cada uma pesa. O **posto efetivo** ([Roy e Vetterli, 2007](https://ieeexplore.ieee.org/document/7098875)) trata-os como uma distribuição, $p_i = \sigma_i / \sum_j \sigma_j$, e toma a exponencial da sua entropia:
#
# $$\text{posto efetivo} = \exp\Big(-\sum_i p_i \ln p_i\Big)$$
#
# Com $n$ direções iguais dá $n$; com uma só, dá 1. `effective_rank(matrix)` devolve esse número; um valor singular nulo não contribui ($0 \ln 0 = 0$), e a matriz toda nula tem posto efetivo 0.


# %% nbgrader={"grade_id": "posto_efetivo", "solution": true}
def effective_rank(matrix):
    """exp da entropia dos valores singulares normalizados; 0 para a matriz nula."""
    ### BEGIN SOLUTION
    values = torch.linalg.svdvals(matrix)
    if float(values.sum()) == 0:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
    ### END SOLUTION


# %% nbgrader={"grade_id": "posto_efetivo_teste", "points": 2}
value = float(effective_rank(torch.eye(5)))
assert math.isclose(value, 5, rel_tol=1e-4), f"Cinco direções iguais: posto efetivo 5; recebi {value:.3f}."
value = float(effective_rank(torch.ones(4, 6)))
assert math.isclose(value, 1, rel_tol=1e-3), f"Uma direção só: posto efetivo 1; recebi {value:.3f}."
value = float(effective_rank(torch.diag(torch.tensor([3.0, 1.0]))))
assert math.isclose(value, math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)), rel_tol=1e-4), (
    f"Valores 3 e 1: p = (3/4, 1/4), posto efetivo 1.755; recebi {value:.3f}."
)
### BEGIN HIDDEN TESTS
assert float(effective_rank(torch.zeros(3, 4))) == 0, "A matriz nula tem posto efetivo 0."
for seed, singular in ((1, [5.0, 2.0, 1.0, 0.5]), (2, [1.0, 1.0, 1e-3]), (3, [7.0, 0.0, 0.0, 3.0, 3.0])):
    size = len(singular)
    left, right = (torch.linalg.qr(gaussian(n, size, seed=seed + n))[0] for n in (9, 12))
    matrix = left * torch.tensor(singular) @ right.T
    shares = [value / sum(singular) for value in singular if value]
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    for scaled in (matrix, 100 * matrix, matrix.T):
        # o que deveria ser zero volta da SVD como 1e-7
        assert math.isclose(float(effective_rank(scaled)), expected, rel_tol=1e-3), (
            "O posto efetivo falha numa matriz de valores singulares conhecidos; ele não depende da escala."
        )
### END HIDDEN TESTS


# %%
def changes(label):
    """ΔW de cada matriz observada, de um treino com LoRA ou completo."""
    if label == "completo":
        return [new - old for new, old in zip(weights[label], weights["base"], strict=True)]
    method = CONFIGS[label]
    return [delta_weight(A, B, method.alpha, method.use_rslora) for A, B in weights[label]]


with needs_exercise(3, 4):
    print(f"{'em q_proj e v_proj':<20} {'posto':>6} {'posto efetivo':>14} {'|ΔW| / |W|':>11}")
    spectra = {}
    for label, run in runs.items():
        deltas = changes(label)
        sizes = [float(d.norm() / w.norm()) for d, w in zip(deltas, weights["base"], strict=True)]
        highest = run.plan.method.rank if label in CONFIGS else min(deltas[0].shape)
        middle = statistics.mean(map(effective_rank, deltas))
        print(f"{label:<20} {highest:6d} {middle:14.1f} {statistics.mean(sizes):11.2%}")
        spectra[label] = torch.linalg.svdvals(deltas[-1])[:highest]

    _, axes = plt.subplots(figsize=(7.5, 3.4))
    for label, values in spectra.items():
        axes.plot(range(1, len(values) + 1), values, ".-", markersize=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel="direção, da mais forte à mais fraca", ylabel="valor singular de ΔW")  # fmt: skip
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** O posto é quantas direções o adaptador **pode** usar; o posto efetivo, quantas ele usou. Nos postos altos a distância entre os dois é grande: o resto da capacidade foi paga e ficou quase parada. Compare as duas linhas do posto mais alto: só a escala muda, e com $\alpha/r$ a correção fica muito menor que com $\alpha/\sqrt r$; é o freio de que falávamos. No ajuste completo, cada peso anda pouquíssimo, mas todos andam, e a mudança se espalha por mais direções. Uma configuração de posto 1 tem posto efetivo 1, sempre: se a sua mostra outra coisa, confira a entropia.

# %% [markdown]
# ## 5. Dois adaptadores, uma base
#
# Escolhida a configuração, um adaptador para cada cliente, com mais passos.

# %%
from toolkit import save

CHOSEN = LoRA(4, alpha=16, targets="all-linear")  # "todas", com o posto do orçamento
clients = {"cláusulas": (contracts, clause_steps), "atendimento": (tangerina, shop_steps)}
for label, (task, steps) in clients.items():
    run = run_of(label, CHOSEN, task.train, steps, RATE)
    size = save(run.model, f"runs/04_adaptador_{label}")
    print(f"{label}: {run.seconds:.0f} s, adaptador de {size / 2**20:.2f} MiB")
    del run
base_size = sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))
print(f"modelo base: {base_size / 2**20:.0f} MiB")

# %% [markdown]
# Para servir os dois clientes, o modelo é carregado **uma** vez. Cada camada adaptada guarda os dois pares $A, B$, e um deles está ativo. É o próximo exercício.


# %% cellView="form"
# @title Desenho: uma camada, dois adaptadores e uma chave
def draw_bank():
    _, axes = plt.subplots(figsize=(8.5, 3.6))
    axes.set(xlim=(0, 12), ylim=(0, 6))
    axes.axis("off")
    frozen, line = "#d9dde3", "#444"

    def box(x, y, width, height, text, color):
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor=line))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)

    def arrow(x0, y0, x1, y1, style="-"):
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": line, "ls": style})

    axes.text(0.1, 3, "$x$", fontsize=14, va="center")
    box(3, 4.4, 4.6, 1.3, "$W_0$ (congelado)", frozen)
    arrow(0.5, 3.1, 2.9, 5)
    arrow(7.7, 5, 10.3, 3.2)
    for y, name, color, style in ((2.5, "cláusulas", "#f4a259", "-"), (0.4, "atendimento", "#8ab0ab", ":")):
        box(3, y, 1.9, 1.1, f"$A$ {name}", color)
        box(5.7, y, 1.9, 1.1, f"$B$ {name}", color)
        arrow(0.5, 2.9, 2.9, y + 0.55, style)
        arrow(4.95, y + 0.55, 5.65, y + 0.55, style)
        arrow(7.7, y + 0.55, 10.3, 2.9, style)
    axes.text(8.5, 1.2, "desligado", rotation=37, fontsize=9, color=line)
    axes.text(10.6, 3, "+", fontsize=14, ha="center", va="center", bbox={"boxstyle": "circle", "facecolor": "white"})  # fmt: skip
    arrow(10.95, 3, 11.8, 3)
    plt.show()


draw_bank()

# %% [markdown]
# ### Exercício 5: `LoRABank`
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos (2 por guardar e trocar, 2 pela igualdade com a `peft`)
#
# Complete a classe: uma camada congelada e vários adaptadores, um ativo por vez.
#
# - `add(name, A, B, scaling)` guarda um adaptador, que **não** fica ativo; um nome repetido lança `ValueError`. Os adaptadores podem ter postos diferentes.
# - `use(name)` ativa um adaptador; `use(None)`, nenhum; um nome desconhecido lança `KeyError` e não muda o ativo. Trocar não copia nem muda peso nenhum: é por isso que leva microssegundos.
# - `forward(x)`: a saída da camada congelada mais, se há adaptador ativo, `scaling · B(A x)`.


# %% nbgrader={"grade_id": "banco", "solution": true}
class LoRABank(nn.Module):
    """Uma nn.Linear congelada, `base`, com muitos adaptadores LoRA; um deles ativo, ou nenhum."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.active = None
        ### BEGIN SOLUTION
        self.adapters = {}
        ### END SOLUTION

    def add(self, name, A, B, scaling):
        """Guarda o adaptador `name`: A (r, k), B (d, r) e a sua escala."""
        ### BEGIN SOLUTION
        if name in self.adapters:
            raise ValueError(f"Já há um adaptador chamado {name!r}.")
        self.adapters[name] = (A, B, scaling)
        ### END SOLUTION

    def use(self, name):
        """Troca a quente: ativa o adaptador `name`, ou nenhum, se None."""
        ### BEGIN SOLUTION
        if name is not None and name not in self.adapters:
            raise KeyError(name)
        self.active = name
        ### END SOLUTION

    def forward(self, x):
        """Entrada (..., k), saída (..., d)."""
        ### BEGIN SOLUTION
        if self.active is None:
            return self.base(x)
        A, B, scaling = self.adapters[self.active]
        return self.base(x) + scaling * (x @ A.T @ B.T)
        ### END SOLUTION


# %% nbgrader={"grade_id": "banco_troca_teste", "points": 2}
bank = LoRABank(dense(6, 4))
(A1, B1), (A2, B2) = factors(6, 4, 2, seed=1), factors(6, 4, 3, seed=2)
bank.add("um", A1, B1, 0.5)
bank.add("dois", A2, B2, 2.0)
x, plain = gaussian(5, 6, seed=3), dense(6, 4)
with torch.no_grad():
    assert torch.equal(bank(x), plain(x)), "Guardar um adaptador não o ativa: a saída ainda é a da camada."
    bank.use("dois")
    assert torch.allclose(bank(x), plain(x) + 2.0 * x @ A2.T @ B2.T, atol=1e-5), (
        "Com 'dois' ativo, some 2.0 · B(A x)."
    )
    bank.use("um")
    assert torch.allclose(bank(x), plain(x) + 0.5 * x @ A1.T @ B1.T, atol=1e-5), (
        "Trocado para 'um', a correção é a dele, e só a dele."
    )
### BEGIN HIDDEN TESTS
with torch.no_grad():
    for wrong, kind in (("três", KeyError), ("", KeyError)):
        try:
            bank.use(wrong)
        except kind:
            pass
        else:
            raise AssertionError("use com um nome que não existe deve lançar KeyError.")
    assert torch.allclose(bank(x), plain(x) + 0.5 * x @ A1.T @ B1.T, atol=1e-5), (
        "Um nome desconhecido não pode mudar o adaptador ativo."
    )
    try:
        bank.add("um", A2, B2, 1.0)
    except ValueError:
        pass
    else:
        raise AssertionError("add com um nome repetido deve lançar ValueError.")
    assert torch.allclose(bank(x), plain(x) + 0.5 * x @ A1.T @ B1.T, atol=1e-5), (
        "Um add recusado não pode mudar o adaptador que já existia."
    )
    for name in ("dois", "um", None, "dois", None) * 20:
        bank.use(name)
    assert torch.equal(bank(x), plain(x)), (
        "Depois de muitas trocas, use(None) devolve exatamente a camada original."
    )
    assert torch.equal(bank.base.weight, plain.weight), "Trocar de adaptador não pode mexer no peso da base."
    batch = gaussian(2, 3, 6, seed=4)
    bank.use("dois")
    assert torch.allclose(bank(batch), plain(batch) + 2.0 * batch @ A2.T @ B2.T, atol=1e-5), (
        "A camada falha com lotes de três dimensões."
    )
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "banco_peft_teste", "points": 2}
layer, tensors = peft_layer(6, 4, ranks=[2, 3], alpha=4)
bank = LoRABank(dense(6, 4))
for name, (A, B, scaling) in tensors.items():
    bank.add(name, A, B, scaling)
x = gaussian(5, 6, seed=5)
with torch.no_grad():
    for name in tensors:
        layer.set_adapter(name)
        bank.use(name)
        assert torch.allclose(bank(x), layer(x), atol=1e-5), f"A saída difere da da peft com {name!r} ativo."
### BEGIN HIDDEN TESTS
with torch.no_grad():
    for k, d, ranks, alpha, seed in ((9, 5, [1, 4, 2], 8, 41), (4, 11, [3, 3], 1, 42)):
        layer, tensors = peft_layer(k, d, ranks, alpha, bias=True, seed=seed)
        bank = LoRABank(dense(k, d, bias=True, seed=seed))
        for name, (A, B, scaling) in tensors.items():
            bank.add(name, A, B, scaling)
        batch = gaussian(2, 4, k, seed=seed)
        for name in [*tensors, *reversed(tensors)]:
            layer.set_adapter(name)
            bank.use(name)
            assert torch.allclose(bank(batch), layer(batch), rtol=1e-4, atol=1e-4), (
                "A saída difere da da peft com outros postos, alphas, bias ou ordem de trocas."
            )
### END HIDDEN TESTS

# %% [markdown]
# Agora no modelo de verdade, com a `peft` por baixo: os dois adaptadores na mesma base, e o relógio.

# %%
from toolkit import load, switch

began = time.perf_counter()
model = base.load()
loading = time.perf_counter() - began
for label in clients:
    model = load(model, f"runs/04_adaptador_{label}", label)
model.eval()

times = []
for place in range(40):
    began = time.perf_counter()
    switch(model, list(clients)[place % 2])
    times.append(time.perf_counter() - began)
print(f"carregar a base de novo: {1000 * loading:8.1f} ms")
print(f"trocar de adaptador:     {1000 * statistics.median(times):8.1f} ms (mediana de {len(times)} trocas)")
memory = {True: 0, False: 0}
for name, p in model.named_parameters():
    memory["lora_" in name] += p.numel() * p.element_size()
print(
    f"\nna memória: base {memory[False] / 2**20:.0f} MiB, os dois adaptadores {memory[True] / 2**20:.1f} MiB"
)

# %%
for label in clients:
    switch(model, label)
    found[label] = examine(model)
print(f"{'adaptador ativo':<16}" + "".join(f"{name:>10}" for name in found["base"]))
for label, figures in found.items():
    print(f"{label:<16}" + "".join(f"{value:10.2f}" for value in figures.values()))
gain = found["cláusulas"]["macro-F1"] - found["base"]["macro-F1"]
print(f"\nganho de macro-F1 com o adaptador das cláusulas: {gain:+.2f}, em {asked} cláusulas de teste")

# %%
from toolkit import answer

for question in (contracts.test[0], tangerina.test[0]):
    print(f"\n{question.prompt.splitlines()[-3][:110]}...\n   esperado:      {question.answer}")
    for label in clients:
        switch(model, label)
        print(f"   {label:<14} {answer(model, base.tokenizer, question.prompt, max_new_tokens=48)}")

# %% [markdown]
# **Leitura do resultado.** A troca leva uma pequena fração do tempo de carregar o modelo, porque não move peso nenhum: só percorre as matrizes adaptadas e muda qual par $A, B$ está ligado. Num modelo grande a distância cresce: há mais bytes para carregar, e não muitas matrizes a mais. Na tabela, a diagonal é o que interessa: quanto cada adaptador melhora a **sua** tarefa. O macro-F1 é o último a subir: os primeiros passos só ensinam o formato, e a perda cai muito antes de o modelo distinguir os tipos. Por isso as cláusulas têm mais passos que o atendimento: na CPU, com um terço a menos, o ganho que medimos não se distinguia da sorte. Fora dela, um adaptador não ajuda o outro cliente, e pode atrapalhar: o das cláusulas responde a um freguês com o nome de um tipo de contrato. Repare também em *quanto* cada medida da loja subiu: a voz da Tina (tom) se aprende em poucos passos, porque é a mesma em todas as respostas; os preços e medidas (fatos) são mais de cem coisas separadas, vistas uma ou duas vezes cada, e não entram. Para fatos que mudam, uma consulta ao catálogo é melhor que qualquer ajuste fino. Se as duas linhas de adaptadores são iguais, `switch` não está trocando.

# %% [markdown]
# ## 6. Os dois no mesmo lote
#
# Trocar em milissegundos ainda obriga a separar os pedidos: um lote de cláusulas, depois um da loja. Um servidor faz melhor. A parte cara, $W_0 x$, é a mesma para todos e se calcula de uma vez; só a correção, fininha, depende do dono de cada linha. É assim que um servidor atende milhares de adaptadores ([Sheng et al., 2023](https://arxiv.org/abs/2311.03285)).

# %% [markdown]
# ### Exercício 6: `mixed_batch`
#
# ★★★★☆ · ◆◆◆◇◇ · 12 minutos · 3 pontos
#
# `mixed_batch(x, weight, adapters, which)` devolve a saída `(n, T, d)` da camada de peso `weight`, `(d, k)`, para um lote `x` de forma `(n, T, k)`. `adapters` é uma lista de trios `(A, B, scaling)`, de postos quaisquer, e `which[i]` é a posição nela do adaptador da linha `i`, ou `None`, se a linha usa a base pura. O produto por `weight` acontece **uma** vez, com o lote inteiro, e cada adaptador, no máximo uma, com as suas linhas.


# %% nbgrader={"grade_id": "lote_misto", "solution": true}
def mixed_batch(x, weight, adapters, which):
    """A saída da camada, cada linha do lote com o seu adaptador."""
    ### BEGIN SOLUTION
    output = x @ weight.T
    for place, (A, B, scaling) in enumerate(adapters):
        rows = [row for row, wanted in enumerate(which) if wanted == place]
        if rows:
            output[rows] += scaling * (x[rows] @ A.T @ B.T)
    return output
    ### END SOLUTION


# %% nbgrader={"grade_id": "lote_misto_teste", "points": 3}
weight, x = gaussian(4, 6, seed=1), gaussian(3, 2, 6, seed=2)
pair = [(*factors(6, 4, 2, seed=3), 0.5), (*factors(6, 4, 1, seed=4), 3.0)]
output = mixed_batch(x, weight, pair, [1, None, 0])
assert tuple(output.shape) == (3, 2, 4), f"A saída tem forma (3, 2, 4); recebi {tuple(output.shape)}."
assert torch.allclose(output[1], x[1] @ weight.T, atol=1e-5), "A linha 1, com None, usa só a base."
for row, (A, B, scaling) in ((0, pair[1]), (2, pair[0])):
    expected = x[row] @ (weight + scaling * B @ A).T
    assert torch.allclose(output[row], expected, rtol=1e-4, atol=1e-4), (
        f"A linha {row} deve usar o seu adaptador, e só ele."
    )
### BEGIN HIDDEN TESTS
for k, d, ranks, alpha, which, seed in (
    (8, 5, [2, 4, 1], 8, [2, 0, None, 1, 0, 2], 51),
    (5, 9, [3, 3], 2, [1, 1, 1], 52),
    (6, 6, [2], 4, [None, None], 53),
):
    layer, tensors = peft_layer(k, d, ranks, alpha, seed=seed)
    rows = gaussian(len(which), 3, k, seed=seed)
    names = ["__base__" if w is None else f"cliente{w}" for w in which]
    weight = dense(k, d, seed=seed).weight.detach()
    with torch.no_grad():
        expected = layer(rows, adapter_names=names)
        output = mixed_batch(rows, weight, list(tensors.values()), which)
    assert torch.allclose(output, expected, rtol=1e-4, atol=1e-4), (
        "A saída difere da do lote misto da peft: confira linhas repetidas, adaptadores sem linha e None."
    )
### END HIDDEN TESTS

# %%
prompts = [contracts.test[1].prompt, tangerina.test[1].prompt] * (1 if reduced else 3)
owners = ["cláusulas", "atendimento"] * (len(prompts) // 2)
from toolkit.data import prompt_text

texts = [prompt_text(base.tokenizer, prompt) for prompt in prompts]
tokens = base.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False).to(model.device)  # fmt: skip


def timed(do):
    """A mediana dos segundos de três execuções de `do`, e o que ela devolveu por último."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.no_grad():
            result = do()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def one_by_one():
    """Um lote por cliente, com uma troca no meio."""
    logits = {}
    for label in clients:
        switch(model, label)
        rows = [row for row, owner in enumerate(owners) if owner == label]
        batch = {name: value[rows] for name, value in tokens.items()}
        logits |= dict(zip(rows, model(**batch, logits_to_keep=1).logits[:, -1], strict=True))
    return torch.stack([logits[row] for row in range(len(owners))])


apart, separate = timed(one_by_one)
together, mixed = timed(lambda: model(**tokens, logits_to_keep=1, adapter_names=owners).logits[:, -1])
print(f"{len(prompts)} pedidos, metade de cada cliente")
print(f"um lote por cliente: {1000 * apart:7.0f} ms")
print(f"um lote misto:       {1000 * together:7.0f} ms")
print(f"maior diferença nos logits: {float((separate - mixed).abs().max()):.1e}")

# %% [markdown]
# **Leitura do resultado.** As saídas são as mesmas, a menos do arredondamento (em float32, algo como 1e-5 em logits de dezenas): é a mesma conta, reagrupada. O tempo quase não muda neste tamanho, porque a CPU já estava cheia com meio lote; numa GPU, que com poucos pedidos fica ociosa, o lote misto pode levar pouco mais que a metade de dois lotes. O ganho maior é outro: ninguém espera a vez do seu cliente. Uma diferença de 0,1 ou mais nos logits quer dizer que alguém recebeu o adaptador errado.

# %% [markdown]
# ## 7. Fundir, e por que não trocar fundindo
#
# Se um modelo vai servir a um cliente só, a correção pode ser **fundida** no peso, e cada camada volta a ser uma conta só. Medimos o que isso rende, e se a resposta muda.

# %%
from toolkit import merge, unmerge

switch(model, "cláusulas")
seconds, before = timed(lambda: model(**tokens, logits_to_keep=1).logits[:, -1])
began = time.perf_counter()
merge(model)
merging = time.perf_counter() - began
merged_seconds, merged = timed(lambda: model(**tokens, logits_to_keep=1).logits[:, -1])
began = time.perf_counter()
unmerge(model)
unmerging = time.perf_counter() - began
_, after = timed(lambda: model(**tokens, logits_to_keep=1).logits[:, -1])
print(f"separado: {1000 * seconds:.0f} ms por lote   fundido: {1000 * merged_seconds:.0f} ms")
print(f"fundir leva {1000 * merging:.0f} ms; separar, {1000 * unmerging:.0f} ms")
print(f"mudança nos logits: fundido {float((merged - before).abs().max()):.1e}, separado de novo {float((after - before).abs().max()):.1e} (pesos em {str(model.dtype).removeprefix('torch.')})")  # fmt: skip

# %% [markdown]
# Em 16 bits a história é outra. Somar $\Delta W$ a um peso em bf16 arredonda; subtrair depois arredonda outra vez, e o peso não volta ao que era. Trocar de cliente *fundindo* parece esperto, porque não custa nada na hora de usar. Quanto isso estraga?

# %% [markdown]
# ### Exercício 7: `swap_merged`
#
# ★★★☆☆ · ◆◆◆◆◇ · 10 minutos · 3 pontos
#
# `swap_merged(weight, old, new)` recebe um peso em que o adaptador `old` está fundido e devolve o peso com `new` fundido no lugar. `old` e `new` são trios `(A, B, scaling)`, ou `None` (nenhum). Faça a conta inteira em fp32, arredonde **uma** vez para o dtype de `weight`, e não mude o tensor recebido.


# %% nbgrader={"grade_id": "trocar_fundido", "solution": true}
def swap_merged(weight, old, new):
    """O peso sem `old` e com `new`, no dtype de `weight`."""
    ### BEGIN SOLUTION
    changed = weight.float()
    for adapter, sign in ((old, -1), (new, 1)):
        if adapter is not None:
            A, B, scaling = adapter
            changed = changed + sign * scaling * (B.float() @ A.float())
    return changed.to(weight.dtype)
    ### END SOLUTION


# %% nbgrader={"grade_id": "trocar_fundido_teste", "points": 3}
weight = gaussian(4, 6, seed=1)
one, two = (*factors(6, 4, 2, seed=2), 0.5), (*factors(6, 4, 3, seed=3), 2.0)
merged = swap_merged(weight, None, one)
assert torch.allclose(merged, weight + 0.5 * one[1] @ one[0], atol=1e-5), (
    "De None para um adaptador: some scaling · B A."
)
other = swap_merged(merged, one, two)
assert torch.allclose(other, weight + 2.0 * two[1] @ two[0], atol=1e-4), (
    "De um adaptador para outro: tire o primeiro e ponha o segundo."
)
assert torch.allclose(swap_merged(other, two, None), weight, atol=1e-4), (
    "De um adaptador para None: volta a base."
)
half = swap_merged(weight.bfloat16(), None, one)
assert half.dtype == torch.bfloat16, f"O dtype é o do peso recebido; recebi {half.dtype}."
### BEGIN HIDDEN TESTS
for dtype, k, d, seed in ((torch.bfloat16, 12, 7, 61), (torch.float16, 5, 9, 62)):
    weight = gaussian(d, k, seed=seed).to(dtype)
    kept = weight.clone()
    first, second = (*factors(k, d, 3, seed=seed), 0.25), (*factors(k, d, 2, seed=seed + 1), 1.5)
    exact = weight.float() - 0.25 * first[1] @ first[0] + 1.5 * second[1] @ second[0]
    swapped = swap_merged(weight, first, second)
    # a ordem das somas em fp32 pode mudar o vizinho para que se arredonda, em poucos elementos
    wrong = (swapped != exact.to(dtype)).float().mean()
    assert float(wrong) < 0.05, (
        "Some e subtraia em fp32, e arredonde uma vez só: arredondar no meio muda o resultado."
    )
    assert torch.equal(weight, kept), "O tensor recebido não pode mudar."
    assert torch.equal(swap_merged(weight, None, None), kept), "De None para None nada muda."
### END HIDDEN TESTS

# %%
from toolkit.adapters import adapter_weights

with needs_exercise(7):
    middle = len(WATCHED) // 2
    original, trained = weights["base"][middle].bfloat16(), {}
    for label in clients:
        switch(model, label)
        tensors = adapter_weights(model)
        A, B = (t.float().cpu() for name, t in tensors.items() if f"{WATCHED[middle]}." in name)
        trained[label] = (A, B, CHOSEN.scaling)
    A, B, scaling = trained["cláusulas"]
    size = float((scaling * B @ A).norm())
    random.seed(0)
    # vinte clientes inventados: os dois treinados, cada vez com as linhas de B em outra ordem
    many = [(A, B[random.sample(range(len(B)), len(B))], s) for A, B, s in [*trained.values()] * 10]
    moments = (1, 10, 20) if reduced else (1, 10, 100, 1000, 2000)
    drifts = {}
    for label, adapters in (("2 clientes, em rodízio", [*trained.values()]), ("20, ao acaso", many)):
        weight, active = original, None
        for swap in range(1, moments[-1] + 1):
            new = adapters[swap % 2] if len(adapters) == 2 else random.choice(adapters)
            weight, active = swap_merged(weight, active, new), new
            if swap in moments:
                back = swap_merged(weight, active, None).float()
                drifts[label, swap] = float((back - original.float()).norm()) / size
    print(f"{WATCHED[middle]}, em bf16: estrago na base, em relação ao que o adaptador aprendeu")
    print(f"{'trocas':>7} {'2 clientes, em rodízio':>24} {'20, ao acaso':>14}")
    for swap in moments:
        print(
            f"{swap:7d} {drifts['2 clientes, em rodízio', swap]:24.1%} {drifts['20, ao acaso', swap]:14.1%}"
        )

# %% [markdown]
# **Leitura do resultado.** Cada troca arredonda todos os pesos. Com dois clientes que se revezam, o estrago aparece logo e **para**: as mesmas duas contas, repetidas, caem sempre nos mesmos arredondamentos. Com muitos clientes, em qualquer ordem, cada troca arredonda para um lado diferente, e o erro cresce como um passeio ao acaso: da centésima à milésima troca, cerca de três vezes. A base de todos mudou sem que ninguém a tenha treinado, e ninguém percebe, porque não há erro. As saídas: manter os adaptadores separados (a troca da seção 5, que não toca na base); ou guardar uma cópia intacta da base e fundir sempre a partir dela. Se as suas colunas ficam em zero, o peso não está sendo arredondado para bf16.

# %% [markdown]
# ## 8. Onde o LoRA fica aquém
#
# O LoRA de posto $r$ não consegue escrever uma mudança de posto maior que $r$. Isso não é defeito de treino, é geometria: pelo teorema de Eckart-Young, o melhor que se pode fazer é ficar com as $r$ direções mais fortes, e a energia das outras fica de fora. Num problema de brinquedo, em que a mudança certa é conhecida, dá para ver o LoRA bater nesse piso.

# %%
size, true_rank = 48, 24
left, right = (torch.linalg.qr(gaussian(size, true_rank, seed=seed))[0] for seed in (1, 2))
values = torch.logspace(0, -1, true_rank)
target = left * values @ right.T
reached = {}
for rank in (1, 2, 4, 8, 16, 24, 32):
    A = nn.Parameter(gaussian(rank, size, seed=3, std=size**-0.5))
    B = nn.Parameter(torch.zeros(size, rank))
    optimizer = torch.optim.Adam([A, B], lr=0.02)
    for _ in range(50 if reduced else 600):
        loss = (B @ A - target).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    reached[rank] = float(loss.detach()) / float(target.square().sum())
floors = {rank: float(values[rank:].square().sum() / values.square().sum()) for rank in reached}
print(f"{'posto':>5} {'sobra depois do treino':>23} {'piso de Eckart-Young':>21}")
for rank, left_over in reached.items():
    print(f"{rank:5d} {left_over:23.2%} {floors[rank]:21.2%}")

_, axes = plt.subplots(figsize=(6.5, 2.8))
axes.plot(list(floors), list(floors.values()), ":", color="#444", label="piso de Eckart-Young")
axes.plot(list(reached), list(reached.values()), "o", color="#f4a259", label="LoRA treinado")
axes.axvline(true_rank, color="#d9dde3")
axes.set(xscale="log", xticks=list(floors), xticklabels=list(floors), xlabel="posto do LoRA", ylabel="sobra")
axes.minorticks_off()
axes.yaxis.set_major_formatter("{x:.0%}")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** A mudança certa tem posto 24. Até lá, a sobra do treino para no piso, e mais passos não adiantam; a partir de 24, vai a zero. É o sinal a procurar num treino de verdade: uma perda que **estaciona** acima da do ajuste completo, e que desce quando o posto sobe. Se as duas colunas não batem nas primeiras linhas, o treino não terminou.
#
# E nas nossas tarefas? A linha do ajuste completo já está na varredura (seção 3), treinada com os mesmos dados e os mesmos passos. Falta uma conta: quanto cada método guarda por cliente, e quanto custa treinar.

# %%
from toolkit.vram import GIB, estimate

best_lora = min(CONFIGS, key=lambda label: statistics.mean(losses[label]))
print(f"{'':<20} {'perda':>7} {'s/passo':>8} {'memória prevista':>17} {'por cliente, em disco':>22}")
for label in (best_lora, "completo"):
    run = runs[label]
    peak = estimate(run.plan.change(seq_len=160)).allocated.value / GIB
    print(f"{label:<20} {statistics.mean(losses[label]):7.3f} {run.seconds / run.steps:8.2f} {peak:13.2f} GiB {run.adapter_bytes / 2**20:18.1f} MiB")  # fmt: skip
difference = [a - b for a, b in zip(losses[best_lora], losses["completo"], strict=True)]
error = statistics.stdev(difference) / len(difference) ** 0.5
print(f"\nperda do melhor LoRA menos a do completo: {statistics.mean(difference):+.3f} ± {error:.3f}")

# %% [markdown]
# **Leitura do resultado.** O ajuste completo aprende mais por passo onde a tarefa pede muita mudança, e não tem piso de posto. O que ele cobra está nas outras colunas: mais memória, passo mais lento e, por cliente, um modelo inteiro em disco em vez de poucos MiB. Se a última linha mostra uma diferença menor que duas vezes o erro, os dois empatam *nesta* tarefa, com *estes* passos; não é uma lei. Onde a diferença aparece, e cresce com o treino, é em tarefas com muita informação nova (programar, uma língua nova, um catálogo inteiro): [Biderman et al., 2024](https://arxiv.org/abs/2405.09673) mediram postos efetivos de dez a cem vezes maiores que os do LoRA usual, e também que o LoRA **esquece** menos. Na sua tarefa, meça: um modelo pequeno basta para ver se a perda cai quando o posto sobe.

# %% [markdown]
# ## O que fica
#
# - Compare alvos no mesmo **orçamento**, não no mesmo posto; e compare configurações nos **mesmos exemplos**, com o erro-padrão das diferenças. Entre as que empatam, a mais barata.
# - $\alpha/r$ freia os postos altos; $\alpha/\sqrt r$ não. O posto efetivo diz quantas direções foram usadas de fato.
# - Uma base, muitos adaptadores: trocar custa milissegundos, e um lote pode misturar clientes.
# - Fundir tira o custo da hora de usar, e prende a base a um cliente. Em 16 bits, trocar fundindo estraga a base, e com muitos clientes cada vez mais: guarde uma cópia, ou não funda.
# - O LoRA aprende depressa formato e tom, e devagar fatos. Se a perda estaciona acima da do ajuste completo e desce com o posto, o limite é o posto.
#
# Na **aula 05**, o outro lado da conta: a base congelada, em 4 bits.
#
# **Para ler mais:** servir milhares de adaptadores ([Sheng et al., 2023](https://arxiv.org/abs/2311.03285)); rsLoRA ([Kalajdzievski, 2023](https://arxiv.org/abs/2312.03732)); onde o LoRA aprende menos, e esquece menos ([Biderman et al., 2024](https://arxiv.org/abs/2405.09673)).
