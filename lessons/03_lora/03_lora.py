# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # LoRA: adaptar um modelo treinando menos de 1 % dele
#
# Quando uma lei muda, ninguém reescreve o Código Civil: publica-se uma lei curta que diz *o que muda*, e as duas passam a valer juntas. O LoRA (*Low-Rank Adaptation*, [Hu et al., 2021](https://arxiv.org/abs/2106.09685)) faz o mesmo com um modelo de linguagem: os pesos originais ficam congelados, e uma correção pequena é aprendida ao lado deles.
#
# Nesta aula você vai:
#
# 1. congelar um modelo e contar o que sobra para treinar;
# 2. **medir**, por SVD, por que uma correção de **posto** baixo (*low-rank*) costuma bastar;
# 3. escrever o LoRA do zero: a camada, a inicialização, o fator de escala, a injeção no modelo, a fusão;
# 4. conferir, tensor por tensor, que o seu LoRA é igual ao da biblioteca `peft`;
# 5. adaptar um modelo de verdade para reconhecer cláusulas de contrato, e ver o tamanho do que foi aprendido.
#
# **Tempo:** 75 a 90 minutos. **Antes:** PyTorch básico (`nn.Module`, `backward`) e produto de matrizes.
# **Pontos:** 20, em oito exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import math
import warnings

import matplotlib.pyplot as plt
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.exercise import needs_exercise

# Recados das bibliotecas às suas próprias versões futuras.
warnings.filterwarnings("ignore", category=FutureWarning)


def tiny_llama(seed=0, layers=2):
    """Um Llama de brinquedo, de pesos sorteados: a arquitetura do modelo de verdade em 6 mil parâmetros."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True)).eval()


def dense(k, d, bias=False, seed=0):
    """Uma camada linear que leva k números a d números; o peso tem forma (d, k)."""
    torch.manual_seed(seed)
    return nn.Linear(k, d, bias=bias)


def logits(model, ids):
    """A saída do modelo para os tokens `ids`, sem guardar gradientes."""
    with torch.no_grad():
        return model(input_ids=ids).logits


def trainable_names(module):
    """Os nomes dos parâmetros que o otimizador mudaria."""
    return sorted(name for name, p in module.named_parameters() if p.requires_grad)


def fill_lora(module, seed=0):
    """Sorteia todo lora_A e lora_B, como se já tivesse havido treino."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=generator))


# %% [markdown]
# ## 1. Congelar e adaptar
#
# Um modelo pré-treinado já sabe a língua: isso está nos seus milhões de pesos e custou caro. No **ajuste fino completo**, todos eles mudam, e para cada peso o treino guarda também o gradiente e os dois estados do Adam: em fp32, 16 bytes por parâmetro. No **ajuste fino eficiente em parâmetros (PEFT)**, os pesos antigos ficam **congelados** e só se treina um pequeno **adaptador**. Peso congelado não precisa de gradiente nem de estado do otimizador.
#
# Em PyTorch, congelar é uma linha: `p.requires_grad_(False)`.

# %% [markdown]
# ### Exercício 1: congelar e contar
#
# ★☆☆☆☆ · ◆◆◆◆◇ · 5 minutos · 2 pontos
#
# - `freeze(model)` congela todos os parâmetros.
# - `count_parameters(model)` devolve o par `(treináveis, total)`, contando **números**, não tensores.


# %% nbgrader={"grade_id": "congelar", "solution": true}
def freeze(model):
    """Congela todos os parâmetros de `model`."""
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    ### END SOLUTION


def count_parameters(model):
    """Devolve (treináveis, total): quantos números o otimizador mudaria e quantos existem."""
    ### BEGIN SOLUTION
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
    ### END SOLUTION


# %% nbgrader={"grade_id": "congelar_teste", "points": 2}
layer = dense(3, 5, bias=True)
before = count_parameters(layer)
assert tuple(before) == (20, 20), (
    f"Uma camada 3 → 5 com bias tem 3·5 + 5 = 20 números, todos treináveis; recebi {before}."
)
freeze(layer)
assert trainable_names(layer) == [], (
    f"Depois de freeze nada deveria ser treinável; ainda são: {trainable_names(layer)}."
)
assert tuple(count_parameters(layer)) == (0, 20), "Congelar não apaga parâmetros: o total continua o mesmo."
### BEGIN HIDDEN TESTS
for seed, depth in ((11, 1), (12, 3)):
    model = tiny_llama(seed=seed, layers=depth)
    # embeddings (os mesmos da saída), norma final e, por camada, q, k, v, o, gate, up, down e duas normas
    expected_total = 64 * 16 + 16 + depth * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 32 + 2 * 16)
    assert tuple(count_parameters(model)) == (expected_total, expected_total), (
        "A contagem falha num modelo inteiro: some numel(), e um peso compartilhado conta uma vez."
    )
    freeze(model)
    assert tuple(count_parameters(model)) == (0, expected_total), (
        "freeze deve alcançar todos os submódulos do modelo."
    )
    assert "lm_head.weight" in model.state_dict(), "freeze não deve remover parâmetros."
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Por que uma correção de posto baixo basta?
#
# O **posto** (*rank*) de uma matriz é o número de direções independentes que ela usa. Uma matriz $576 \times 576$ pode ter posto de até 576. A aposta do LoRA é sobre a *diferença* entre os pesos depois e antes do ajuste fino, $\Delta W = W_\text{depois} - W_\text{antes}$: ela teria posto efetivo baixo, isto é, poucas direções fariam quase todo o trabalho.
#
# Não é preciso acreditar: dá para medir. A decomposição em valores singulares (SVD) escreve qualquer matriz como uma soma de camadas de posto 1, da mais forte para a mais fraca:
#
# $$\Delta W = \sum_i \sigma_i\, u_i v_i^\top, \qquad \text{energia até o posto } r = \frac{\sigma_1^2 + \dots + \sigma_r^2}{\sum_i \sigma_i^2}.$$
#
# Vamos carregar o modelo de verdade, ajustar **por completo** só as matrizes de consulta (`q_proj`) e de valor (`v_proj`) por alguns passos, e decompor o que mudou.

# %%
import os

