# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quanto custa ajustar um modelo de linguagem
#
# Reformar uma casa custa mais que o material: há o andaime, a caçamba, as ferramentas alugadas, e tudo ocupa a calçada enquanto a obra dura. No treino de um modelo também: os **pesos** são só o material. Em volta deles ficam os gradientes, os estados do otimizador, as ativações e os logits, e é a soma que precisa caber na GPU. Quem não faz essa conta antes descobre o total por um `out of memory`, depois de meia hora de preparação.
#
# Nesta aula você vai:
#
# 1. contar à mão os parâmetros de um Transformer e conferir com a biblioteca;
# 2. descobrir por que o treino completo pede **16 bytes por parâmetro**, e medir isso num modelo vivo;
# 3. medir as **ativações**, que crescem com o texto e não com o modelo, e os **logits**;
# 4. usar a calculadora de memória e saber o que cabe numa T4 antes de tentar;
# 5. conferir, uma a uma, as afirmações que se fazem sobre LoRA e QLoRA;
# 6. passar de memória a tempo, e de tempo a dinheiro.
#
# **Tempo:** 75 a 90 minutos. **Antes:** PyTorch básico (`nn.Module`, `backward`) e a ideia geral do Transformer.
# **Pontos:** 20, em sete exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
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

warnings.filterwarnings("ignore", category=FutureWarning)  # das bibliotecas às suas próprias versões futuras
GIB = 2**30