from toolkit import base_model, clauses
from toolkit.data import collate, encode_all

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
base = base_model("tiny" if reduced else "")
print(f"Modelo: {base.name} ({base.reason})\n")

task = clauses(DADOS)
print(task.train[0].prompt, "→", task.train[0].answer)

# %% [markdown]
# São cláusulas de contrato em português; o modelo deve dizer de que tipo é cada uma. O treino abaixo mexe em `q_proj` e `v_proj` das seis últimas camadas (as outras ficam congeladas só para caber no tempo da aula). Guardamos o gradiente do primeiro passo e, no fim, a diferença $\Delta W$ de cada matriz.

# %%
model = base.load().float().requires_grad_(False)
weights = [
    module.weight.requires_grad_(True)
    for layer in model.model.layers[-6:]
    for module in (layer.self_attn.q_proj, layer.self_attn.v_proj)
]


def batch(examples):
    encoded = encode_all(base.tokenizer, examples, longest=1024)
    return {
        key: value.to(model.device) for key, value in collate(encoded, base.tokenizer.pad_token_id).items()
    }


steps, size = (2, 2) if reduced else (12, 4)
before = [w.detach().clone() for w in weights]
optimizer = torch.optim.AdamW(weights, lr=3e-4, weight_decay=0)
for step in range(steps):
    loss = model(**batch(task.train[step * size : (step + 1) * size])).loss
    loss.backward()
    if step == 0:
        first_gradient = [w.grad.clone() for w in weights]
    optimizer.step()
    optimizer.zero_grad()
    print(f"passo {step + 1:2d}: perda {loss:.3f}")
delta = [w.detach() - old for w, old in zip(weights, before, strict=True)]

# %% [markdown]
# Primeira medida: quanta energia cabe nas $r$ direções mais fortes? Para comparar, uma matriz sorteada do mesmo tamanho, que não tem direção preferida.


# %%
def energy(matrices, ranks):
    """A fração média da energia que está nas r direções mais fortes, para cada r de `ranks`."""
    squares = [torch.linalg.svdvals(m) ** 2 for m in matrices]
    return [sum(float(s[:r].sum() / s.sum()) for s in squares) / len(squares) for r in ranks]


ranks = [1, 2, 4, 8, 16, 64]
measured = {
    "gradiente do 1º passo": energy(first_gradient, ranks),
    "ΔW depois do treino": energy(delta, ranks),
    "matriz sorteada": energy([torch.randn_like(d) for d in delta], ranks),
}
print(f"{'posto':<24}" + "".join(f"{rank:>8d}" for rank in ranks))
for label, values in measured.items():
    print(f"{label:<24}" + "".join(f"{value:8.1%}" for value in values))

_, axes = plt.subplots(figsize=(6, 3.2))
for label, values in measured.items():
    axes.plot(ranks, values, "o-", label=label)
axes.set(
    xscale="log",
    xticks=ranks,
    xticklabels=ranks,
    ylim=(0, 1.05),
    xlabel="posto r",
    ylabel="energia até o posto r",
)
axes.legend()
plt.show()

# %% [markdown]
# **Leitura do resultado.** O gradiente é quase todo de posto baixo: poucas direções têm mais de nove décimos da energia. Em $\Delta W$ a concentração é menor, porque o Adam divide cada elemento pela sua própria escala e com isso espalha a energia; ainda assim ela está muito acima da matriz sorteada. Se a linha de $\Delta W$ se parecesse com a da matriz sorteada, a aposta do LoRA estaria perdida para este modelo.
#
# Mas energia não é o que interessa: interessa a **perda**. Segunda medida: ficamos só com as $r$ direções mais fortes de cada $\Delta W$, jogamos o resto fora, e vemos quanto da queda da perda sobrevive em cláusulas que o treino não viu.


# %%
def strongest(matrix, rank):
    """A melhor aproximação de posto `rank` (teorema de Eckart-Young): as camadas mais fortes da SVD."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]


held_out = batch(task.validation[: 2 if reduced else 12])
full_rank = min(delta[0].shape)
losses = {}
for rank in [0, *ranks, full_rank]:
    with torch.no_grad():
        for w, old, change in zip(weights, before, delta, strict=True):
            w.copy_(old + strongest(change, rank))
        losses[rank] = float(model(**held_out).loss)

print(f"{'posto':>5} {'perda':>8} {'da queda, sobrevive':>20}")
for rank, value in losses.items():
    kept = (losses[0] - value) / (losses[0] - losses[full_rank])
    print(f"{rank:5d} {value:8.3f} {kept:20.0%}")
del model, weights, optimizer

# %% [markdown]
# **Leitura do resultado.** A linha 0 é o modelo sem ajuste; a última, o ajuste inteiro. Com o SmolLM2 na CPU, uma única direção por matriz guarda três quartos da queda, e quatro guardam mais de nove décimos, embora tenham menos da energia: o que se perde na cauda quase não serve à tarefa. É essa a razão do LoRA, e também o seu limite: a medida vale para esta tarefa, pequena e próxima do que o modelo já sabe. Ensinar uma língua nova mudaria muito mais direções. (Se você mexer no treino e a perda final ficar igual à inicial, a última coluna não quer dizer nada: divide por quase zero.)

# %% [markdown]
# ## 3. A fórmula: $\Delta W = BA$
#
# Se poucas direções bastam, não é preciso aprender os $d \cdot k$ números de $\Delta W$. Basta aprender dois fatores finos:
#
# $$\underbrace{\Delta W}_{d \times k} = \underbrace{B}_{d \times r}\; \underbrace{A}_{r \times k}, \qquad r \ll \min(d, k).$$
#
# $A$ lê a entrada e a resume em $r$ números; $B$ leva esses $r$ números de volta às $d$ saídas. O produto nunca tem posto maior que $r$: é a soma de $r$ camadas de posto 1, como a da SVD, só que aprendida.

# %% [markdown]
# ### Exercício 2: quantos parâmetros?
#
# ★☆☆☆☆ · ◆◆◆◇◇ · 3 minutos · 1 ponto
#
# `count_lora_params(d, k, rank)` devolve quantos números há em $A$ e $B$ juntos, para um peso $d \times k$.


# %% nbgrader={"grade_id": "contar_lora", "solution": true}
def count_lora_params(d, k, rank):
    """Quantos parâmetros treináveis o LoRA de posto `rank` põe ao lado de um peso d x k."""
    ### BEGIN SOLUTION
    return rank * (d + k)
    ### END SOLUTION


# %% nbgrader={"grade_id": "contar_lora_teste", "points": 1}
counted = count_lora_params(1000, 1000, 4)
assert counted == 8_000, f"Para 1000 x 1000 e posto 4, B tem 1000·4 números e A tem 4·1000; recebi {counted}."
counted = count_lora_params(576, 192, 8)
assert counted == 6_144, f"A matriz nem sempre é quadrada: 576 x 192 com posto 8 dá 6144; recebi {counted}."
### BEGIN HIDDEN TESTS
import random

for _ in range(20):
    size_out, size_in, r = random.randint(2, 5000), random.randint(2, 5000), random.randint(1, 64)
    parts = torch.empty(size_out, r).numel() + torch.empty(r, size_in).numel()
    assert count_lora_params(size_out, size_in, r) == parts, (
        "A contagem falha para outros tamanhos: conte B (d x r) e A (r x k)."
    )
### END HIDDEN TESTS

# %%
d = k = 1000
ranks = [1, 2, 4, 8, 16, 64, 256, 500]
with needs_exercise(2):
    print(f"{'posto':>5} {'LoRA':>10} {'matriz inteira':>15} {'fração':>8}")
    for rank in ranks:
        small = count_lora_params(d, k, rank)
        print(f"{rank:5d} {small:10_d} {d * k:15_d} {small / (d * k):8.1%}")

# %% [markdown]
# **Leitura do resultado.** Com posto 4 são 8.000 números no lugar de 1.000.000: 0,8 %. A conta cresce em linha reta com o posto, e em $r = 500$, metade do lado da matriz, acaba a vantagem: $A$ e $B$ somam tantos números quanto a matriz inteira. Se a sua coluna "fração" não cruza 100 % nesse ponto, reveja a fórmula.

# %% [markdown]
# ## 4. A camada LoRA
#
# A camada guarda o peso original $W_0$, congelado, e soma a correção na saída:
#
# $$h = W_0 x + \frac{\alpha}{r}\, B A x$$
#
# Três decisões de projeto estão escondidas aí:
#
# - **Inicialização.** $A$ começa com números aleatórios pequenos e $B$ começa em **zero**. Logo $BA = 0$: no primeiro instante o modelo adaptado é *exatamente* o modelo original.
# - **Fator de escala** $\alpha / r$. Sem ele, trocar o posto mudaria também o tamanho da correção, e a taxa de aprendizado teria de ser procurada de novo.
# - **Ordem da conta.** Calcula-se $B(Ax)$, nunca $(BA)x$: o produto $BA$ seria uma matriz $d \times k$ inteira.

# %% [markdown]
# ### Exercício 3: `LoRALinear`
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos (2 pela construção, 2 pela passagem direta)
#
# Complete a classe. Use os nomes da `peft`: `lora_A` e `lora_B` são `nn.Linear` sem `bias`, de modo que `lora_A.weight` tem forma `(rank, k)` e `lora_B.weight`, `(d, rank)`. Em `__init__`: congele `base`, crie `lora_A` (aleatória) e `lora_B` (zero) e guarde `scaling`. Em `forward`: a fórmula acima. O atributo `merged` só será usado no exercício 5.


# %% nbgrader={"grade_id": "lora_linear", "solution": true}
class LoRALinear(nn.Module):
    """Uma nn.Linear congelada, `base`, mais a correção treinável (alpha / rank) · B A."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base = base
        self.merged = False
        ### BEGIN SOLUTION
        freeze(base)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        self.scaling = alpha / rank
        ### END SOLUTION

    def forward(self, x):
        """Entrada (..., k), saída (..., d)."""
        if self.merged:
            return self.base(x)
        ### BEGIN SOLUTION
        return self.base(x) + self.scaling * self.lora_B(self.lora_A(x))
        ### END SOLUTION