def tiny_llama(
    seed=0,
    vocab=96,
    hidden=32,
    intermediate=80,
    layers=2,
    heads=4,
    kv_heads=2,
    tied=True,
    dtype=torch.float32,
):
    """Um Llama de brinquedo, com pesos aleatórios e a mesma arquitetura dos grandes."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        max_position_embeddings=512, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype)


class Trainee(nn.Module):
    """Um modelo e o seu otimizador, que treinam juntos."""

    def __init__(self, model, make):
        super().__init__()
        self.model = model
        self.optimizer = make([p for p in model.parameters() if p.requires_grad])

    def step(self):
        """Um passo de treino num lote sorteado; os gradientes ficam guardados depois dele."""
        ids = torch.randint(0, self.model.config.vocab_size, (2, 16))
        self.model(ids, labels=ids).loss.backward()
        self.optimizer.step()


# %% [markdown]
# ## 1. Contar parâmetros à mão
#
# Um modelo da família Llama é uma tabela de **embeddings**, uma pilha de blocos iguais, uma norma final e a **saída**, que leva o último vetor de volta ao vocabulário. Cada bloco tem:
#
# | parte | matrizes | forma |
# |---|---|---|
# | atenção | `q_proj`, `o_proj` | $h \times h$ |
# | atenção | `k_proj`, `v_proj` | $h_{kv} \times h$ |
# | MLP | `gate_proj`, `up_proj`, `down_proj` | $m \times h$ (ou $h \times m$) |
# | normas | duas | $h$ |
#
# Aqui $h$ é a largura (`hidden`), $m$ a largura do MLP (`intermediate`) e $h_{kv} = h \cdot \frac{\text{kv\_heads}}{\text{heads}}$: nos modelos recentes, várias cabeças de consulta dividem a mesma chave e o mesmo valor, e $k$ e $v$ ficam menores. Não há `bias`.

# %% [markdown]
# ### Exercício 1: um bloco
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 3 pontos
#
# `count_block(hidden, intermediate, heads, kv_heads)` devolve quantos parâmetros tem um bloco.


# %% nbgrader={"grade_id": "bloco", "solution": true}
def count_block(hidden, intermediate, heads, kv_heads):
    """Parâmetros de um bloco da família Llama, com as duas normas."""
    ### BEGIN SOLUTION
    kv_width = hidden // heads * kv_heads
    attention = 2 * hidden * hidden + 2 * hidden * kv_width
    return attention + 3 * hidden * intermediate + 2 * hidden
    ### END SOLUTION


# %% nbgrader={"grade_id": "bloco_teste", "points": 3}
counted = count_block(hidden=32, intermediate=80, heads=4, kv_heads=2)
block = tiny_llama().model.layers[0]
for name, p in block.named_parameters():
    print(f"{name:<32} {tuple(p.shape)!s:<10} {p.numel():6,d}")
expected = sum(p.numel() for p in block.parameters())
assert counted == expected, f"Somando a tabela acima dá {expected:,d}; recebi {counted:,d}."
### BEGIN HIDDEN TESTS
for hidden, intermediate, heads, kv_heads in ((64, 96, 8, 8), (48, 200, 6, 1), (80, 160, 4, 2)):
    model = tiny_llama(hidden=hidden, intermediate=intermediate, heads=heads, kv_heads=kv_heads)
    expected = sum(p.numel() for p in model.model.layers[1].parameters())
    assert count_block(hidden, intermediate, heads, kv_heads) == expected, (
        "A conta falha para outras larguras ou outro número de cabeças de chave e valor."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 2: o modelo inteiro
#
# ★★☆☆☆ · ◆◆◆◆◇ · 6 minutos · 3 pontos
#
# `count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied)` devolve o total. Se `tied`, a saída usa a **mesma** matriz dos embeddings, que conta uma vez; senão, são duas. Use `count_block`.


# %% nbgrader={"grade_id": "modelo", "solution": true}
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied):
    """Parâmetros de um modelo da família Llama: embeddings, blocos, norma final e saída."""
    ### BEGIN SOLUTION
    tables = 1 if tied else 2
    return tables * vocab * hidden + layers * count_block(hidden, intermediate, heads, kv_heads) + hidden
    ### END SOLUTION


# %% nbgrader={"grade_id": "modelo_teste", "points": 3}
counted = count_model(32_000, 768, 3_072, 12, 12, 12, tied=False)
assert counted == 162_417_408, (
    f"O Tucano-160m tem 162.417.408 parâmetros, com embeddings e saída separados; recebi {counted:,d}."
)
counted = count_model(49_152, 576, 1_536, 30, 9, 3, tied=True)
assert counted == 134_515_008, (
    f"O SmolLM2-135M tem 134.515.008, com a saída igual aos embeddings; recebi {counted:,d}."
)
### BEGIN HIDDEN TESTS
for vocab, hidden, intermediate, layers, heads, kv_heads, tied in (
    (100, 32, 64, 3, 4, 2, True),
    (250, 48, 40, 1, 6, 6, False),
    (64, 64, 128, 5, 8, 1, False),
):
    model = tiny_llama(0, vocab, hidden, intermediate, layers, heads, kv_heads, tied)
    expected = sum(p.numel() for p in model.parameters())
    assert count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied) == expected, (
        "A conta falha em outro modelo: confira a norma final, o número de blocos e a saída."
    )
### END HIDDEN TESTS

# %%
from toolkit import Architecture, Full, LoRA, Plan, QLoRA, count

NAMES = ["HuggingFaceTB/SmolLM2-135M", "TucanoBR/Tucano-160m", "TucanoBR/Tucano-1b1", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf"]  # fmt: skip
parts = {}
with needs_exercise(1, 2):
    print(f"{'modelo':<16} {'à mão':>15} {'toolkit':>15} {'iguais':>7}")
    for name in NAMES:
        m = Architecture.from_config(name)
        mine = count_model(m.vocab, m.hidden, m.intermediate, m.layers, m.heads, m.kv_heads, m.tied)
        theirs = count(Plan(m, Full()))
        parts[name.split("/")[1]] = {k: v / theirs.total for k, v in theirs.parts.items() if v}
        print(
            f"{name.split('/')[1]:<16} {mine:15,d} {theirs.total:15,d} {'sim' if mine == theirs.total else 'NÃO':>7}"
        )

# %%
WORDS = {"embeddings": "embeddings", "attention": "atenção", "mlp": "MLP", "norms": "normas", "head": "saída"}
COLORS = {
    "embeddings": "#8ab0ab",
    "attention": "#f4a259",
    "mlp": "#d9dde3",
    "norms": "#444",
    "head": "#5b8e7d",
}
if parts:
    _, axes = plt.subplots(figsize=(8.5, 3))
    for row, shares in enumerate(parts.values()):
        left = 0
        for part, share in shares.items():
            axes.barh(row, share, left=left, color=COLORS[part])
            left += share
    axes.set_yticks(range(len(parts)), parts)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=c) for c in COLORS.values()], WORDS.values(), ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** As duas colunas têm de ser idênticas, até a unidade. A maior fatia é o MLP, não a atenção. Nos dois modelos pequenos, embeddings e saída são de um quinto a quase um terço; no de 7 bilhões quase somem. O Tucano-160m tem mais parâmetros que o SmolLM2-135M, mas menos dentro dos blocos em proporção: isso vai importar na aula 05. Se só os modelos com `kv_heads` menor que `heads` diferem (SmolLM2, Tucano-1b1, Llama-3.1), o erro está em $k$ e $v$.

# %% [markdown]
# ## 2. Por que 16 bytes por parâmetro
#
# Com pesos em fp32 e o otimizador Adam, cada parâmetro **treinado** guarda quatro números de 4 bytes:
#
# | o quê | bytes | para quê |
# |---|---|---|
# | peso | 4 | o próprio modelo |
# | gradiente | 4 | a direção do passo, do `backward` até o `step` |
# | média dos gradientes ($m$) | 4 | estado do Adam |
# | média dos quadrados ($v$) | 4 | estado do Adam |
#
# São 16, e tudo isso antes de ler o primeiro texto. Um parâmetro **congelado** guarda só o peso, que pode estar em 16 bits (2 bytes): é aí que o ajuste fino eficiente em parâmetros economiza.

# %% [markdown]
# ### Exercício 3: `training_bytes`
#
# ★★☆☆☆ · ◆◆◆◆◆ · 6 minutos · 3 pontos
#
# `training_bytes(frozen, trained, frozen_width, trained_width)` devolve o trio `(weights, gradients, states)` em bytes: `frozen` parâmetros congelados, de `frozen_width` bytes cada um, e `trained` parâmetros treinados com Adam, em que peso, gradiente e cada um dos **dois** estados ocupam `trained_width` bytes.


# %% nbgrader={"grade_id": "dezesseis", "solution": true}
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    """Bytes de (pesos, gradientes, estados do Adam), sem ativações."""
    ### BEGIN SOLUTION
    size = trained * trained_width
    return frozen * frozen_width + size, size, 2 * size
    ### END SOLUTION


# %% nbgrader={"grade_id": "dezesseis_teste", "points": 3}
answer = tuple(training_bytes(frozen=0, trained=1_000))
assert answer == (4_000, 4_000, 8_000), (
    f"Mil parâmetros treinados em fp32: 4000 de pesos, 4000 de gradientes, 8000 de estados; recebi {answer}."
)
answer = tuple(training_bytes(frozen=1_000, trained=10))
assert answer == (2_040, 40, 80), (
    f"Mil congelados em 16 bits e dez treinados: (2040, 40, 80), porque congelado não tem gradiente; recebi {answer}."
)
### BEGIN HIDDEN TESTS
for frozen, trained, wide, narrow in ((7_000, 300, 4, 2), (123, 456, 2, 2), (10**9, 10**6, 2, 4)):
    weights, gradients, states = training_bytes(frozen, trained, wide, narrow)
    assert weights == frozen * wide + trained * narrow, (
        "Os pesos somam congelados e treinados, cada um na sua largura."
    )
    assert gradients == trained * narrow, "Só os treinados têm gradiente."
    assert states == 2 * trained * narrow, "O Adam guarda dois números por parâmetro treinado."
### END HIDDEN TESTS

# %% [markdown]
# A conta é bonita, mas é verdade? Um modelo vivo responde: os gradientes estão em `p.grad`, e os estados, em `optimizer.state`.

# %% [markdown]
# ### Exercício 4: `held_bytes`
#
# ★★★☆☆ · ◆◆◆◆◇ · 12 minutos · 3 pontos
#
# `held_bytes(model, optimizer)` **mede**, nos tensores que existem agora, o mesmo trio `(weights, gradients, states)`, em bytes. `optimizer.state` é um dicionário: cada parâmetro leva a outro dicionário, nome → valor. Conte nele só os tensores com pelo menos uma dimensão (o Adam guarda também um contador de passos, um número solto), e cuidado: `p.grad` é `None` em quem não tem gradiente, e um estado pode não ser um tensor.


# %% nbgrader={"grade_id": "vivo", "solution": true}
def held_bytes(model, optimizer):
    """Bytes guardados agora em (pesos, gradientes, estados do otimizador)."""
    ### BEGIN SOLUTION
    parameters = list(model.parameters())
    values = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [value for value in values if torch.is_tensor(value) and value.dim() > 0]
    weights, states = (sum(t.numel() * t.element_size() for t in group) for group in (parameters, tensors))
    return (
        weights,
        sum(p.grad.numel() * p.grad.element_size() for p in parameters if p.grad is not None),
        states,
    )
    ### END SOLUTION


# %% nbgrader={"grade_id": "vivo_teste", "points": 3}
total = sum(p.numel() for p in tiny_llama().parameters())
both = Trainee(tiny_llama(), torch.optim.AdamW)
answer = tuple(held_bytes(both, both.optimizer))
assert answer == (4 * total, 0, 0), (
    f"Antes do primeiro passo só há pesos: ({4 * total}, 0, 0); recebi {answer}."
)
both.step()
answer = tuple(held_bytes(both.model, both.optimizer))
assert answer == (4 * total, 4 * total, 8 * total), (
    f"Depois de um passo de AdamW: ({4 * total}, {4 * total}, {8 * total}); recebi {answer}."
)
### BEGIN HIDDEN TESTS
for seed, make, share in (
    (1, lambda p: torch.optim.SGD(p, lr=0.1), 0),
    (2, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1),
    (3, lambda p: torch.optim.Adam(p, amsgrad=True), 3),
    (4, lambda p: torch.optim.AdamW(p), 2),
):
    model = tiny_llama(seed=seed, layers=1 + seed % 2, dtype=torch.bfloat16 if seed == 4 else torch.float32)
    for p in model.model.embed_tokens.parameters():
        p.requires_grad_(False)
    width = 2 if seed == 4 else 4
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    both = Trainee(model, make)
    held_bytes(both, both.optimizer)
    both.step()
    weights, gradients, states = held_bytes(both.model, both.optimizer)
    assert weights == width * total, "Os pesos falham: conte também os congelados, na largura do seu dtype."
    assert gradients == width * trained, "Os gradientes falham: parâmetro congelado tem p.grad igual a None."
    assert states == share * width * trained, (
        "Os estados falham com outro otimizador: olhe os tensores, não suponha dois."
    )
### END HIDDEN TESTS

# %%
with needs_exercise(4):
    print(f"{'otimizador':<22} {'pesos':>8} {'gradientes':>11} {'estados':>9} {'bytes por parâmetro':>20}")
    for label, make in (
        ("SGD", lambda p: torch.optim.SGD(p, lr=0.1)),
        ("SGD com momento", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("AdamW", lambda p: torch.optim.AdamW(p)),
    ):
        both = Trainee(tiny_llama(), make)
        both.step()
        held = held_bytes(both.model, both.optimizer)
        print(
            "{:<22} {:8,d} {:11,d} {:9,d} {:20.1f}".format(
                label, *held, sum(held) / sum(p.numel() for p in both.model.parameters())
            )
        )

# %% [markdown]
# **Leitura do resultado.** Com AdamW são 16,0 bytes por parâmetro: a tabela acima, medida. O SGD puro fica em 8 e o SGD com momento em 12. "16 bytes" não é uma lei da natureza, é uma escolha de otimizador e de precisão. Em bf16 puro seriam 8; com pesos em 16 bits e Adam em fp32, uma mistura comum, 12. Se a sua última linha passa de 16, você contou o contador de passos.

# %%
with needs_exercise(3):
    print(
        f"{'modelo':<16} {'método':<14} {'treinados':>9} {'pesos':>8} {'grad.':>7} {'estados':>8} {'total':>10}"
    )
    for name in ("TucanoBR/Tucano-160m", "TucanoBR/Tucano-1b1", "meta-llama/Llama-2-7b-hf"):
        for method in (Full(), LoRA(16, targets="all-linear")):
            counted = count(Plan(Architecture.from_config(name), method))
            sizes = training_bytes(counted.total - counted.trainable, counted.trainable)
            row = [f"{size / GIB:.2f}" for size in (*sizes, sum(sizes))]
            print(
                f"{name.split('/')[1]:<16} {type(method).__name__:<14} {counted.percentage:8.2f}% {row[0]:>8} {row[1]:>7} {row[2]:>8} {row[3]:>6} GiB"
            )

# %% [markdown]
# **Leitura do resultado.** No ajuste completo em fp32, o modelo de 1,1 bilhão já passa dos 14,7 GiB de uma T4 sem ler uma palavra; o de 7 bilhões pede mais que qualquer placa única de 80 GiB. Com LoRA, a base congelada em 16 bits é quase tudo, e gradientes e estados quase somem. O passo seguinte é óbvio: encolher a base. É o QLoRA (aulas 05 e 06). Se as linhas de LoRA não caem, os seus congelados estão pagando gradiente.

# %% [markdown]
# ## 3. O que cresce com o texto: ativações e logits
#
# Para calcular gradientes, o `backward` precisa de resultados intermediários do `forward`: são as **ativações** guardadas. Elas não dependem de quantos parâmetros se treina, mas de **quantos tokens** passam: lote × comprimento. O PyTorch deixa ver cada tensor no momento em que é guardado, com `torch.autograd.graph.saved_tensors_hooks(guardar, devolver)`: a primeira função recebe o tensor guardado, e o que ela devolve chega à segunda na volta.

# %% [markdown]
# ### Exercício 5: `saved_bytes`
#
# ★★★★☆ · ◆◆◆◆◇ · 15 minutos · 4 pontos
#
# `saved_bytes(model, inputs)` roda `model(inputs)` e devolve quantos bytes ficam guardados para o `backward`. Dois cuidados: o mesmo armazenamento pode ser guardado várias vezes (a entrada de $q$, $k$ e $v$ é uma só) e conta **uma**; os parâmetros do modelo já foram contados na seção 2 e **não** entram. *Dicas:* `t.untyped_storage()` é o armazenamento de `t`, com `.data_ptr()` (o endereço, igual para quem divide a memória) e `.nbytes()`. Guarde a saída do modelo numa variável até o fim, ou os endereços serão reaproveitados.


# %% nbgrader={"grade_id": "ativacoes", "solution": true}
def saved_bytes(model, inputs):
    """Bytes que model(inputs) guarda para o backward, sem os parâmetros e sem repetição."""
    ### BEGIN SOLUTION
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(inputs)
    total = sum(size for address, size in sizes.items() if address not in known)
    del output
    return total
    ### END SOLUTION


# %% nbgrader={"grade_id": "ativacoes_teste", "points": 4}
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
answer = saved_bytes(net, torch.zeros(5, 8))
assert answer == 480, (
    f"Guardam-se a entrada (5·8) e a saída da ReLU (5·16), em fp32: 480 bytes; recebi {answer}. "
    "Confira a repetição (a saída da ReLU é também a entrada da camada seguinte) e os parâmetros."
)
### BEGIN HIDDEN TESTS
for tokens, wide, seed in ((3, 24, 1), (11, 32, 2)):
    torch.manual_seed(seed)
    net, partly = (
        nn.Sequential(nn.Linear(8, wide), nn.Sigmoid(), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, 4))
        for _ in range(2)
    )
    # a entrada, a saída da sigmoide, a entrada da GELU e a sua saída
    assert saved_bytes(net, torch.randn(tokens, 8)) == 4 * tokens * (8 + 3 * wide), (
        "A medida falha em outra rede: cada armazenamento conta uma vez, e os parâmetros não contam."
    )
    for p in partly[:3].parameters():
        p.requires_grad_(False)
    # com o começo congelado, só a última camada precisa da sua entrada
    assert saved_bytes(partly, torch.randn(tokens, 8)) == 4 * tokens * wide, (
        "Com as primeiras camadas congeladas, menos coisa é guardada: meça, não suponha."
    )
wide, short = (saved_bytes(tiny_llama(), torch.randint(0, 96, (1, tokens))) for tokens in (128, 64))
assert 1.9 < wide / short < 2.1, "Num Llama, o dobro de tokens guarda o dobro de ativações."
### END HIDDEN TESTS

# %%
with needs_exercise(5):
    model = tiny_llama(layers=4)
    fixed = 16 * sum(p.numel() for p in model.parameters())
    print(f"{'tokens':>6} {'ativações':>12} {'com recomputação':>17} {'16 bytes × parâmetros':>22}")
    lengths, kept = [16, 32, 64, 128, 256], {"guardadas": [], "recomputadas": []}
    for tokens in lengths:
        ids = torch.randint(0, 96, (1, tokens))
        for label in kept:
            model.train()
            if label == "recomputadas":
                model.gradient_checkpointing_enable()
            kept[label].append(saved_bytes(model, ids))
            model.gradient_checkpointing_disable()
        print(f"{tokens:6d} {kept['guardadas'][-1]:12,d} {kept['recomputadas'][-1]:17,d} {fixed:22,d}")

# %% [markdown]
# **Leitura do resultado.** As ativações dobram quando os tokens dobram, em linha reta; a última coluna não se mexe. Com **recomputação de ativações** (*gradient checkpointing*), cada bloco guarda só a sua entrada e refaz a conta na volta: muitas vezes menos memória (na volta, mais as ativações de um bloco por vez, que esta medida não vê), ao preço de mais um `forward` (a seção 7 mede quanto). Se a sua primeira coluna cresce mais que o dobro a cada linha, há armazenamentos contados mais de uma vez.

# %% [markdown]
# ### Exercício 6: os logits
#
# ★☆☆☆☆ · ◆◆◆◇◇ · 3 minutos · 1 ponto
#
# Para cada token, a saída é um número por token do vocabulário. Na perda usual da `transformers` convivem várias cópias: os logits em 16 bits (2 bytes), os mesmos em fp32 (4), o log-softmax (4) e o gradiente (4). São **14 bytes por logit**. `logits_bytes(batch, seq_len, vocab, width)` devolve o total.


# %% nbgrader={"grade_id": "logits", "solution": true}
def logits_bytes(batch, seq_len, vocab, width=14):
    """Bytes dos logits e das suas cópias no momento da perda."""
    ### BEGIN SOLUTION
    return batch * seq_len * vocab * width
    ### END SOLUTION


# %% nbgrader={"grade_id": "logits_teste", "points": 1}
answer = logits_bytes(1, 10, 1_000)
assert answer == 140_000, f"Dez tokens, vocabulário de mil, 14 bytes: 140000; recebi {answer}."
answer = logits_bytes(2, 10, 1_000, width=8)
assert answer == 160_000, f"Duas sequências de dez tokens, 8 bytes por logit: 160000; recebi {answer}."
### BEGIN HIDDEN TESTS
for batch, seq_len, vocab, width in ((3, 128, 500, 14), (8, 64, 32_000, 16), (1, 1, 7, 2)):
    logits = torch.empty(batch, seq_len, vocab, device="meta")
    assert logits_bytes(batch, seq_len, vocab, width) == logits.numel() * width, (
        "A conta falha para outros lotes, comprimentos, vocabulários ou larguras."
    )
### END HIDDEN TESTS

# %%
with needs_exercise(6):
    print(f"{'modelo':<16} {'vocabulário':>11}   lote 8 com 1.024 tokens")
    for name in (
        "TucanoBR/Tucano-1b1",
        "HuggingFaceTB/SmolLM2-135M",
        "meta-llama/Llama-3.1-8B",
        "google/gemma-3-270m",
    ):
        vocab = Architecture.from_config(name).vocab
        print(f"{name.split('/')[1]:<16} {vocab:11,d}   {logits_bytes(8, 1024, vocab) / GIB:6.2f} GiB")

# %% [markdown]
# **Leitura do resultado.** Um modelo de 270 milhões de parâmetros, que em 16 bits pesa meio GiB, pede dezenas de GiB só de logits nesse lote: o vocabulário dele tem 262 mil tokens. Quem reduz o lote, o comprimento ou calcula a perda aos pedaços economiza aqui; LoRA e QLoRA não mudam nada.

# %% [markdown]
# ## 4. A anatomia inteira
#
# Juntando tudo: `estimate(plano)` faz essas contas com os detalhes que aqui pulamos, em cada **momento** do passo. O pico é o maior dos momentos, não a soma de todos: quando o otimizador trabalha, as ativações já foram embora.

# %%
from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit

PARTS = {
    "pesos e escalas": ("weights", "quant_constants"),
    "adaptadores": ("adapters",),
    "gradientes": ("gradients",),
    "estados e cópias do otimizador": ("optimizer_states", "optimizer_temporaries"),
    "ativações": ("activations", "recompute"),
    "logits": ("logits",),
    "o resto": ("workspaces", "batch"),
}
MOMENTS = {"load": "carregado", "forward": "ida", "loss": "perda", "backward": "volta", "step": "passo"}
METHODS = {
    "ajuste completo": Full(),
    "LoRA": LoRA(16, targets="all-linear"),
    "QLoRA": QLoRA(16, targets="all-linear"),
}


def t4_plan(name, method, **changes):
    """Um plano para a T4, que não tem bf16: fp16, e pesos em fp32 quando todos são treinados."""
    dtype = "fp32" if isinstance(method, Full) else "fp16"
    return Plan(
        Architecture.from_config(name), method, gpu="T4", dtype=dtype, compute_dtype="fp16", autocast=True
    ).change(**changes)


_, panels = plt.subplots(1, 3, figsize=(11, 4), sharey=True)
palette = ["#d9dde3", "#f4a259", "#bc4b51", "#8cb369", "#5b8e7d", "#8ab0ab", "#444"]
for axes, (label, method) in zip(panels, METHODS.items(), strict=True):
    memory = estimate(t4_plan("TucanoBR/Tucano-1b1", method))
    bottoms = [0.0] * len(MOMENTS)
    for (part, names), color in zip(PARTS.items(), palette, strict=True):
        heights = [sum(memory.moments[moment].get(name, 0) for name in names) / GIB for moment in MOMENTS]
        axes.bar(range(len(MOMENTS)), heights, bottom=bottoms, color=color, label=part)
        bottoms = [b + h for b, h in zip(bottoms, heights, strict=True)]
    axes.axhline(14.74, color="#444", linestyle=":", linewidth=1)
    axes.set_title(f"{label}: pico {memory.allocated.value / GIB:.1f} GiB", fontsize=11)
    axes.set_xticks(range(len(MOMENTS)), MOMENTS.values(), fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("GiB (pontilhado: uma T4)")
panels[2].legend(fontsize=9, edgecolor="none", framealpha=1)
plt.tight_layout()
plt.show()

# %% [markdown]
# **Leitura do resultado.** O Tucano-1b1, com uma sequência de 512 tokens. No ajuste completo, pesos, gradientes e estados passam da linha da T4 sozinhos, e o pico é no **passo**, quando as ativações já se foram. No LoRA, sobram a base e as ativações, e o pico vem mais cedo, na perda. No QLoRA a base encolhe, mas as ativações são as mesmas: daí em diante, quem quiser economizar mexe no lote, no comprimento ou na recomputação. Se o pico do LoRA passa o do ajuste completo, os planos estão trocados.

# %% [markdown]
# ## 5. A calculadora
#
# Tudo isso, sem escrever código: mude o modelo, o método, o lote, e veja as barras contra o limite da placa. Embaixo ficam as mudanças que fariam caber, da mais barata à mais cara, e o código do plano mostrado.
#
# *Experimente:* ache o maior modelo que faz ajuste completo numa T4. Depois, com QLoRA num modelo de 7 bilhões, aumente o comprimento até deixar de caber, e ligue a recomputação.

# %%
from toolkit.calculator import calculator

calculator(t4_plan("TucanoBR/Tucano-1b1", LoRA(16, targets="all-linear")))

# %% [markdown]
# ## 6. O que cabe numa T4, e o que se afirma por aí

# %%
VERDICTS = {"fits": "cabe", "tight": "no limite", "exceeds": "não cabe"}
print(f"{'modelo':<16}" + "".join(f"{label:>26}" for label in METHODS))
for name in (
    "TucanoBR/Tucano-160m",
    "TucanoBR/Tucano-630m",
    "TucanoBR/Tucano-1b1",
    "TucanoBR/Tucano-2b4",
    "meta-llama/Llama-2-7b-hf",
):
    results = [fit(t4_plan(name, method, checkpointing=True), "T4") for method in METHODS.values()]
    cells = [f"{VERDICTS[r.verdict]} ({r.memory.process.value / GIB:.1f} GiB)" for r in results]
    print(f"{name.split('/')[1]:<16}" + "".join(f"{cell:>26}" for cell in cells))
tight = fit(t4_plan("TucanoBR/Tucano-1b1", Full(), checkpointing=True), "T4")
print("\nPara o ajuste completo do Tucano-1b1 caber:", *(f"\n  {fix}" for fix in tight.fixes[:3]))

# %% [markdown]
# **Leitura do resultado.** Com uma sequência de 512 tokens e recomputação. Na coluna do ajuste completo, o limite da T4 passa pelo modelo de 630 milhões; o de 1,1 bilhão já não cabe. O de 7 bilhões só entra com folga no QLoRA. "No limite" quer dizer que a previsão tem uma faixa, e a memória da placa cai dentro dela. Embaixo, as saídas para o que não coube: repare que trocar de otimizador também é uma.
#
# Agora as frases que aparecem em aulas, artigos e anúncios. Cada uma é **calculada**, e não citada: a coluna "condição" diz em que caso ela vale.

# %%
from toolkit.vram.claims import show_claims

show_claims()

# %% [markdown]
# **Leitura do resultado.** Leia primeiro o veredito, depois a condição. A maioria "vale com condição": o número famoso vem do caso mais favorável (o maior modelo, lote 1, pesos que dominam). Fora dele, o mesmo método economiza bem menos. Quando alguém disser "até $n$ vezes", pergunte: em que modelo, com que lote, contra qual linha de base?

# %% [markdown]
# ## 7. Tempo e dinheiro
#
# Cada parâmetro de uma matriz faz, para cada token, uma multiplicação e uma soma: **2 operações** na ida. Na volta são mais 2 para o gradiente das **entradas** e 2 para o gradiente dos **pesos**. Daí a regra de bolso: treinar custa $6 N D$ operações, com $N$ parâmetros (em matrizes) e $D$ tokens. Peso congelado dispensa a última parcela, mas não a do meio, porque o gradiente ainda tem de atravessá-lo até os adaptadores. A recomputação acrescenta outra ida.
#
# | | ida | grad. das entradas | grad. dos pesos | recomputação | total |
# |---|---|---|---|---|---|
# | completo | 2 | 2 | 2 | | 6 |
# | LoRA, QLoRA | 2 | 2 | ≈ 0 | | 4 |
# | com recomputação | | | | + 2 | 8 ou 6 |
#
# O PyTorch sabe contar operações. Confira antes de acreditar:

# %%
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode


def measured_flops(model, ids):
    """Operações de uma ida e volta, contadas pelo PyTorch."""
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids).loss.backward()
    return counter.get_total_flops()


sizes = {"vocab": 512, "hidden": 128, "intermediate": 384, "layers": 8}
ids = torch.randint(0, 512, (2, 64))
model = tiny_llama(**sizes)
work = sum(p.numel() for p in model.parameters() if p.dim() == 2) * ids.numel()  # N · D
print(f"completo:                  {measured_flops(model, ids) / work:.2f} N D")
model = tiny_llama(**sizes).train()
model.gradient_checkpointing_enable()
print(f"completo, recomputando:    {measured_flops(model, ids) / work:.2f} N D")
model = get_peft_model(tiny_llama(**sizes), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
print(f"LoRA em q e v:             {measured_flops(model, ids) / work:.2f} N D")

# %% [markdown]
# **Leitura do resultado.** O ajuste completo dá 6 exatos. Com recomputação fica um pouco abaixo de 8, porque a camada de saída não é recalculada; LoRA fica perto de 4 (um pouco menos, porque abaixo do primeiro adaptador o gradiente para; um pouco mais, pelos próprios adaptadores). LoRA economiza **memória** de verdade, mas só um terço das **operações**. O QLoRA ainda acrescenta a desquantização, que esta conta não vê.

# %% [markdown]
# ### Exercício 7: `training_flops` e `cost`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 10 minutos · 3 pontos
#
# - `training_flops(parameters, tokens, frozen, recompute)`: a tabela acima, sem os "≈".
# - `cost(flops, peak, utilisation, price_per_hour)` devolve `(hours, price)`: a placa faz `peak` operações por segundo no papel, e o treino aproveita a fração `utilisation` (de 0 a 1) delas.


# %% nbgrader={"grade_id": "tempo", "solution": true}
def training_flops(parameters, tokens, frozen=False, recompute=False):
    """Operações para treinar `tokens` tokens; frozen: só adaptadores são treinados."""
    ### BEGIN SOLUTION
    per_token = (4 if frozen else 6) + (2 if recompute else 0)
    return per_token * parameters * tokens
    ### END SOLUTION


def cost(flops, peak, utilisation, price_per_hour):
    """(horas, preço) de um treino; peak em operações por segundo."""
    ### BEGIN SOLUTION
    hours = flops / (peak * utilisation) / 3600
    return hours, hours * price_per_hour
    ### END SOLUTION


# %% nbgrader={"grade_id": "tempo_teste", "points": 3}
answer = training_flops(1_000, 100)
assert answer == 600_000, f"Completo: 6 · 1000 · 100 = 600000; recebi {answer}."
answer = training_flops(1_000, 100, frozen=True)
assert answer == 400_000, f"Com os pesos congelados falta uma parcela: 400000; recebi {answer}."
answer = [round(float(value), 6) for value in cost(3.6e15, peak=1e12, utilisation=0.5, price_per_hour=10)]
assert answer == [2.0, 20.0], (
    f"3,6e15 operações a 0,5e12 por segundo são 7200 s: (2 horas, 20); recebi {answer}."
)
### BEGIN HIDDEN TESTS
for parameters, tokens, peak, use, price in (
    (7 * 10**9, 10**6, 65e12, 0.3, 2.5),
    (10**8, 5 * 10**7, 312e12, 0.45, 11),
):
    for frozen, recompute, factor in ((False, False, 6), (True, False, 4), (False, True, 8), (True, True, 6)):
        flops = training_flops(parameters, tokens, frozen=frozen, recompute=recompute)
        assert flops == factor * parameters * tokens, (
            "A tabela falha em alguma combinação de frozen e recompute."
        )
    hours, total = cost(flops, peak, use, price)
    assert math.isclose(hours * 3600 * peak * use, flops, rel_tol=1e-6), (
        "As horas falham com outra placa ou outro aproveitamento."
    )
    assert math.isclose(total, hours * price, rel_tol=1e-6), "O preço é o das horas usadas."
### END HIDDEN TESTS

# %%
# Preços de exemplo, não uma cotação: troque pelos do seu provedor. Pico em 16 bits, da ficha de cada placa.
CARDS = {"T4": (65e12, 2.00), "A100 80 GB": (312e12, 12.00)}  # operações por segundo, R$ por hora
UTILISATION = 0.3  # suposição: o que um treino simples costuma aproveitar; meça o seu
TOKENS = 3 * 1_200 * 200  # três épocas de 1.200 exemplos de 200 tokens

with needs_exercise(7):
    print(f"{'modelo':<16} {'método':<16} {'placa':<11} {'tempo':>11} {'R$':>8}")
    for name in ("TucanoBR/Tucano-160m", "TucanoBR/Tucano-1b1", "meta-llama/Llama-2-7b-hf"):
        for label, method in METHODS.items():
            plan = t4_plan(name, method, checkpointing=True)
            flops = training_flops(
                count(plan).total, TOKENS, frozen=label != "ajuste completo", recompute=True
            )
            for card, (peak, price) in CARDS.items():
                verdict = fit(plan, card).verdict
                if verdict == "fits":
                    hours, total = cost(flops, peak, UTILISATION, price)
                    print(
                        f"{name.split('/')[1]:<16} {label:<16} {card:<11} {60 * hours:7.1f} min {total:8.2f}"
                    )
                else:
                    print(f"{name.split('/')[1]:<16} {label:<16} {card:<11} {VERDICTS[verdict]:>11}")

# %% [markdown]
# **Leitura do resultado.** Para um conjunto do tamanho dos desta trilha, o treino é coisa de minutos e de poucos reais: o que impede não é o preço da hora, é **caber**. Uma placa que não comporta o modelo não fica mais barata com paciência. Duas ressalvas: o aproveitamento de 30 % é uma suposição, e é a primeira coisa a medir num treino seu (operações contadas ÷ segundos ÷ pico); e no QLoRA a desquantização o reduz ainda mais. Se o QLoRA aparece mais barato que o LoRA na mesma placa, desconfie: pelas operações os dois empatam, e no relógio o QLoRA perde.

# %% [markdown]
# ## O que fica
#
# - Parâmetros se contam à mão, em uma linha por matriz; a biblioteca só confirma.
# - Treinado com Adam em fp32: 16 bytes por parâmetro. Congelado em 16 bits: 2. Em NF4: cerca de meio.
# - Ativações e logits crescem com os **tokens**, e nenhum método de PEFT os reduz muito; recomputar, sim.
# - Pico é um **momento**, não uma soma. Toda afirmação de economia tem uma condição.
# - LoRA poupa memória, e um terço das operações. QLoRA troca velocidade por memória.
#
# Na **aula 02** você ajusta por completo um modelo pequeno e compara o pico medido com o previsto aqui.