# %% nbgrader={"grade_id": "lora_linear_inicio_teste", "points": 2}
layer = LoRALinear(dense(6, 4), rank=2, alpha=8)
assert tuple(layer.lora_A.weight.shape) == (2, 6), "lora_A leva k números a rank: o peso tem forma (rank, k)."
assert tuple(layer.lora_B.weight.shape) == (4, 2), "lora_B leva rank números a d: o peso tem forma (d, rank)."
assert trainable_names(layer) == ["lora_A.weight", "lora_B.weight"], (
    f"Só A e B podem ser treináveis (sem bias); agora são: {trainable_names(layer)}."
)
assert bool((layer.lora_B.weight == 0).all()), "lora_B deve começar em zero."
assert float(layer.lora_A.weight.detach().std()) > 0, (
    "lora_A deve começar com números aleatórios, não iguais."
)
assert math.isclose(layer.scaling, 4.0), f"scaling é alpha / rank = 8 / 2 = 4; recebi {layer.scaling}."
### BEGIN HIDDEN TESTS
original = dense(40, 24, bias=True, seed=5).weight
layer = LoRALinear(dense(40, 24, bias=True, seed=5), rank=10, alpha=5)
assert math.isclose(layer.scaling, 0.5), "scaling deve ser alpha / rank para quaisquer alpha e rank."
assert tuple(layer.lora_A.weight.shape) == (10, 40) and tuple(layer.lora_B.weight.shape) == (24, 10), (
    "As formas de A e B devem seguir k, d e rank."
)
assert bool((layer.lora_B.weight == 0).all()), "lora_B deve começar em zero para qualquer tamanho."
assert trainable_names(layer) == ["lora_A.weight", "lora_B.weight"], (
    "O bias da camada original também fica congelado."
)
assert torch.equal(layer.base.weight, original), "O peso original não pode mudar na construção."
assert len(layer.lora_A.weight.unique()) > 300, "lora_A deve ser sorteada elemento a elemento."
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "lora_linear_passagem_teste", "points": 2}
layer = LoRALinear(dense(6, 4), rank=2, alpha=8)
x = torch.randn(3, 6)
assert torch.equal(layer(x), dense(6, 4)(x)), "Com B = 0 a saída deve ser exatamente a da camada original."
fill_lora(layer)
expected = dense(6, 4)(x) + (8 / 2) * x @ layer.lora_A.weight.T @ layer.lora_B.weight.T
assert torch.allclose(layer(x), expected, atol=1e-5), "A saída deve ser base(x) + (alpha / rank) · B(A(x))."
### BEGIN HIDDEN TESTS
for size_in, size_out, r, strength in ((10, 7, 3, 1.5), (5, 12, 4, 32)):
    reference = dense(size_in, size_out, bias=True, seed=r)
    layer = LoRALinear(dense(size_in, size_out, bias=True, seed=r), rank=r, alpha=strength)
    fill_lora(layer, seed=r)
    batch = torch.randn(2, 3, size_in)
    delta = strength / r * (layer.lora_B.weight @ layer.lora_A.weight)
    target = batch @ (reference.weight + delta).T + reference.bias
    # os mesmos produtos em outra ordem: em float32 mudam as últimas casas
    assert torch.allclose(layer(batch), target, rtol=1e-4, atol=1e-4), (
        "A passagem direta falha com bias, lotes de três dimensões ou outros alpha e rank."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Por que $B$ começa em zero, e $A$ não?
#
# Experimente as três escolhas possíveis numa camada e olhe a primeira retropropagação.


# %%
def first_step(init_a, init_b):
    """Quanto a saída muda antes do treino, e a norma do primeiro gradiente de A e de B."""
    layer = LoRALinear(dense(64, 64), rank=4, alpha=8)
    nn.init.normal_(layer.lora_A.weight, std=init_a)
    nn.init.normal_(layer.lora_B.weight, std=init_b)
    torch.manual_seed(1)
    x, target = torch.randn(256, 64), torch.randn(256, 64)
    output = layer(x)
    (output - target).square().mean().backward()
    change = (output - layer.base(x)).abs().max()
    return change.item(), layer.lora_A.weight.grad.norm().item(), layer.lora_B.weight.grad.norm().item()


with needs_exercise(3):
    print(f"{'início':<22} {'mudança na saída':>17} {'|grad A|':>9} {'|grad B|':>9}")
    for label, init_a, init_b in (
        ("A sorteada, B = 0", 0.1, 0),
        ("A = 0, B = 0", 0, 0),
        ("A e B sorteadas", 0.1, 0.1),
    ):
        print("{:<22} {:17.4f} {:9.4f} {:9.4f}".format(label, *first_step(init_a, init_b)))

# %% [markdown]
# **Leitura do resultado.** Primeira linha: a saída não muda (0) e $B$ recebe gradiente; no passo seguinte $B \neq 0$ e $A$ também passa a receber. Segunda linha: os dois gradientes são zero, porque o gradiente de um fator é multiplicado pelo outro; essa camada nunca aprenderia. Terceira linha: há gradiente para os dois, mas o modelo já começa estragado por uma correção aleatória. Se a sua primeira linha mostra mudança na saída, `lora_B` não começou em zero.

# %% [markdown]
# ### Para que serve $\alpha / r$?
#
# Damos **um** passo de Adam, sempre com a mesma taxa, a camadas de postos diferentes, com e sem a divisão por $r$, e medimos quanto a saída mudou.


# %%
def change_after_one_step(rank, alpha):
    """Quanto um passo de Adam muda a saída, em média sobre vinte sorteios."""
    changes = []
    for seed in range(2 if reduced else 20):
        layer = LoRALinear(dense(256, 256, seed=seed), rank=rank, alpha=alpha)
        x, target = torch.randn(1, 256), torch.randn(1, 256)
        optimizer = torch.optim.Adam([layer.lora_A.weight, layer.lora_B.weight], lr=1e-3)
        (layer(x) - target).square().mean().backward()
        optimizer.step()
        changes.append((layer(x) - layer.base(x)).norm().item())
    return sum(changes) / len(changes)


with needs_exercise(3):
    print(f"{'posto':>5} {'escala 1 (alpha = r)':>21} {'escala 8/r (alpha = 8)':>23}")
    for rank in (2, 8, 32, 128):
        print(f"{rank:5d} {change_after_one_step(rank, rank):21.3f} {change_after_one_step(rank, 8):23.3f}")

# %% [markdown]
# **Leitura do resultado.** Sem a divisão, 64 vezes mais posto dá um passo dezenas de vezes maior; com $\alpha$ fixo e a divisão por $r$, o passo fica quase igual. Por isso se pode variar o posto sem procurar outra taxa de aprendizado. (Postos muito altos pedem menos freio: a variante rsLoRA divide por $\sqrt r$.) Se as duas colunas crescem juntas, falta `scaling` no seu `forward`.

# %% [markdown]
# ## 5. Injetar no modelo
#
# Onde pôr os adaptadores? O artigo original escolheu as matrizes de consulta e de valor da atenção, `q_proj` e `v_proj`: são os nossos **módulos-alvo**. O desenho mostra um bloco do Transformer com os adaptadores no lugar; cinza é congelado, laranja é treinado.


# %% cellView="form"
# @title Desenho: o bloco do Transformer com os adaptadores
def draw_block():
    _, axes = plt.subplots(figsize=(9, 6.2))
    axes.set(xlim=(0, 12), ylim=(0, 11.4))
    axes.axis("off")
    frozen, trained, line, middle = "#d9dde3", "#f4a259", "#444", 5.6

    def box(x, y, width, text, color=frozen, height=0.8):
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor=line))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    def arrow(x0, y0, x1, y1):
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": line})

    def residual(y0, y1):
        axes.plot([middle, 0.3, 0.3], [y0, y0, y1], color=line, linestyle=":")
        arrow(0.3, y1, middle - 0.35, y1)
        circle = {"boxstyle": "circle", "facecolor": "white"}
        axes.text(middle, y1, "+", ha="center", va="center", fontsize=13, bbox=circle)

    axes.text(middle, 0.1, "entrada do bloco: um vetor por token", ha="center")
    box(middle - 1.5, 1.1, 3, "RMSNorm")
    for x, name in ((0.9, "q_proj"), (4.8, "k_proj"), (7.5, "v_proj")):
        arrow(middle, 1.9, x + 0.8, 2.8)
        box(x, 2.8, 1.6, f"{name}\n$W_0$", height=1.2)
        arrow(x + 0.8, 4.0, middle, 4.7)
        if name != "k_proj":
            axes.text(x + 1.8, 3.4, "+", ha="center", va="center", fontsize=13)
            arrow(middle, 1.9, x + 2.7, 2.8)
            box(x + 2, 2.8, 1.4, "$A$: $r × k$", trained, height=0.45)
            arrow(x + 2.7, 3.25, x + 2.7, 3.55)
            box(x + 2, 3.55, 1.4, "$B$: $d × r$", trained, height=0.45)
    box(middle - 2.2, 4.7, 4.4, "atenção: softmax$(QK^\\top)\\,V$")
    box(middle - 0.8, 5.8, 1.6, "o_proj")
    box(middle - 1.5, 7.8, 3, "RMSNorm")
    box(middle - 2.7, 8.9, 5.4, "MLP: gate_proj, up_proj, down_proj")
    for y0, y1 in ((0.5, 1.1), (5.5, 5.8), (6.6, 7.0), (7.5, 7.8), (8.6, 8.9), (9.7, 10.1), (10.6, 11.2)):
        arrow(middle, y0, middle, y1)
    residual(0.8, 7.25)
    residual(7.65, 10.35)
    for y, color, text in ((10.4, frozen, "congelado"), (9.8, trained, "treinado (LoRA)")):
        box(9, y, 0.5, "", color, 0.4)
        axes.text(9.7, y + 0.2, text, va="center")
    plt.show()


draw_block()

# %% [markdown]
# ### Exercício 4: `inject`
#
# ★★★★☆ · ◆◆◆◆◆ · 15 minutos · 3 pontos
#
# `inject(model, targets, rank, alpha)` congela o modelo inteiro e troca por `LoRALinear` cada `nn.Linear` cujo nome, depois do último ponto, **é igual** a um dos alvos. Devolve quantas trocou; se nenhuma, lança `ValueError` (um erro de digitação em `targets` não pode passar em silêncio).
#
# *Dicas:* `model.named_modules()` dá os nomes completos, como `model.layers.0.self_attn.q_proj`; anote-os antes de trocar, porque a troca muda a árvore que você está percorrendo. `model.get_submodule(nome)` e `setattr(pai, filho, novo)` fazem o resto.


# %% nbgrader={"grade_id": "injetar", "solution": true}
def inject(model, targets, rank, alpha):
    """Põe um LoRALinear no lugar de cada nn.Linear chamada como um dos `targets`; devolve quantas trocou."""
    ### BEGIN SOLUTION
    freeze(model)
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in targets
    ]
    if not found:
        raise ValueError(f"Nenhuma camada linear se chama {' ou '.join(targets)}.")
    for name in found:
        parent, _, child = name.rpartition(".")
        holder = model.get_submodule(parent)
        setattr(holder, child, LoRALinear(getattr(holder, child), rank, alpha))
    return len(found)
    ### END SOLUTION


# %% nbgrader={"grade_id": "injetar_teste", "points": 3}
ids = torch.randint(0, 64, (2, 7))
model = tiny_llama()
before = logits(model, ids)
replaced = inject(model, ["q_proj", "v_proj"], rank=2, alpha=4)
assert replaced == 4, f"Duas camadas com q_proj e v_proj: são 4 trocas; recebi {replaced}."
names = trainable_names(model)
assert names and all("lora_" in name for name in names), (
    f"Só A e B podem ser treináveis depois de inject; achei {names[:4]}."
)
assert len(names) == 8, (
    f"São 4 camadas adaptadas, cada uma com A e B; achei {len(names)} parâmetros treináveis."
)
assert torch.equal(logits(model, ids), before), (
    "Com B = 0, o modelo adaptado responde exatamente como o original."
)
### BEGIN HIDDEN TESTS
for targets, depth, sizes in (
    (["k_proj", "o_proj"], 3, [(8, 16), (16, 16)]),
    (("up_proj", "down_proj", "q_proj"), 1, [(32, 16), (16, 32), (16, 16)]),
):
    model = tiny_llama(seed=depth, layers=depth)
    before = logits(model, ids)
    assert inject(model, targets, rank=3, alpha=6) == depth * len(targets), (
        "inject deve trocar exatamente os alvos pedidos, em todas as camadas."
    )
    names = trainable_names(model)
    assert len(names) == 2 * depth * len(targets), "Só A e B de cada alvo podem ser treináveis."
    assert all(any(f".{target}.lora_" in name for target in targets) for name in names), (
        "Os adaptadores ficam dentro dos módulos-alvo, e só neles."
    )
    state = model.state_dict()
    assert sum(state[name].numel() for name in names) == depth * sum(3 * (a + b) for a, b in sizes), (
        "As formas de A e B devem seguir cada alvo."
    )
    assert torch.equal(logits(model, ids), before), "A injeção não pode mudar a resposta do modelo."
    fill_lora(model, seed=7)
    assert not torch.allclose(logits(model, ids), before, atol=1e-3), (
        "Com B diferente de zero, a correção deve chegar à saída do modelo."
    )
for wrong in (["proj"], ["q_prj"], ["self_attn"]):
    try:
        inject(tiny_llama(), wrong, rank=2, alpha=4)
    except ValueError:
        continue
    raise AssertionError("inject deve lançar ValueError quando nenhuma nn.Linear tem exatamente aquele nome.")
### END HIDDEN TESTS

# %% [markdown]
# ## 6. Fundir e separar
#
# Na hora de usar o modelo, a correção pode ser **fundida** no peso, $W = W_0 + \frac{\alpha}{r} BA$, e então LoRA não custa nem um microssegundo a mais. Subtraindo a mesma quantia, volta-se ao original, e é assim que se troca de adaptador.

# %% [markdown]
# ### Exercício 5: `merge` e `unmerge`
#
# ★★★☆☆ · ◆◆◆◇◇ · 10 minutos · 3 pontos
#
# `merge(layer)` soma a correção a `layer.base.weight` e marca `layer.merged = True`; `unmerge(layer)` desfaz. Fundir uma camada já fundida não faz nada, e separar uma já separada também não. A saída da camada não muda em nenhum momento. *Dica:* mexer num peso fora do treino pede `torch.no_grad()`.


# %% nbgrader={"grade_id": "fundir", "solution": true}
def merge(layer):
    """Soma (alpha / rank) · B A ao peso de `layer.base`; chamar outra vez não muda nada."""
    ### BEGIN SOLUTION
    if not layer.merged:
        with torch.no_grad():
            layer.base.weight += layer.scaling * layer.lora_B.weight @ layer.lora_A.weight
        layer.merged = True
    ### END SOLUTION


def unmerge(layer):
    """Desfaz merge; numa camada separada não muda nada."""
    ### BEGIN SOLUTION
    if layer.merged:
        with torch.no_grad():
            layer.base.weight -= layer.scaling * layer.lora_B.weight @ layer.lora_A.weight
        layer.merged = False
    ### END SOLUTION


# %% nbgrader={"grade_id": "fundir_teste", "points": 3}
layer = LoRALinear(dense(6, 4), rank=2, alpha=8)
fill_lora(layer)
x = torch.randn(5, 6)
before, original = layer(x).detach(), dense(6, 4).weight.detach()
merge(layer)
assert layer.merged, "merge deve marcar layer.merged = True."
expected = original + 4 * layer.lora_B.weight @ layer.lora_A.weight
assert torch.allclose(layer.base.weight, expected, atol=1e-5), "O peso fundido é W0 + (alpha / rank) · B A."
assert torch.allclose(layer(x), before, atol=1e-4), "Fundir não muda a saída da camada."
unmerge(layer)
assert not layer.merged, "unmerge deve marcar layer.merged = False."
assert torch.allclose(layer.base.weight, original, atol=1e-5), "unmerge deve devolver o peso original."
### BEGIN HIDDEN TESTS
for size_in, size_out, r, strength in ((9, 5, 3, 4), (4, 11, 2, 1)):
    layer = LoRALinear(dense(size_in, size_out, bias=True, seed=r), rank=r, alpha=strength)
    fill_lora(layer, seed=size_in)
    batch = torch.randn(4, size_in)
    separate, weight = layer(batch).detach(), dense(size_in, size_out, bias=True, seed=r).weight.detach()
    factors = layer.lora_A.weight.detach().clone(), layer.lora_B.weight.detach().clone()
    unmerge(layer)
    assert torch.equal(layer.base.weight, weight), (
        "Separar uma camada que não está fundida não deve mudar nada."
    )
    merge(layer), merge(layer), merge(layer)
    merged = weight + strength / r * factors[1] @ factors[0]
    # somar e depois subtrair o mesmo número em float32 arredonda duas vezes
    assert torch.allclose(layer.base.weight, merged, atol=1e-5), (
        "Fundir três vezes deve ser o mesmo que fundir uma."
    )
    assert torch.allclose(layer(batch), separate, atol=1e-4), "A saída fundida deve ser igual à separada."
    unmerge(layer), unmerge(layer)
    assert torch.allclose(layer.base.weight, weight, atol=1e-5), (
        "Separar duas vezes deve ser o mesmo que separar uma."
    )
    assert torch.equal(layer.lora_A.weight, factors[0]) and torch.equal(layer.lora_B.weight, factors[1]), (
        "A e B devem sobreviver à fusão, para poder separar."
    )
    assert torch.allclose(layer(batch), separate, atol=1e-4), (
        "Depois de separar, a camada volta a somar a correção na saída."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 7. A prova: igual à `peft`
#
# A `peft` é a biblioteca que você usará no trabalho. Se o seu LoRA está certo, então com **os mesmos** $A$ e $B$ os dois modelos dão a mesma saída. Falta levar os números de um para o outro.

# %% [markdown]
# ### Exercício 6: `load_peft_adapter`
#
# ★★★☆☆ · ◆◆◆◆◇ · 10 minutos · 2 pontos
#
# A `peft` guarda um adaptador como um dicionário de tensores, com nomes assim:
#
# `base_model.model.` + `model.layers.0.self_attn.q_proj.lora_A.weight`
#
# Tirado o prefixo, são os nomes do seu modelo. `load_peft_adapter(model, adapter)` copia cada tensor para o seu lugar e lança `KeyError` se algum nome não existir em `model`. *Dica:* `load_state_dict(..., strict=False)` ignora **em silêncio** os nomes que não conhece; confira antes.


# %% nbgrader={"grade_id": "igualar_peft", "solution": true}
def load_peft_adapter(model, adapter):
    """Copia um adaptador LoRA da peft (nome -> tensor) para um modelo que passou por `inject`."""
    ### BEGIN SOLUTION
    own = {name.removeprefix("base_model.model."): tensor for name, tensor in adapter.items()}
    unknown = own.keys() - model.state_dict().keys()
    if unknown:
        raise KeyError(f"O modelo não tem {sorted(unknown)[0]}.")
    model.load_state_dict(own, strict=False)
    ### END SOLUTION


# %% nbgrader={"grade_id": "igualar_peft_teste", "points": 2}
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict


def peft_answer(model, ids, targets, rank, alpha, seed):
    """O adaptador sorteado e a saída do mesmo modelo com o LoRA da peft."""
    twin = LlamaForCausalLM(LlamaConfig(**model.config.to_dict()))
    twin.load_state_dict(model.state_dict())
    twin = get_peft_model(twin.eval(), LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in twin.named_parameters():
            if "lora_" in name:
                p.normal_()
        return get_peft_model_state_dict(twin), twin(input_ids=ids).logits


ids = torch.randint(0, 64, (2, 9))
mine = tiny_llama()
adapter, reference = peft_answer(mine, ids, ["q_proj", "v_proj"], rank=4, alpha=8, seed=1)
inject(mine, ["q_proj", "v_proj"], rank=4, alpha=8)
load_peft_adapter(mine, adapter)
difference = float((logits(mine, ids) - reference).abs().max())
# os mesmos produtos na mesma ordem: em float32 sobra nada, ou a última casa
assert difference < 1e-5, (
    f"As saídas diferem em {difference:.2e}: confira se A, B e a escala chegaram ao lugar certo."
)
print(f"Maior diferença entre o seu LoRA e o da peft: {difference:.1e}")
### BEGIN HIDDEN TESTS
for targets, r, strength, seed in (
    (["q_proj", "k_proj", "o_proj"], 3, 5, 21),
    (["v_proj", "down_proj"], 2, 16, 22),
):
    mine = tiny_llama(seed=seed, layers=3)
    adapter, reference = peft_answer(mine, ids, targets, r, strength, seed)
    inject(mine, targets, rank=r, alpha=strength)
    load_peft_adapter(mine, adapter)
    gap = float((logits(mine, ids) - reference).abs().max())
    assert gap < 1e-4, "As saídas diferem das da peft para outros módulos-alvo, postos ou alphas."
    state = mine.state_dict()
    for name, tensor in adapter.items():
        assert torch.equal(state[name.removeprefix("base_model.model.")], tensor), (
            "Cada tensor do adaptador deve chegar ao seu lugar sem mudar."
        )
mine = tiny_llama()
stranger, _ = peft_answer(mine, ids, ["v_proj"], 2, 4, 0)
inject(mine, ["q_proj"], rank=2, alpha=4)
try:
    load_peft_adapter(mine, stranger)
except KeyError:
    pass
else:
    raise AssertionError("Um adaptador de outros módulos-alvo deve dar KeyError, não passar em silêncio.")
### END HIDDEN TESTS

# %% [markdown]
# **Leitura do resultado.** Espere 0,0 ou algo como 1e-7, o último dígito do float32. Uma diferença de 1e-2 ou mais é erro de verdade: escala esquecida, $A$ e $B$ trocadas ou uma camada que não recebeu os números.

# %% [markdown]
# ## 8. O que vai para o disco
#
# O modelo base não mudou; logo, só é preciso guardar $A$ e $B$. Um mesmo modelo base pode servir dezenas de clientes, cada um com o seu arquivo pequeno.

# %% [markdown]
# ### Exercício 7: só o adaptador
#
# ★★☆☆☆ · ◆◆◆◆◇ · 5 minutos · 2 pontos
#
# `adapter_state_dict(model)` devolve um dicionário nome → tensor com os `lora_A.weight` e `lora_B.weight` de um modelo que passou por `inject`, e nada mais.


# %% nbgrader={"grade_id": "so_adaptador", "solution": true}
def adapter_state_dict(model):
    """Os tensores A e B de `model`, pelo nome, sem os pesos do modelo base."""
    ### BEGIN SOLUTION
    return {name: tensor for name, tensor in model.state_dict().items() if ".lora_" in name}
    ### END SOLUTION


# %% nbgrader={"grade_id": "so_adaptador_teste", "points": 2}
model = tiny_llama()
inject(model, ["q_proj", "v_proj"], rank=2, alpha=4)
adapter = adapter_state_dict(model)
assert sorted(adapter) == trainable_names(model), (
    f"Devem estar só os A e B das 4 camadas adaptadas (8 tensores); recebi {len(adapter)}."
)
assert sum(tensor.numel() for tensor in adapter.values()) == 224, (
    "Posto 2 em q (16 x 16) e v (8 x 16), duas camadas: 224 números."
)
### BEGIN HIDDEN TESTS
for targets, seed in ((["k_proj", "o_proj"], 31), (["gate_proj"], 32)):
    trained, fresh = tiny_llama(seed=seed, layers=3), tiny_llama(seed=seed, layers=3)
    for copy in (trained, fresh):
        inject(copy, targets, rank=3, alpha=6)
    fill_lora(trained, seed=seed)
    saved = adapter_state_dict(trained)
    expected = {
        name: tensor
        for name, tensor in trained.state_dict().items()
        if ".lora_A." in name or ".lora_B." in name
    }
    assert sorted(saved) == sorted(expected), (
        "O dicionário deve ter A e B de todos os alvos, e nada do modelo base."
    )
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items()), (
        "Os tensores devem ser os do modelo, sem mudança."
    )
    fresh.load_state_dict(saved, strict=False)
    sample = torch.randint(0, 64, (1, 5))
    assert torch.equal(logits(fresh, sample), logits(trained, sample)), (
        "O adaptador guardado, posto num modelo novo, deve refazer as mesmas respostas."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 9. Um modelo de verdade
#
# Agora com a `peft`, pelo `toolkit` do curso: o mesmo LoRA que você escreveu, com treino medido. Em vez de só `q_proj` e `v_proj`, os alvos são as **sete** matrizes lineares de cada bloco, com posto 4: num treino tão curto, é o que aprende mais depressa (a aula 04 compara). Antes, o que o modelo responde sem ajuste nenhum?

# %%
from toolkit import LoRA, answer, save, train

samples, test = task.test[: 1 if reduced else 3], task.test[: 2 if reduced else 96]
for sample in samples:
    text = answer(base.model, base.tokenizer, sample.prompt, max_new_tokens=12)
    print(f"{sample.prompt[:150]}...\n   esperado: {sample.answer}   modelo base: {text!r}\n")

# %% [markdown]
# O treino abaixo mostra a perda a cada passo e guarda um checkpoint de tempos em tempos: se for interrompido, rode a célula de novo e ele continua de onde parou. (Para tentar outro posto ou outra taxa, mude também a pasta de `checkpoint_dir`.) Na CPU são alguns minutos, com a nota antes e depois.

# %%
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
plan = base.plan(LoRA(rank=4, alpha=16, targets=TARGETS), batch=2, seq_len=1024)
run = train(
    plan,
    task.train,
    base,
    steps=2 if reduced else 160 if machine.profile == "cpu" else 432,
    learning_rate=2e-3,
    validation=task.validation[: 2 if reduced else 12],
    validate_every=40,
    metric=task.metric(base.tokenizer, test),
    checkpoint_dir="runs/03_lora",
    checkpoint_every=40,
    resume=True,
)

# %%
print(f"parâmetros treinados: {run.trainable:_} de {run.parameters:_} ({run.trainable / run.parameters:.2%})")
print(f"tempo: {run.seconds:.0f} s   pico de memória: {run.peak_memory / 2**30:.2f} GiB ({run.memory_kind})")
for step, value in run.validation:
    print(f"perda na validação, passo {step:3d}: {value:.3f}")
before, after = run.before["macro-F1"], run.after["macro-F1"]
print(
    f"macro-F1 em {len(test)} cláusulas de teste: {before:.2f} → {after:.2f} (ganho de {after - before:+.2f})"
)

# %%
from toolkit import plot_loss

plot_loss({"LoRA, posto 4": run})

# %% [markdown]
# **Leitura do resultado.** A perda de treino oscila, porque cada passo vê só duas cláusulas; a linha pontilhada, medida sempre nas mesmas cláusulas que o treino não vê, é a que conta, e deve terminar bem abaixo de onde começou. Se ela sobe enquanto a de treino desce, é sobreajuste: menos passos ou posto menor. Se nenhuma desce, confira os módulos-alvo e a taxa de aprendizado. A **macro-F1** é a nota: a média, sobre os doze tipos, do acerto em cada um; o acaso daria 0,08, e o modelo base fica por aí. Com 96 cláusulas, só o sorteio delas mexe na nota uns 0,05 para cada lado: um ganho de 0,1 ou mais não é sorte. Ainda assim, a perda caiu muito mais do que a nota subiu: primeiro o modelo aprende o **formato** (responder com um nome e parar), e só depois, devagar, a distinguir os tipos. Contar palavras, com as 864 cláusulas de treino, dá 0,49 (está na ficha dos dados); na CPU o seu modelo viu 320. E olhe de novo a fração treinada: bem menos de 1 % dos parâmetros fez isso.

# %%
for sample in samples:
    text = answer(run.model, base.tokenizer, sample.prompt, max_new_tokens=12)
    print(f"esperado: {sample.answer:<24} com LoRA: {text!r}")

adapter_size = save(run.model, "runs/adaptador_clausulas")
base_size = sum(path.stat().st_size for path in base.folder.glob("*.safetensors"))
print(f"\nadaptador em disco: {adapter_size / 2**20:.2f} MiB   modelo base: {base_size / 2**20:.0f} MiB")
print(f"o modelo base é {base_size / adapter_size:.0f} vezes maior")

# %% [markdown]
# **Leitura do resultado.** Antes, o modelo repetia o enunciado ou divagava; agora responde com o nome de um tipo, ou um pedaço dele, e para. Responder no formato não é o mesmo que acertar: com tão poucos passos ele ainda erra, e três exemplos não são uma avaliação. O arquivo que guarda essa mudança tem menos de 2 % do tamanho do modelo base; doze clientes seriam doze arquivos assim, e uma base só.
#
# Para fechar, o **seu** LoRA recebe o adaptador que a `peft` acabou de treinar. Se os exercícios 4 e 6 estão certos, as respostas são as mesmas.

# %%
from toolkit.adapters import adapter_weights

with needs_exercise(4, 6):
    mine = base.load().float().cpu()
    inject(mine, TARGETS, rank=4, alpha=16)
    load_peft_adapter(mine, {name: tensor.cpu() for name, tensor in adapter_weights(run.model).items()})
    for sample in samples:
        theirs, yours = (
            answer(m, base.tokenizer, sample.prompt, max_new_tokens=12) for m in (run.model, mine)
        )
        print(f"peft: {theirs!r:<28} você: {yours!r}")

# %% [markdown]
# ## 10. Pergunta aberta

# %% [markdown] nbgrader={"grade_id": "aberta_enunciado"}
# ### Exercício 8: qual posto, e por quê?
#
# ★★☆☆☆ · ◆◆◆◆◆ · 10 minutos · 3 pontos (corrigido por uma pessoa)
#
# Um escritório atende doze empresas. Cada uma quer um assistente que classifique cláusulas com a sua própria lista de tipos; uma delas quer também que o assistente redija em guarani, língua que o modelo base quase não viu. Há uma só GPU para servir todas. Em 8 a 12 linhas: diga como você usaria LoRA (quantos adaptadores, fundidos ou não, que posto para cada tarefa) e apoie cada escolha num número medido nesta aula. Diga também um caso em que o LoRA não bastaria, e como você o descobriria antes de entregar.
#
# ### BEGIN MARK SCHEME
# 1. (1 ponto) Doze adaptadores sobre uma única base, não fundidos, com o tamanho em disco medido na seção 9. (palavras: um adaptador, doze, 12 adaptadores; fund, separad; mib, disco, tamanho)
# 2. (1 ponto) Posto baixo para a classificação de cláusulas e maior (ou ajuste completo) para o guarani, citando a tabela de energia ou a de perda por posto da seção 2. (palavras: guarani; posto maior, posto alto, posto mais alto, completo; energia, perda, queda)
# 3. (1 ponto) Um limite real (conhecimento novo em volume, posto efetivo alto, treino que estaciona acima do ajuste completo) e um modo de vê-lo antes: perda de validação contra posto crescente ou contra o ajuste completo num modelo menor. (palavras: validacao; completo, posto)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 3}
# Espera-se: um adaptador por empresa sobre uma base só, separados, porque fundir prende a base a um cliente; posto baixo para classificar.

# %% [markdown]
# ## O que você leva daqui
#
# - Congelar é `requires_grad_(False)`; o que sobra para treinar se conta com `numel()`.
# - $\Delta W = \frac{\alpha}{r} BA$ troca $d \cdot k$ números por $r(d + k)$. Isso basta quando a mudança vive em poucas direções, e dá para medir se vive.
# - $B = 0$ no início preserva o modelo; $\alpha / r$ separa o posto da taxa de aprendizado; fundir tira o custo na hora de usar.
# - O que vai para o disco é só o adaptador. Uma base serve muitas tarefas.
#
# **Para ler mais:** o artigo do LoRA ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)); por que o ajuste fino vive em poucas dimensões ([Aghajanyan et al., 2020](https://arxiv.org/abs/2012.13255)); a escala $\alpha/\sqrt r$ ([Kalajdzievski, 2023](https://arxiv.org/abs/2312.03732)); onde o LoRA aprende menos e esquece menos que o ajuste completo ([Biderman et al., 2024](https://arxiv.org/abs/2405.09673)).
