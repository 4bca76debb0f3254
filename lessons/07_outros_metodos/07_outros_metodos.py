# ---
# jupyter:
#   hidden_modules: [toolkit.bottleneck]
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Prompt, prefixo e adaptador: três outros jeitos de treinar pouco
#
# Numa redação de jornal, um texto passa por trinta mesas até a página. Para que ele saia no tom de uma revista infantil sem trocar ninguém de lugar, há quatro saídas: prender um bilhete no alto do texto antes da primeira mesa; deixar um bilhete **em cada mesa**, que todos consultam ao ler; pôr um revisor depois de cada mesa; ou mudar um pouco as regras de cada mesa. A última é o LoRA. As outras três são o **ajuste de prompt**, o **ajuste de prefixo** e o **adaptador** em gargalo, mais antigas que ele e ainda em uso.
#
# Nesta aula você vai:
#
# 1. contar o que cada método acrescenta ao modelo;
# 2. escrever um **prompt contínuo** (*soft prompt*) e provar que ele imita qualquer prompt de texto;
# 3. escrever a atenção com **prefixo**, pô-lo num modelo inteiro e provar que ele também imita qualquer prompt de texto;
# 4. escrever o **adaptador em gargalo**, e descobrir por que ele não se funde aos pesos;
# 5. conferir os três, tensor por tensor, com a `peft` e com o `toolkit` do curso;
# 6. medir os **seis** métodos na mesma tarefa: parâmetros, memória, tempo, latência, qualidade e disco.
#
# **Tempo:** 75 a 90 minutos. **Antes:** as aulas 03 (LoRA) e 05 (quantização).
# **Pontos:** 20, em oito exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import warnings

import matplotlib.pyplot as plt
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from toolkit import Adapter, attach
from toolkit.exercise import needs_exercise

# Recados das bibliotecas às suas próprias versões futuras, e um da peft sobre posições que ela mesma recalcula.
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", message="Position ids are not supported")


def tiny_llama(seed=0, layers=2):
    """Um Llama de brinquedo, de pesos sorteados: largura 16, 4 cabeças de consulta e 2 de chave e valor."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True)).eval()


def some_ids(rows, length, seed=0):
    """Tokens sorteados, de forma (rows, length)."""
    return torch.randint(0, 64, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model, ids):
    """A saída do modelo para os tokens `ids`, sem guardar gradientes."""
    with torch.no_grad():
        return model(input_ids=ids).logits


def trainable_names(module):
    """Os nomes dos parâmetros que o otimizador mudaria."""
    return sorted(name for name, p in module.named_parameters() if p.requires_grad)


def fill(module, seed=0, std=0.5):
    """Sorteia tudo o que é treinável, em ordem alfabética, como se já tivesse havido treino."""
    learnt = {name: p for name, p in module.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in sorted(learnt):
            learnt[name].copy_(std * torch.randn(learnt[name].shape, generator=generator))


def peft_prompt(seed, weight, ids, mask):
    """A saída do mesmo modelo com o ajuste de prompt da peft e os vetores `weight`."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(weight))
    twin = get_peft_model(tiny_llama(seed=seed), config).eval()
    with torch.no_grad():
        twin.prompt_encoder["default"].embedding.weight.copy_(weight)
        return twin(input_ids=ids, attention_mask=mask).logits[:, len(weight) :]


def peft_prefix(seed, keys, values, ids, mask):
    """A saída do mesmo modelo com o ajuste de prefixo da peft e estas chaves e valores."""
    depth, kv_heads, n, width = keys.shape
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=n)
    twin = get_peft_model(tiny_llama(seed=seed, layers=depth), config).eval()
    pairs = torch.stack([keys, values], dim=1)  # (camadas, 2, H_kv, n, d): a ordem em que a peft os guarda
    with torch.no_grad():
        flat = pairs.permute(3, 0, 1, 2, 4).reshape(n, depth * 2 * kv_heads * width)
        twin.prompt_encoder["default"].embedding.weight.copy_(flat)
        return twin(input_ids=ids, attention_mask=mask).logits


def toolkit_adapter(seed, layers, size, ids):
    """A saída do mesmo modelo com o adaptador do toolkit, sorteado pelo mesmo `fill`."""
    twin = attach(tiny_llama(seed=seed, layers=layers), Adapter(size)).eval()
    fill(twin, seed=seed)
    return logits(twin, ids)


# %% [markdown]
# ## 1. Onde cada método mexe
#
# O desenho mostra um bloco do Transformer e os quatro lugares. Cinza é congelado; cor é treinado.

# %% cellView="form"
# @title Desenho: um bloco e os quatro métodos
COLORS = {"LoRA": "#f4a259", "prompt": "#5b8e7d", "prefixo": "#8cb369", "adaptador": "#bc4b51"}


def draw_block():
    _, axes = plt.subplots(figsize=(9, 7.2))
    axes.set(xlim=(0, 12), ylim=(-0.2, 13))
    axes.axis("off")
    frozen, line, middle = "#d9dde3", "#444", 5.2

    def box(x, y, width, text, color=frozen, height=0.8):
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor=line))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    def arrow(x0, y0, x1, y1):
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": line})

    def residual(y0, y1):
        axes.plot([middle, 0.3, 0.3], [y0, y0, y1], color=line, linestyle=":")
        arrow(0.3, y1, middle - 0.35, y1)
        axes.text(
            middle, y1, "+", ha="center", va="center", fontsize=12, bbox={"boxstyle": "circle", "fc": "white"}
        )

    box(0.6, 0.2, 2.6, "prompt: $n$ vetores", COLORS["prompt"])
    box(3.2, 0.2, 4.2, "embeddings do texto")
    axes.text(7.6, 0.6, "só na entrada do modelo", va="center", fontsize=9, style="italic")
    box(middle - 1.4, 1.6, 2.8, "RMSNorm")
    for x, name in ((1.0, "q_proj"), (4.0, "k_proj"), (6.6, "v_proj")):
        arrow(middle, 2.4, x + 0.7, 3.1)
        box(x, 3.1, 1.4, name)
        arrow(x + 0.7, 3.9, x + 0.7, 4.8)
    for x in (2.5, 8.1):
        box(x, 3.1, 0.9, "$BA$", COLORS["LoRA"])
    for x in (3.0, 7.4):
        box(x, 4.1, 1.6, "$n$ prefixos", COLORS["prefixo"], 0.5)
        arrow(x + 0.8, 4.6, x + 0.8, 4.8)
    axes.text(9.2, 4.35, "em cada bloco", va="center", fontsize=9, style="italic")
    box(1.0, 4.8, 7.0, "atenção: softmax$(QK^\\top)\\,V$")
    for y, name in ((6.0, "o_proj"), (9.9, "MLP: gate_proj, up_proj, down_proj")):
        width = 1.6 if name == "o_proj" else 5.6
        box(middle - width / 2, y, width, name)
        arrow(middle, y + 0.8, middle, y + 1.05)
        box(middle - 1.4, y + 1.05, 2.8, "adaptador", COLORS["adaptador"], 0.6)
    box(middle - 1.4, 8.7, 2.8, "RMSNorm")
    for y0, y1 in ((1.0, 1.6), (5.6, 6.0), (7.65, 7.8), (8.4, 8.7), (9.5, 9.9), (11.55, 11.7), (12.3, 12.8)):
        arrow(middle, y0, middle, y1)
    residual(1.3, 8.1)
    residual(8.5, 12.0)
    for place, (name, color) in enumerate({"congelado": frozen, **COLORS}.items()):
        box(9.7, 12.2 - 0.65 * place, 0.45, "", color, 0.4)
        axes.text(10.3, 12.4 - 0.65 * place, name, va="center")
    plt.show()


draw_block()

# %% [markdown]
# - **Prompt** ([Lester et al., 2021](https://arxiv.org/abs/2104.08691)): $n$ vetores de largura $d$ diante dos embeddings do texto. Nada mais. O modelo os lê como leria $n$ palavras, só que essas "palavras" não existem no vocabulário.
# - **Prefixo** ([Li & Liang, 2021](https://arxiv.org/abs/2101.00190)): em **cada** uma das $L$ camadas, $n$ chaves e $n$ valores treináveis diante dos que a camada calcula.
# - **Adaptador** ([Houlsby et al., 2019](https://arxiv.org/abs/1902.00751)): um gargalo $d \to m \to d$ depois da atenção e outro depois da MLP, em cada camada.
#
# Num modelo com atenção agrupada (GQA), há menos cabeças de chave e valor que de consulta: chaves e valores têm largura $d_{kv} = \text{cabeças}_{kv} \cdot d_\text{cabeça}$, que pode ser bem menor que $d$.

# %% [markdown]
# ### Exercício 1: quantos parâmetros?
#
# ★☆☆☆☆ · ◆◆◆◇◇ · 5 minutos · 2 pontos
#
# - `count_prompt(width, tokens)`: `tokens` vetores de largura `width`;
# - `count_prefix(layers, kv_width, tokens)`: chaves **e** valores, em todas as camadas;
# - `count_adapter(layers, width, size)`: **dois** adaptadores por camada, cada um com uma `nn.Linear(width, size)` e uma `nn.Linear(size, width)`, ambas com `bias`.


# %% nbgrader={"grade_id": "contar", "solution": true}
def count_prompt(width, tokens):
    """Parâmetros treináveis do ajuste de prompt."""
    ### BEGIN SOLUTION
    return tokens * width
    ### END SOLUTION


def count_prefix(layers, kv_width, tokens):
    """Parâmetros treináveis do ajuste de prefixo."""
    ### BEGIN SOLUTION
    return 2 * layers * tokens * kv_width
    ### END SOLUTION


def count_adapter(layers, width, size):
    """Parâmetros treináveis de dois adaptadores em gargalo por camada."""
    ### BEGIN SOLUTION
    return 2 * layers * (2 * width * size + size + width)
    ### END SOLUTION


# %% nbgrader={"grade_id": "contar_teste", "points": 2}
counted = count_prompt(576, 10)
assert counted == 5_760, f"Dez vetores de largura 576 são 5760 números; recebi {counted}."
counted = count_prefix(30, 192, 10)
assert counted == 115_200, f"30 camadas · 10 chaves e 10 valores · 192 números = 115200; recebi {counted}."
counted = count_adapter(1, 8, 3)
assert counted == 118, f"Descida: 8·3 + 3; subida: 3·8 + 8; vezes dois: 118; recebi {counted}."
### BEGIN HIDDEN TESTS
import random

for depth in (1, 3):
    for tokens in (2, 7):
        for config, mine in (
            (PromptTuningConfig, count_prompt(16, tokens)),
            (PrefixTuningConfig, count_prefix(depth, 8, tokens)),
        ):
            twin = get_peft_model(
                tiny_llama(layers=depth), config(task_type="CAUSAL_LM", num_virtual_tokens=tokens)
            )
            assert mine == twin.get_nb_trainable_parameters()[0], (
                "A contagem de prompt ou prefixo falha para outros tamanhos: compare com a peft."
            )
for _ in range(10):
    depth, width, size = random.randint(1, 50), random.randint(2, 3000), random.randint(1, 99)
    block = sum(p.numel() for m in (nn.Linear(width, size), nn.Linear(size, width)) for p in m.parameters())
    assert count_adapter(depth, width, size) == 2 * depth * block, (
        "A contagem do adaptador falha para outros tamanhos: não esqueça os dois termos de bias."
    )
### END HIDDEN TESTS

# %%
from toolkit import Architecture, Full, LoRA, Plan, count

NAMES = ["HuggingFaceTB/SmolLM2-135M", "TucanoBR/Tucano-1b1", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-8B"]  # fmt: skip
with needs_exercise(1):
    print(f"{'modelo':<16} {'total':>8} {'prompt n=20':>12} {'prefixo n=20':>13} {'LoRA r=8':>10} {'adaptador m=16':>15}")  # fmt: skip
    for name in NAMES:
        a = Architecture.from_config(name)
        lora = count(Plan(a, LoRA(rank=8, alpha=16))).trainable
        total = count(Plan(a, Full())).total
        print(
            f"{name.split('/')[1]:<16} {total / 1e6:6,.0f} M {count_prompt(a.hidden, 20):12_d} "
            f"{count_prefix(a.layers, a.kv_width, 20):13_d} {lora:10_d} {count_adapter(a.layers, a.hidden, 16):15_d}"
        )

# %% [markdown]
# **Leitura do resultado.** O prompt é de longe o menor: no modelo de 8 bilhões são 81.920 números, 320 KiB em fp32. Compare o prefixo nos dois últimos: o Llama-2-7B tem uma cabeça de chave e valor para cada uma de consulta, e o prefixo dele é **quatro vezes** maior que o do Llama-3.1-8B, que é um modelo maior, com a mesma largura e as mesmas 32 camadas. Se as suas duas linhas saem iguais, a sua conta usa a largura do modelo no lugar de $d_{kv}$.

# %% [markdown]
# ## 2. O prompt contínuo
#
# Um prompt de texto vira, na entrada do modelo, uma fila de vetores: uma linha da tabela de embeddings por token. O texto só pode escolher entre as linhas da tabela. O prompt contínuo solta essa amarra: os vetores são parâmetros, e o gradiente os leva para onde a perda mandar, ainda que ali não haja palavra nenhuma.
#
# $$\big[\underbrace{p_1, \dots, p_n}_{\text{treinados}},\; e(x_1), \dots, e(x_T)\big] \longrightarrow \text{modelo congelado}$$
#
# Duas coisas são fáceis de errar:
#
# - **A máscara.** O lote vem com uma `attention_mask` de zeros e uns, de forma (lote, $T$), que marca o preenchimento. Os $n$ vetores do prompt entram na fila, e a máscara precisa crescer com eles.
# - **A saída.** O modelo devolve logits também para as $n$ posições do prompt. Elas não preveem token nenhum do texto: joga-se fora.
#
# **De onde partir?** Lester e colegas mediram: nos modelos pequenos, partir de vetores sorteados é pior do que partir de embeddings de palavras de verdade. Faremos como eles.

# %% [markdown]
# ### Exercício 2: `SoftPrompt`
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos (2 pela construção, 2 pela passagem direta)
#
# - `__init__(model, start_ids)`: congele `model` inteiro e crie `self.weight`, um `nn.Parameter` de forma `(n, largura)`, que começa como uma **cópia** dos embeddings dos $n$ tokens de `start_ids` (um tensor de uma dimensão). Não guarde `model` num atributo: ele viraria parte do prompt.
# - `forward(model, input_ids, attention_mask)`: devolve os logits das posições do texto, de forma `(lote, T, vocabulário)`.
#
# *Dicas:* `model.get_input_embeddings()` é a tabela, uma `nn.Embedding`; o modelo aceita `inputs_embeds=` no lugar de `input_ids=`.


# %% nbgrader={"grade_id": "prompt", "solution": true}
class SoftPrompt(nn.Module):
    """Vetores treináveis diante dos embeddings da entrada; weight: (n, largura)."""

    def __init__(self, model, start_ids):
        super().__init__()
        ### BEGIN SOLUTION
        model.requires_grad_(False)
        self.weight = nn.Parameter(model.get_input_embeddings()(start_ids).detach().clone())
        ### END SOLUTION

    def forward(self, model, input_ids, attention_mask):
        """Os logits das posições do texto: (lote, T, vocabulário)."""
        ### BEGIN SOLUTION
        rows, n = len(input_ids), len(self.weight)
        words = model.get_input_embeddings()(input_ids)
        inputs = torch.cat([self.weight.expand(rows, -1, -1), words], dim=1)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)
        return model(inputs_embeds=inputs, attention_mask=mask).logits[:, n:]
        ### END SOLUTION


# %% nbgrader={"grade_id": "prompt_inicio_teste", "points": 2}
model = tiny_llama()
soft = SoftPrompt(model, torch.tensor([5, 9, 9]))
assert trainable_names(soft) == ["weight"], f"O prompt tem um só parâmetro; achei {trainable_names(soft)}."
assert tuple(soft.weight.shape) == (3, 16), (
    f"Três tokens, largura 16: a forma é (3, 16); recebi {tuple(soft.weight.shape)}."
)
assert trainable_names(model) == [], "Depois de criar o prompt, o modelo inteiro deve estar congelado."
table = tiny_llama().get_input_embeddings().weight
assert torch.equal(soft.weight, table[[5, 9, 9]]), "O prompt deve começar nos embeddings de start_ids."
### BEGIN HIDDEN TESTS
for seed, start in ((3, [1, 2, 3, 4, 60]), (4, [33])):
    model = tiny_llama(seed=seed)
    soft = SoftPrompt(model, torch.tensor(start))
    before = tiny_llama(seed=seed).get_input_embeddings().weight
    assert torch.equal(soft.weight, before[start]), (
        "O prompt deve começar nos embeddings de quaisquer start_ids."
    )
    with torch.no_grad():
        soft.weight.add_(1.0)
    assert trainable_names(soft) == ["weight"], "weight deve ser treinável."
    assert torch.equal(model.get_input_embeddings().weight, before), (
        "Mudar o prompt não pode mudar a tabela de embeddings: falta copiar."
    )
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "prompt_passagem_teste", "points": 2}
start, ids = torch.tensor([5, 9, 2]), some_ids(2, 6)
text = torch.cat([start.expand(2, -1), ids], dim=1)
expected = logits(tiny_llama(), text)[:, 3:]
model = tiny_llama()
soft = SoftPrompt(model, start)
answer = soft(model, ids, torch.ones_like(ids))
assert tuple(answer.shape) == (2, 6, 64), (
    f"Só as posições do texto: (2, 6, 64); recebi {tuple(answer.shape)}."
)
# a mesma conta, na mesma ordem: em float32 sobra a última casa
assert torch.allclose(answer, expected, atol=1e-5), (
    "Um prompt que é cópia do texto 'start' deve dar a mesma resposta que escrever 'start' antes do texto."
)

### BEGIN HIDDEN TESTS
for seed, n, length in ((7, 4, 5), (8, 1, 9)):
    model = tiny_llama(seed=seed, layers=2)
    soft = SoftPrompt(model, some_ids(1, n, seed)[0])
    weight = torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        soft.weight.copy_(weight)
    ids, mask = some_ids(3, length, seed), torch.ones(3, length, dtype=torch.long)
    mask[0, :2] = 0  # a primeira linha começa com preenchimento
    mine, theirs = soft(model, ids, mask), peft_prompt(seed, weight, ids, mask)
    assert torch.allclose(mine[1:], theirs[1:], atol=1e-4), (
        "A saída difere da peft para outros prompts e textos."
    )
    assert torch.allclose(mine[0, 2:], theirs[0, 2:], atol=1e-4), (
        "Com preenchimento no lote a saída difere da peft: a máscara do prompt é toda de uns."
    )
    shuffled = ids.clone()
    shuffled[0, :2] = (ids[0, :2] + 1) % 64
    assert torch.allclose(soft(model, shuffled, mask)[0, 2:], mine[0, 2:], atol=1e-5), (
        "O que está mascarado não pode mudar a resposta."
    )
    mine[1:].square().sum().backward()
    assert soft.weight.grad is not None and float(soft.weight.grad.abs().min(dim=1).values.max()) > 0, (
        "O gradiente deve chegar aos vetores do prompt."
    )
### END HIDDEN TESTS

# %%
with needs_exercise(2):
    weight = torch.randn(3, 16)
    model = tiny_llama()
    soft = SoftPrompt(model, torch.tensor([5, 9, 2]))
    with torch.no_grad():
        soft.weight.copy_(weight)
    ids = some_ids(2, 6)
    mask = torch.ones_like(ids)
    gap = (soft(model, ids, mask) - peft_prompt(0, weight, ids, mask)).abs().max().detach()
    print(f"Maior diferença entre o seu prompt e o da peft: {float(gap):.1e}")

# %% [markdown]
# **Leitura do resultado.** Espere 0 ou 1e-7, a última casa do float32. O primeiro teste diz mais que isso: **todo prompt de texto é um ponto** do espaço em que o prompt contínuo se move. Por isso, na perda de treino, o melhor prompt contínuo não pode ser pior que o melhor texto com o mesmo número de tokens. *Achar* esse ponto por gradiente é outra história, e você vai medi-la.

# %% [markdown]
# ### Várias tarefas no mesmo lote
#
# Há uma coisa que o LoRA fundido não faz: como o prompt é parte da **entrada**, cada linha do lote pode trazer o seu. Um servidor atende doze clientes numa só passagem pelo mesmo modelo.

# %%
with needs_exercise(2):
    model, ids = tiny_llama(), some_ids(2, 6)
    mask = torch.ones_like(ids)
    clients = [SoftPrompt(model, torch.tensor(start)) for start in ([5, 9, 2], [40, 1, 7])]
    alone = [soft(model, ids[row : row + 1], mask[:1])[0] for row, soft in enumerate(clients)]
    both = SoftPrompt(model, torch.tensor([0, 0, 0]))
    both.weight = nn.Parameter(torch.stack([soft.weight.detach() for soft in clients]))  # (2, 3, 16)
    words = model.get_input_embeddings()(ids)
    together = model(inputs_embeds=torch.cat([both.weight, words], dim=1)).logits[:, 3:]
    gap = (together - torch.stack(alone)).abs().max().detach()
    print(f"Cada linha com o seu prompt, juntas ou sozinhas: {float(gap):.1e}")

# %% [markdown]
# **Leitura do resultado.** Zero, ou a última casa: as duas linhas passaram juntas, cada uma com o seu prompt, e nenhuma viu o da outra. O prefixo permite o mesmo; o adaptador e o LoRA separado, só com código próprio para isso (o lote misto da aula 04); pesos fundidos, nunca.

# %% [markdown]
# ## 3. O prefixo: chaves e valores que ninguém calculou
#
# Na atenção, cada posição pergunta (consulta $q$), compara a pergunta com as chaves $k$ do que veio antes e recolhe os valores $v$ das que combinam. O prefixo acrescenta $n$ pares de chave e valor que não vêm de token nenhum: são parâmetros.
#
# $$\operatorname{softmax}\!\left(\frac{q\,[P_K;\, K]^\top}{\sqrt{d_\text{cabeça}}}\right)[P_V;\, V]$$
#
# A máscara causal continua: a posição $t$ do texto vê as posições até $t$ do texto. Mas **todas** veem o prefixo inteiro. E na atenção agrupada, cada cabeça de chave e valor serve a $H / H_{kv}$ cabeças de consulta seguidas.


# %% cellView="form"
# @title Desenho: quem vê quem, com um prefixo
def draw_mask(prefix=3, length=6):
    seen = torch.cat([torch.full((length, prefix), 2.0), torch.ones(length, length).tril()], dim=1)
    _, axes = plt.subplots(figsize=(7, 3.9))
    axes.imshow(seen, cmap=plt.matplotlib.colors.ListedColormap(["white", "#d9dde3", COLORS["prefixo"]]))
    axes.set_xticks(range(prefix + length), [f"$P_{i + 1}$" for i in range(prefix)] + [f"$x_{i + 1}$" for i in range(length)])  # fmt: skip
    axes.set_yticks(range(length), [f"$x_{i + 1}$" for i in range(length)])
    axes.set(xlabel="chaves e valores: prefixo (treinado) e texto", ylabel="consultas")
    for edge in range(prefix + length):
        axes.axvline(edge - 0.5, color="white", linewidth=1)
    for edge in range(length):
        axes.axhline(edge - 0.5, color="white", linewidth=1)
    axes.set_title("O prefixo é visto por todos e não pergunta nada")
    plt.show()


draw_mask()

# %% [markdown]
# ### Exercício 3: `attention_with_prefix`
#
# ★★★☆☆ · ◆◆◆◆◇ · 12 minutos · 2 pontos
#
# `attention_with_prefix(q, k, v, prefix_k, prefix_v)` devolve um tensor com a forma de `q`. As formas: `q` é `(lote, H, T, d)`; `k` e `v`, `(lote, H_kv, T, d)`; `prefix_k` e `prefix_v`, `(H_kv, n, d)`, os mesmos para todo o lote. *Dicas:* `repeat_interleave` ao longo da dimensão das cabeças; `torch.ones(T, T).tril()` é a máscara causal; uma pontuação $-\infty$ antes da softmax vira peso zero.


# %% nbgrader={"grade_id": "atencao", "solution": true}
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    """Atenção causal e agrupada, com chaves e valores treináveis diante dos do texto."""
    ### BEGIN SOLUTION
    rows, heads, length, width = q.shape
    keys = torch.cat([prefix_k.expand(rows, -1, -1, -1), k], dim=2)
    values = torch.cat([prefix_v.expand(rows, -1, -1, -1), v], dim=2)
    groups = heads // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
    scores = q @ keys.transpose(2, 3) / width**0.5
    seen = torch.cat([torch.ones(length, prefix_k.shape[1]), torch.ones(length, length).tril()], dim=1)
    return scores.masked_fill(seen == 0, -torch.inf).softmax(-1) @ values
    ### END SOLUTION


# %% nbgrader={"grade_id": "atencao_teste", "points": 2}
torch.manual_seed(1)
q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 8)
answer = attention_with_prefix(q, k, v, torch.zeros(4, 0, 8), torch.zeros(4, 0, 8))
plain = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(answer, plain, atol=1e-5), (
    "Com um prefixo vazio, deve sobrar a atenção causal comum do PyTorch."
)
strong = torch.full((4, 1, 8), 50.0)
answer = attention_with_prefix(q.abs(), k, v, strong, torch.full((4, 1, 8), 3.0))
assert torch.allclose(answer, torch.full_like(q, 3.0), atol=1e-3), (
    "Uma chave que combina com tudo deve levar toda a atenção: a saída é o valor dela, em todas as posições."
)
### BEGIN HIDDEN TESTS
for rows, heads, kv_heads, length, width, n in ((2, 4, 2, 5, 8, 3), (3, 6, 2, 7, 4, 1), (1, 2, 2, 3, 16, 5)):
    q = torch.randn(rows, heads, length, width)
    k, v = torch.randn(rows, kv_heads, length, width), torch.randn(rows, kv_heads, length, width)
    prefix_k, prefix_v = torch.randn(kv_heads, n, width), torch.randn(kv_heads, n, width)
    answer = attention_with_prefix(q, k, v, prefix_k, prefix_v)
    assert tuple(answer.shape) == (rows, heads, length, width), "A saída tem a forma de q."
    for head in range(heads):
        shared = head // (heads // kv_heads)
        for row in range(rows):
            for t in range(length):
                keys = torch.cat([prefix_k[shared], k[row, shared, : t + 1]])
                values = torch.cat([prefix_v[shared], v[row, shared, : t + 1]])
                weights = (keys @ q[row, head, t] / width**0.5).softmax(0)
                # somas em outra ordem: em float32 mudam as últimas casas
                assert torch.allclose(answer[row, head, t], weights @ values, atol=1e-4), (
                    "A conta falha para outras cabeças, lotes ou tamanhos: confira o agrupamento, a máscara e a escala."
                )
### END HIDDEN TESTS

# %% [markdown]
# ## 4. O prefixo num modelo inteiro
#
# Não é preciso reescrever a atenção do Llama. Ao gerar texto, o modelo guarda as chaves e os valores das posições passadas num **cache**, para não recalculá-los. Um cache já cheio, com $n$ posições que nunca existiram, é exatamente um prefixo:
#
# ```python
# cache = DynamicCache()
# cache.update(keys, values, layer)      # (lote, H_kv, n, d_cabeça), uma vez por camada, na ordem
# model(input_ids=..., attention_mask=..., past_key_values=cache)
# ```
#
# É assim que a `peft` faz. Dois detalhes vêm de graça: as posições do texto passam a contar de $n$ em diante; e as chaves do prefixo são usadas como estão, sem a rotação de posição (RoPE) que o modelo aplica às suas.
#
# **De onde partir?** De números sorteados, a resposta do modelo já começa estragada: toda posição presta atenção a lixo. Li e Liang partem das ativações de um texto de verdade. Com o cache é fácil: dê o texto ao modelo e recolha o que ele guardou, em `cache.layers[i].keys` e `cache.layers[i].values`, de forma `(1, H_kv, n, d_cabeça)`.

# %% [markdown]
# ### Exercício 4: `Prefix`
#
# ★★★★☆ · ◆◆◆◆◆ · 18 minutos · 4 pontos (2 pela construção, 2 pela passagem direta)
#
# - `__init__(model, start_ids)`: congele `model`; crie `self.keys` e `self.values`, dois `nn.Parameter` de forma `(camadas, H_kv, n, d_cabeça)`, com o que o modelo guarda ao ler `start_ids` (uma dimensão).
# - `forward(model, input_ids, attention_mask)`: os logits do texto, `(lote, T, vocabulário)`. A máscara cresce outra vez; a saída, desta vez, não precisa de corte. Faça um cache **novo** a cada passagem: o modelo escreve nele.


# %% nbgrader={"grade_id": "prefixo", "solution": true}
class Prefix(nn.Module):
    """Chaves e valores treináveis em cada camada; keys e values: (camadas, H_kv, n, d_cabeça)."""

    def __init__(self, model, start_ids):
        super().__init__()
        ### BEGIN SOLUTION
        model.requires_grad_(False)
        with torch.no_grad():
            kept = model(input_ids=start_ids[None], use_cache=True).past_key_values
        self.keys = nn.Parameter(torch.cat([layer.keys for layer in kept.layers]))
        self.values = nn.Parameter(torch.cat([layer.values for layer in kept.layers]))
        ### END SOLUTION

    def forward(self, model, input_ids, attention_mask):
        """Os logits do texto: (lote, T, vocabulário)."""
        ### BEGIN SOLUTION
        rows, n = len(input_ids), self.keys.shape[2]
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache).logits
        ### END SOLUTION


# %% nbgrader={"grade_id": "prefixo_inicio_teste", "points": 2}
model = tiny_llama()
prefix = Prefix(model, torch.tensor([5, 9, 2]))
assert trainable_names(prefix) == ["keys", "values"], (
    f"O prefixo tem dois parâmetros, keys e values; achei {trainable_names(prefix)}."
)
assert tuple(prefix.keys.shape) == tuple(prefix.values.shape) == (2, 2, 3, 4), (
    f"2 camadas, 2 cabeças de chave e valor, 3 posições, largura 4; recebi {tuple(prefix.keys.shape)}."
)
assert trainable_names(model) == [], "Depois de criar o prefixo, o modelo inteiro deve estar congelado."
### BEGIN HIDDEN TESTS
for seed, depth, n in ((5, 3, 4), (6, 1, 2)):
    start, twin = some_ids(1, n, seed), tiny_llama(seed=seed, layers=depth)
    with torch.no_grad():
        kept = twin(input_ids=start, use_cache=True).past_key_values
    model = tiny_llama(seed=seed, layers=depth)
    prefix = Prefix(model, start[0])
    for layer in range(depth):
        # o mesmo modelo lê o mesmo texto: nada muda além da última casa
        assert torch.allclose(prefix.keys[layer], kept.layers[layer].keys[0], atol=1e-5), (
            "keys deve ter, camada por camada, as chaves que o modelo guarda ao ler start_ids."
        )
        assert torch.allclose(prefix.values[layer], kept.layers[layer].values[0], atol=1e-5), (
            "values deve ter, camada por camada, os valores que o modelo guarda ao ler start_ids."
        )
    assert trainable_names(prefix) == ["keys", "values"], "keys e values devem ser treináveis."
    assert trainable_names(model) == [], "O modelo inteiro deve estar congelado."
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "prefixo_passagem_teste", "points": 2}
start, ids = torch.tensor([5, 9, 2]), some_ids(2, 6)
expected = logits(tiny_llama(), torch.cat([start.expand(2, -1), ids], dim=1))[:, 3:]
model = tiny_llama()
prefix = Prefix(model, start)
answer = prefix(model, ids, torch.ones_like(ids))
assert tuple(answer.shape) == (2, 6, 64), (
    f"Uma saída por token do texto: (2, 6, 64); recebi {tuple(answer.shape)}."
)
# as mesmas somas em outra ordem (as chaves do prefixo já vêm prontas): em float32, as últimas casas
assert torch.allclose(answer, expected, atol=1e-4), (
    "Um prefixo tirado do texto 'start' deve dar a mesma resposta que escrever 'start' antes do texto."
)
again = prefix(model, ids, torch.ones_like(ids))
assert torch.equal(answer, again), "A segunda passagem mudou: faça um cache novo a cada vez."

### BEGIN HIDDEN TESTS
for seed, depth, n, length in ((7, 2, 4, 5), (8, 3, 1, 8)):
    model = tiny_llama(seed=seed, layers=depth)
    prefix = Prefix(model, some_ids(1, n, seed)[0])
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(depth, 2, n, 4, generator=generator) for _ in range(2))
    with torch.no_grad():
        prefix.keys.copy_(keys)
        prefix.values.copy_(values)
    ids, mask = some_ids(3, length, seed), torch.ones(3, length, dtype=torch.long)
    mask[0, :2] = 0
    mine, theirs = prefix(model, ids, mask), peft_prefix(seed, keys, values, ids, mask)
    assert torch.allclose(mine[1:], theirs[1:], atol=1e-4), (
        "A saída difere da peft para outros prefixos: confira a ordem das camadas, chaves e valores."
    )
    assert torch.allclose(mine[0, 2:], theirs[0, 2:], atol=1e-4), (
        "Com preenchimento no lote a saída difere da peft: a máscara do prefixo é toda de uns."
    )
    mine[1:].square().sum().backward()
    for name, p in (("keys", prefix.keys), ("values", prefix.values)):
        assert p.grad is not None and float(p.grad.flatten(1).abs().sum(1).min()) > 0, (
            f"O gradiente deve chegar a {name} em todas as camadas."
        )
### END HIDDEN TESTS

# %%
with needs_exercise(2, 4):
    model, ids, start = tiny_llama(), some_ids(2, 6), torch.tensor([5, 9, 2])
    mask = torch.ones_like(ids)
    prefix, soft = Prefix(model, start), SoftPrompt(model, start)
    gap = (prefix(model, ids, mask) - soft(model, ids, mask)).abs().max().detach()
    print(f"prefixo tirado de um texto, contra o prompt do mesmo texto: {float(gap):.1e}")
    fill(prefix, seed=1)
    theirs = peft_prefix(0, prefix.keys, prefix.values, ids, mask)
    gap = (prefix(model, ids, mask) - theirs).abs().max().detach()
    print(f"prefixo sorteado, contra o da peft com os mesmos números:   {float(gap):.1e}")

# %% [markdown]
# **Leitura do resultado.** As duas diferenças ficam nas últimas casas do float32. A primeira linha ordena os métodos: todo prompt de texto é um prompt contínuo, e o que um prompt contínuo faz nas camadas de cima é um prefixo particular, cujas chaves e valores ele é obrigado a **calcular** a partir da entrada. O prefixo escolhe cada um à vontade, em $2L$ lugares no lugar de um: pode mais, e custa mais parâmetros.

# %% [markdown]
# ## 5. O adaptador em gargalo
#
# $$h \;\leftarrow\; h + W_\text{sobe}\,\operatorname{GELU}(W_\text{desce}\, h + b_\text{desce}) + b_\text{sobe}, \qquad W_\text{desce}: m \times d,\quad W_\text{sobe}: d \times m$$
#
# A forma lembra o LoRA ($d \to m \to d$, com $m$ pequeno), mas há duas diferenças. O adaptador vem **depois** da matriz, em série, e não ao lado dela. E há uma função não linear no meio. O início é como no LoRA: $W_\text{sobe} = 0$ e $b_\text{sobe} = 0$, de modo que no primeiro instante o modelo responde exatamente como antes.
#
# Houlsby e colegas puseram dois por bloco, depois da atenção e depois da MLP, ambos antes da soma residual. [Pfeiffer et al. (2020)](https://arxiv.org/abs/2005.00247) mediram que só o da MLP quase basta: metade dos parâmetros, e metade das peças no caminho.

# %% [markdown]
# ### Exercício 5: `BottleneckAdapter`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# `self.down` e `self.up` são `nn.Linear` com `bias`, de `width` a `size` e de volta. Comece `up` em zero (peso e `bias`) e deixe `down` sorteado. Use `nn.functional.gelu`.


# %% nbgrader={"grade_id": "gargalo", "solution": true}
class BottleneckAdapter(nn.Module):
    """h + up(gelu(down(h))): não muda nada até o primeiro passo do otimizador."""

    def __init__(self, width, size):
        super().__init__()
        ### BEGIN SOLUTION
        self.down = nn.Linear(width, size)
        self.up = nn.Linear(size, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        ### END SOLUTION

    def forward(self, h):
        """Entrada e saída (..., width)."""
        ### BEGIN SOLUTION
        return h + self.up(nn.functional.gelu(self.down(h)))
        ### END SOLUTION


# %% nbgrader={"grade_id": "gargalo_teste", "points": 2}
adapter = BottleneckAdapter(6, 2)
assert trainable_names(adapter) == ["down.bias", "down.weight", "up.bias", "up.weight"], (
    f"Duas nn.Linear com bias, down e up; achei {trainable_names(adapter)}."
)
h = torch.randn(3, 4, 6)
assert torch.equal(adapter(h), h), "No início a saída deve ser exatamente a entrada: up começa em zero."
assert float(adapter.down.weight.detach().std()) > 0, (
    "down deve começar sorteado, senão nada recebe gradiente."
)
fill(adapter)
change = (adapter(h) - h).detach()
assert float(change.abs().max()) > 1e-3, "Depois do treino, a saída deve ser diferente da entrada."
### BEGIN HIDDEN TESTS
for width, size in ((6, 2), (9, 12)):
    adapter = BottleneckAdapter(width, size)
    assert tuple(adapter.down.weight.shape) == (size, width), "down leva width números a size."
    assert tuple(adapter.up.weight.shape) == (width, size), "up leva size números a width."
    fill(adapter, seed=size)
    h = torch.randn(2, 5, width)
    inner = h @ adapter.down.weight.T + adapter.down.bias
    target = h + nn.functional.gelu(inner) @ adapter.up.weight.T + adapter.up.bias
    # os mesmos produtos em outra ordem: em float32 mudam as últimas casas
    assert torch.allclose(adapter(h), target, atol=1e-4), (
        "A saída deve ser h + up(gelu(down(h))), para quaisquer tamanhos."
    )
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 6: `insert_adapters`
#
# ★★★☆☆ · ◆◆◆◆◆ · 12 minutos · 2 pontos
#
# `insert_adapters(model, size, places)` congela o modelo e faz cada `nn.Linear` cujo nome, depois do último ponto, está em `places` ser seguida de um `BottleneckAdapter` novo: no lugar dela entra `nn.Sequential(linear, adaptador)`. A largura do adaptador é a da **saída** da camada. Devolve quantos inseriu; se nenhum, lança `ValueError`.
#
# `o_proj` é a última matriz da atenção e `down_proj`, a última da MLP: com as duas temos Houlsby; só com `down_proj`, Pfeiffer. (O `toolkit` tem um adaptador desses, para você comparar em casa. Na correção, o módulo `toolkit.bottleneck` não existe: a resposta tem de ser sua.)


# %% nbgrader={"grade_id": "inserir", "solution": true}
def insert_adapters(model, size, places=("o_proj", "down_proj")):
    """Põe um BottleneckAdapter depois de cada nn.Linear chamada como um dos `places`; devolve quantos pôs."""
    ### BEGIN SOLUTION
    model.requires_grad_(False)
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in places
    ]
    if not found:
        raise ValueError(f"Nenhuma camada linear se chama {' ou '.join(places)}.")
    for name in found:
        linear = model.get_submodule(name)
        model.set_submodule(name, nn.Sequential(linear, BottleneckAdapter(linear.out_features, size)))
    return len(found)
    ### END SOLUTION


# %% nbgrader={"grade_id": "inserir_teste", "points": 2}
ids = some_ids(2, 7)
model = tiny_llama()
inserted = insert_adapters(model, 4)
assert inserted == 4, f"Duas camadas, dois lugares em cada: 4 adaptadores; recebi {inserted}."
names = trainable_names(model)
assert len(names) == 16 and all(".down." in name or ".up." in name for name in names), (
    f"Só os adaptadores podem ser treináveis (4 tensores em cada um dos 4); achei {len(names)}: {names[:3]}..."
)
assert torch.equal(logits(model, ids), logits(tiny_llama(), ids)), (
    "Antes do treino, o modelo com adaptadores responde exatamente como o original."
)

### BEGIN HIDDEN TESTS
for seed, depth, size in ((11, 3, 5), (12, 1, 2)):
    model = tiny_llama(seed=seed, layers=depth)
    assert insert_adapters(model, size) == 2 * depth, "São dois adaptadores por camada, em todas as camadas."
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * depth * (
        2 * 16 * size + size + 16
    ), "O tamanho dos adaptadores deve seguir a largura da saída e `size`."
    fill(model, seed=seed)
    gap = (logits(model, ids) - toolkit_adapter(seed, depth, size, ids)).abs().max()
    # os mesmos produtos na mesma ordem; sobra a última casa
    assert float(gap) < 1e-4, "Com os mesmos números, a saída deve ser a do adaptador do toolkit."
model = tiny_llama(seed=13)
assert insert_adapters(model, 3, ["down_proj"]) == 2, "Só depois de down_proj: um por camada (Pfeiffer)."
assert all("mlp" in name for name in trainable_names(model)), "Só os lugares pedidos recebem adaptador."
model = tiny_llama(seed=14)
insert_adapters(model, 3, ("gate_proj",))
assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * (2 * 32 * 3 + 3 + 32), (
    "A largura do adaptador é a da saída da camada: gate_proj leva 16 a 32."
)
for wrong in (("proj",), ("mlp",), ("o_prj",)):
    try:
        insert_adapters(tiny_llama(), 2, wrong)
    except ValueError:
        continue
    raise AssertionError("Deve haver ValueError quando nenhuma nn.Linear tem exatamente aquele nome.")
### END HIDDEN TESTS

# %% [markdown]
# ### Por que o adaptador não se funde?
#
# O LoRA some na hora de usar: $W_0 + \frac{\alpha}{r}BA$ é outra matriz do mesmo tamanho. Tente o mesmo com o adaptador. Se **não houvesse** a GELU, ele também sumiria: depois de $y = Wx + c$ vem
#
# $$y + U(Dy + b_D) + b_U = \underbrace{(I + UD)\,W}_{W'}\,x \;+\; \underbrace{(I + UD)\,c + U b_D + b_U}_{c'}$$
#
# que é uma só camada linear. (E note: $W' - W = U\,(DW)$ tem posto no máximo $m$. Um adaptador sem a GELU **é** um LoRA de posto $m$.)

# %% [markdown]
# ### Exercício 7: `fold`
#
# ★★★☆☆ · ◆◆◆◇◇ · 8 minutos · 1 ponto
#
# `fold(linear, down, up)` devolve uma `nn.Linear` nova, com `bias`, igual a `linear` seguida do adaptador **sem** a GELU: $y + \text{up}(\text{down}(y))$. `linear` pode não ter `bias`. Não mude as três camadas recebidas.


# %% nbgrader={"grade_id": "dobrar", "solution": true}
def fold(linear, down, up):
    """A nn.Linear que faz de uma vez y = linear(x) e y + up(down(y))."""
    ### BEGIN SOLUTION
    folded = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        whole = torch.eye(linear.out_features) + up.weight @ down.weight
        folded.weight.copy_(whole @ linear.weight)
        folded.bias.copy_(up.weight @ down.bias + up.bias)
        if linear.bias is not None:
            folded.bias.add_(whole @ linear.bias)
    return folded
    ### END SOLUTION


# %% nbgrader={"grade_id": "dobrar_teste", "points": 1}
torch.manual_seed(2)
linear, down, up = nn.Linear(5, 8), nn.Linear(8, 3), nn.Linear(3, 8)
x = torch.randn(4, 5)
y = linear(x).detach()
expected = (y + up(down(y))).detach()
answer = fold(linear, down, up)(x)
# três produtos viram um: em float32 mudam as últimas casas
assert torch.allclose(answer, expected, atol=1e-4), (
    "fold(...)(x) deve ser y + up(down(y)), com y = linear(x)."
)
### BEGIN HIDDEN TESTS
for size_in, size_out, m, bias in ((7, 4, 2, False), (3, 9, 5, True), (6, 6, 6, False)):
    linear, down, up = nn.Linear(size_in, size_out, bias=bias), nn.Linear(size_out, m), nn.Linear(m, size_out)
    x = torch.randn(2, 3, size_in)
    y = linear(x).detach()
    expected, weight = (y + up(down(y))).detach(), linear.weight.detach().clone()
    folded = fold(linear, down, up)
    assert tuple(folded.weight.shape) == (size_out, size_in), (
        "O resultado é uma camada do tamanho da original."
    )
    assert torch.allclose(folded(x), expected, atol=1e-4), (
        "A conta falha para outros tamanhos, ou quando linear não tem bias."
    )
    assert torch.equal(linear.weight, weight), "As camadas recebidas não podem mudar."
    change = torch.linalg.svdvals(folded.weight.detach() - weight)
    assert int((change > 1e-4).sum()) <= m, "A mudança do peso deve ter posto de no máximo m."
### END HIDDEN TESTS

# %%
with needs_exercise(5, 7):
    torch.manual_seed(0)
    linear, adapter = nn.Linear(16, 16, bias=False), BottleneckAdapter(16, 4)
    fill(adapter)
    a, b = torch.randn(100, 16), torch.randn(100, 16)
    print(f"{'':<22} {'f(a + b) + f(0) - f(a) - f(b)':>30}")
    for label, f in (
        ("sem a GELU (fold)", fold(linear, adapter.down, adapter.up)),
        ("com a GELU", lambda x: adapter(linear(x))),
    ):
        gap = f(a + b) + f(torch.zeros(1, 16)) - f(a) - f(b)
        print(f"{label:<22} {float(gap.abs().max().detach()):30.6f}")

# %% [markdown]
# **Leitura do resultado.** Uma camada linear com `bias` faz sempre essa conta dar zero, e a primeira linha dá zero até a última casa. A segunda não: nenhuma matriz faz o que o adaptador faz. Por isso ele fica no caminho para sempre, e cobra o seu tempo a **cada token**. O prefixo e o prompt cobram de outro modo: $n$ posições a mais no cache, em cada camada.

# %% [markdown]
# ## 6. Seis métodos, a mesma tarefa
#
# Até aqui, o "como". Falta o "quanto": o ajuste completo, o LoRA, o QLoRA e os três desta aula, no **mesmo** modelo, com os **mesmos** dados, na mesma ordem, pelo mesmo número de passos. A tarefa: dizer se uma candidatura merece entrevista, isto é, se o resultado da prova é *bom* ou *excelente*. Os textos são os da aula 08, com a resposta justa; são curtos, e por isso cabem no tempo da aula passos bastantes para que alguns métodos aprendam a tarefa, e não só o formato da resposta.

# %%
import os
from importlib.util import find_spec

from toolkit import IA3, PrefixTuning, PromptTuning, QLoRA, base_model, choose, read_examples, train

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
base = base_model("tiny" if reduced else "")
base.tokenizer.chat_template = None  # pergunta e resposta sem o formato de conversa: metade dos tokens
print(f"Modelo: {base.name} ({base.reason})\n")

METHODS = {
    "completo": Full(),
    "LoRA": LoRA(rank=8, alpha=16, targets="all-linear"),
    "QLoRA": QLoRA(rank=8, alpha=16, targets="all-linear"),
    "prefixo": PrefixTuning(20),
    "prompt": PromptTuning(20),
    "adaptador": Adapter(8),
}
# Na correção, toolkit.bottleneck fica escondido (seria a resposta dos exercícios 5 e 6), e a linha sai da tabela.
if find_spec("toolkit.bottleneck") is None:
    del METHODS["adaptador"]

ANSWERS = ["sim", "não"]
rows = DADOS / "recrutamento"
instruction = (rows / "instrucao.txt").read_text(encoding="utf-8").strip()
train_data, validation_data, test_data = (
    read_examples(rows / f"{part}.jsonl", "texto", "merece", instruction)
    for part in ("train", "validation", "test")
)
sizes = {"cpu": (24, 16, 48), "t4": (100, 48, 200), "big": (200, 72, 400)}  # passos, validação, teste
steps, held_out, tested = (2, 2, 4) if reduced else sizes[machine.profile]
print(f"{steps} passos de 4 candidaturas; validação em {held_out}, teste em {tested}\n")
for example in train_data[:3]:
    print(example.prompt, "→", example.answer)

# %% [markdown]
# ### Uma taxa de aprendizado para cada um
#
# Comparar seis métodos com uma taxa só seria injusto com quase todos: o ajuste completo move milhões de números de uma vez, e um passo pequeno basta; o prompt tem poucos vetores, longe da saída, e precisa de passos cem vezes maiores, ou mais. Buscamos a taxa de cada método **pela mesma regra**: 8 passos no SmolLM2, com as mesmas cláusulas da aula 03 (outra tarefa, para não escolher nada olhando a que vamos medir); taxas afastadas por um fator de cerca de três; vence a menor perda em 12 cláusulas de validação; se a melhor está na borda do que se tentou, tenta-se mais uma. O resultado está em `dados/taxas/taxas.csv`, com o programa que o fez. O QLoRA usa a taxa do LoRA. Nos perfis `t4` e `big` o treino é bem mais longo que o da busca, e taxas menores costumam vencer: usamos um terço das encontradas, sem nova busca.

# %%
import csv

with (DADOS / "taxas" / "taxas.csv").open(encoding="utf-8") as file:
    tried = [(row["metodo"], float(row["taxa"]), float(row["perda_depois"])) for row in csv.DictReader(file)]
best = {name: min((loss, rate) for m, rate, loss in tried if m == name) for name, _, _ in tried}
longer = machine.profile != "cpu"  # muito mais passos que os da busca: um terço da taxa
RATES = {name: rate / 3 if longer else rate for name, (_, rate) in best.items()}
RATES["QLoRA"] = RATES["LoRA"]

COLORS |= {"completo": "#444444", "QLoRA": "#7b6d8d"}
_, axes = plt.subplots(figsize=(8.5, 4))
for name, (loss, rate) in best.items():
    points = sorted((r, value) for m, r, value in tried if m == name)
    axes.plot(*zip(*points, strict=True), "o-", color=COLORS[name], label=name)
    axes.plot(rate, loss, "o", markersize=13, markerfacecolor="none", color=COLORS[name])
    print(f"{name:<10} melhor taxa {rate:8.0e}, perda na validação {loss:.3f}")
axes.set(xscale="log", xlabel="taxa de aprendizado (escala logarítmica)", ylabel="perda na validação")
axes.set_title("A mesma busca para todos: 8 passos no SmolLM2")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** Entre a melhor taxa do ajuste completo e a do prefixo há um fator de mil: a taxa de um não serve ao outro. Toda curva tem um fundo; à esquerda dele o método aprende devagar, à direita os passos passam do ponto (com taxa 1, o prefixo sai pior do que entrou). Quem compara métodos com uma taxa só compara, na verdade, quem deu sorte com ela. E o fundo é deste modelo, daquela tarefa e de 8 passos: o que se leva para outro treino é a ordem de grandeza.

# %% [markdown]
# ### De onde se parte
#
# Antes de treinar: quanto o método **muda** o modelo só por ser posto nele? Medimos a perda de validação antes do primeiro passo, com os seus `SoftPrompt` e `Prefix` sorteados e com os mesmos tirados de um texto que explica a tarefa.

# %%
from toolkit.data import collate, encode_all

explanation = "Responda sim se o resultado da prova é bom ou excelente; se é fraco ou regular, responda não."
start_ids = base.tokenizer(explanation, return_tensors="pt", add_special_tokens=False).input_ids[0]
model = base.load().float().cpu()
encoded = encode_all(base.tokenizer, validation_data[: 2 if reduced else 24], 1024)
lot = collate(encoded, base.tokenizer.pad_token_id)


def answer_loss(logits):
    """A perda média por token da resposta."""
    return float(nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), lot["labels"][:, 1:]))


with needs_exercise(2, 4), torch.no_grad():
    text = {name: lot[name] for name in ("input_ids", "attention_mask")}
    print(f"{'sem nada':<40} {answer_loss(model(**text).logits):7.3f}")
    for kind in (SoftPrompt, Prefix):
        added = kind(model, start_ids)
        print(f"{kind.__name__ + ' tirado do texto':<40} {answer_loss(added(model, **text)):7.3f}")
        for p in added.parameters():
            p.normal_()
        print(
            f"{kind.__name__ + ' sorteado de uma normal (0, 1)':<40} {answer_loss(added(model, **text)):7.3f}"
        )
del model

# %% [markdown]
# **Leitura do resultado.** Compare com a primeira linha, o modelo sem nada. O prefixo sorteado piora a perda antes de qualquer treino: todas as camadas prestam atenção a lixo. O prompt sorteado entra só na primeira camada, e o modelo o suporta melhor. Tirados de um texto que explica a tarefa, os dois dão a **mesma** perda, menor que a do modelo sem nada, antes de qualquer treino: é a prova da seção 4 num modelo de verdade. Nos treinos abaixo, o prompt parte de tokens sorteados do vocabulário e o prefixo parte de zeros, o mais perto disso que a `peft` oferece. Se as duas linhas "tirado do texto" diferem, há um erro no seu `Prefix` ou no seu `SoftPrompt`.

# %% [markdown]
# ### A memória que falta e a que sobra
#
# Onde está a memória de cada método? A conta fechada da aula 01, para um modelo grande:

# %%
from toolkit.vram import GIB, estimate

PARTS = {
    "pesos": ("weights", "quant_constants", "adapters"),
    "gradientes e otimizador": ("gradients", "optimizer_states", "optimizer_temporaries"),
    "ativações e logits": ("activations", "recompute", "logits", "batch", "workspaces"),
}
large = Architecture.from_config("meta-llama/Llama-3.1-8B")
_, axes = plt.subplots(figsize=(8.5, 3.6))
print("Llama-3.1-8B em bf16, lote 1, 512 tokens: GiB no pico")
print(f"{'método':<10}" + "".join(f"{part:>25}" for part in PARTS))
for name, method in METHODS.items():
    peak = estimate(Plan(large, method)).peak
    values = [sum(peak.get(key, 0) for key in keys) / GIB for keys in PARTS.values()]
    print(f"{name:<10}" + "".join(f"{value:25.2f}" for value in values))
    for place, (part, color) in enumerate(zip(PARTS, ("#d9dde3", "#bc4b51", "#8cb369"), strict=True)):
        label = part if name == "completo" else None
        axes.barh(name, values[place], left=sum(values[:place]), color=color, label=label)
axes.axvline(14.75, color="#444", linestyle=":")
axes.text(15.2, 2, "T4", va="center", fontsize=9)
axes.invert_yaxis()
axes.set(xlabel="GiB no pico")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** A barra vermelha é o que o ajuste eficiente elimina, e elimina igual nos cinco: com menos de 1 % dos parâmetros treinados, gradientes e estados do Adam quase somem do desenho. Sobram os pesos congelados, que só o QLoRA encolhe, e as ativações, que **nenhum** encolhe: para treinar um prompt na entrada, o gradiente atravessa as 32 camadas de volta, e cada uma guarda o que precisa para isso. O LoRA e o QLoRA, aqui em todas as lineares, guardam ainda a entrada de cada $A$, e a parcela verde deles é a maior. Por isso um método com 82 mil parâmetros treináveis não cabe na T4, e o QLoRA, com 21 milhões, cabe. (No ajuste completo a parcela verde é quase zero porque o pico cai no passo do otimizador, quando as ativações já foram soltas.) Se a sua barra do prompt é muito menor que a do LoRA, desconfie: alguém esqueceu as ativações.

# %% [markdown]
# ### Os seis treinos
#
# Cada método treina uma cópia nova da base. Depois medimos os acertos no teste: das duas respostas, o modelo dá a que acha mais provável; ao acaso acertaria metade. O que fica pronto é guardado: se a sessão cair, rode a célula de novo e ela continua do método em que parou. (Para refazer, apague a pasta `runs/07_outros_metodos`.) No perfil `cpu` são menos de dez minutos, com dois núcleos.

# %%
from dataclasses import replace
from pathlib import Path

from toolkit import Run

FOLDER = Path("runs/07_outros_metodos") / f"{base.name.replace('/', '-')}-{steps}"


def quality(model):
    """A fração de acertos nas candidaturas de teste."""
    examples = test_data[:tested]
    guesses = choose(model, base.tokenizer, [example.prompt for example in examples], ANSWERS)
    return {"acertos": sum(g == e.answer for g, e in zip(guesses, examples, strict=True)) / tested}


def measured(name, before):
    """O treino de um método, medido e guardado, sem o modelo; ou o que já estava guardado."""
    if not (FOLDER / name).exists():
        run = train(
            base.plan(METHODS[name], batch=4, seq_len=256),
            train_data,
            base,
            steps=steps,
            learning_rate=RATES[name],
            validation=validation_data[:held_out],
            validate_every=max(1, steps // 2),
        )
        replace(run, before=before, after=quality(run.model)).save(FOLDER / name)
    return Run.read(FOLDER / name)


before = quality(base.model)
runs = {name: measured(name, before) for name in METHODS}

# %%
from math import log

tokens = sum(len(e.ids) - e.prompt_length for e in encoded) / len(encoded)  # por resposta, com o fim do texto
_, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
for name, run in runs.items():
    left.plot(*zip(*run.validation, strict=True), "o-", color=COLORS[name], label=name)
    right.plot(run.trainable, run.after["acertos"], "o", color=COLORS[name], markersize=10)
    right.annotate(f" {name}", (run.trainable, run.after["acertos"]), va="bottom", fontsize=9)
left.axhline(log(2) / tokens, color="#444", linestyle=":")
left.text(0, log(2) / tokens * 1.05, "formato certo, decisão ao acaso", fontsize=9)
left.set(xlabel="passos", ylabel="perda na validação", yscale="log", title="O mesmo número de passos")
left.legend(frameon=False)
right.axhline(0.5, color="#444", linestyle=":")
right.set(xscale="log", xlabel="parâmetros treináveis", ylabel="acertos no teste", ylim=(0, 1.05))
right.set_title("Quanto se treina e o que se acerta")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** Olhe primeiro a perda, em escala logarítmica, medida sempre nas mesmas candidaturas que o treino não vê. Nos primeiros passos todas despencam: é o **formato** que se aprende, responder só *sim* ou *não* e parar. A linha pontilhada é onde fica quem tem o formato e decide ao acaso; só abaixo dela o método começou a ler a prova. Essa passagem é brusca: à direita, quem a fez está perto do alto, quem não a fez perto da metade, e quase não há meio-termo. Quem passa primeiro é, em parte, sorte: numa rodada nossa de 24 passos, o ajuste completo acertou 96 % e o QLoRA 98 %, e o LoRA, que treina os mesmos números que o QLoRA, 54 %. Por isso não conclua que um método é melhor que outro por estar acima **nesta** rodada: com tão poucos passos ela diz quem já passou, e não quem chega mais longe. O prompt, que tem dezenas de vezes menos números e só mexe na entrada, fica com a perda mais alta; isso tampouco diz onde chegaria com mil vezes mais passos. Se alguma curva sobe, a taxa é alta demais para este treino.

# %% [markdown]
# ### O que cada um custa na hora de usar
#
# Treina-se uma vez; usa-se um milhão. Medimos o tempo para ler 64 tokens e escrever mais alguns, e dividimos pelo da base **medida logo antes e logo depois**, para que o humor da máquina atinja as duas. O resultado é a mediana de várias rodadas. (A latência não depende do que se aprendeu: aqui os métodos nem estão treinados.)

# %%
import statistics
import time

new_tokens, rounds = (2, 1) if reduced else (16, 3)
question = base.tokenizer(test_data[0].prompt, return_tensors="pt").input_ids[:, :64]


def seconds(model):
    """O tempo para ler a pergunta e escrever `new_tokens` tokens."""
    ids = question.to(model.device)
    options = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
    began = time.perf_counter()
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pad_token_id=base.tokenizer.pad_token_id,
        **options,
    ).tolist()
    return time.perf_counter() - began


def slowdown(model):
    """Quantas vezes o tempo da base."""
    seconds(model), seconds(base.model)  # aquecimento
    ratios = []
    for _ in range(rounds):
        first, mine, last = seconds(base.model), seconds(model), seconds(base.model)
        ratios.append(2 * mine / (first + last))
    return statistics.median(ratios)


latency = {}
for name in (
    "a própria base",
    "LoRA",
    "LoRA fundido",
    *(n for n in METHODS if n not in ("completo", "LoRA")),
):
    method = METHODS.get(name.removesuffix(" fundido"), Full())
    model = attach(base.load(base.plan(method) if name == "QLoRA" else None), method).eval()
    model = model.merge_and_unload() if name.endswith("fundido") else model
    latency[name] = slowdown(model)
    print(f"{name:<16} {latency[name]:5.2f} vezes o tempo da base")
    del model

# %%
_, axes = plt.subplots(figsize=(8.5, 3))
axes.barh(list(latency), list(latency.values()), color=[COLORS.get(name, "#d9dde3") for name in latency])
axes.axvline(1, color="#444", linestyle=":")
axes.invert_yaxis()
axes.set(xlabel="vezes o tempo da base para responder")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** A primeira linha é a base contra ela mesma: o quanto se afasta de 1 é o erro da medida, e diferença menor que isso não conta. O LoRA fundido faz as mesmas operações que a base, e fica com ela dentro desse erro. Separado, o LoRA faz duas multiplicações pequenas a mais em cada matriz-alvo; o adaptador, duas e uma GELU, duas vezes por bloco, e não há como tirá-las. O QLoRA desquantiza cada peso a cada passagem: economiza memória, não tempo. Prompt e prefixo só alongam a fila em 20 posições, o que pesa pouco no tempo de um texto curto; pesa no cache, em cada sequência do lote. (O ajuste completo não está na lista porque é a própria base, com outros valores.) Numa GPU e num modelo grande as proporções mudam; o que não muda é quais operações sobram.

# %% [markdown]
# ### A tabela

# %%
print(f"acertos da base, sem ajuste: {before['acertos']:.0%}; memória no pico, em GiB\n")
print(
    f"{'método':<10} {'treináveis':>11} {'%':>8} {'prevista':>9} {'simulada':>9} {'medida':>7} {'s/passo':>8} "
    f"{'latência':>9} {'perda':>6} {'acertos':>8} {'disco (MiB)':>12}"
)
for name, run in runs.items():
    peaks = [memory.allocated.value / GIB for memory in (run.predicted, run.simulated, run.measured)]
    print(
        f"{name:<10} {run.trainable:11_d} {run.trainable / run.parameters:8.3%} "
        "{:9.2f} {:9.2f} {:7.2f}".format(*peaks)
        + f" {run.seconds / run.steps:8.2f} {latency.get(name, 1):8.2f}x {run.validation[-1][1]:6.3f} "
        f"{run.after['acertos']:8.0%} {run.adapter_bytes / 2**20:12.2f}"
    )
print(
    f"\nprevista e simulada: numa GPU; medida: {run.memory_kind} desta máquina; latência do LoRA sem fundir"
)

# %% [markdown]
# **Leitura do resultado.** Coluna por coluna. **Treináveis** e **disco** andam juntos: quatro bytes por número, de algumas dezenas de KiB (prompt) ao modelo inteiro (completo). **Memória**: prevista e simulada concordam, e são para uma GPU; num modelo deste tamanho as ativações e os logits do lote mandam, e por isso os cinco métodos eficientes ficam próximos. A coluna medida só se compara com elas se for CUDA; RSS conta o processo inteiro e não mostra o que a GPU economizaria. **s/passo**: quem congela poupa o gradiente dos pesos, um terço das operações da aula 01, e o passo do otimizador sobre todos eles, que num lote tão pequeno pesa muito; mas o método com menos parâmetros não é o mais rápido. **Acertos**: em 48 candidaturas o acaso sozinho move esse número em 14 pontos para cada lado, perto da metade (menos perto do alto); diferença menor não é diferença. E perdas parecidas podem dar acertos muito diferentes, porque a perda ainda é, em boa parte, a do formato. Se a latência do LoRA fundido não fica perto de 1, ou a memória simulada do completo não é a maior, procure o erro.

# %% [markdown]
# ## 7. Três parentes: IA3, DoRA e AdaLoRA
#
# Não vamos escrevê-los; vale saber o que cada um treina.
#
# - **IA3** ([Liu et al., 2022](https://arxiv.org/abs/2205.05638)): nem matrizes, só **fatores**. Um vetor multiplica as chaves, outro os valores, outro o meio da MLP, número a número. Começa em 1.
# - **DoRA** ([Liu et al., 2024](https://arxiv.org/abs/2402.09353)): escreve cada peso como **tamanho** vezes **direção**, $W = m\,\frac{V}{\lVert V \rVert}$. O LoRA muda a direção; um vetor $m$, treinado à parte, muda o tamanho.
# - **AdaLoRA** ([Zhang et al., 2023](https://arxiv.org/abs/2303.10512)): escreve a correção como uma SVD, $P\,\Lambda\,Q$, começa com posto de sobra e, durante o treino, zera os $\Lambda$ que menos importam: cada matriz fica com o posto que merece. Volta na aula 09.

# %%
from peft import AdaLoraConfig

relatives = {
    "IA3": lambda model: attach(model, IA3()),
    "DoRA, posto 8": lambda model: attach(model, LoRA(rank=8, alpha=16, use_dora=True)),
    "AdaLoRA, posto 12 → 8": lambda model: get_peft_model(
        model,
        AdaLoraConfig(init_r=12, target_r=8, lora_alpha=16, total_step=100, tinit=10, tfinal=20,
                      target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    ),
}  # fmt: skip
ids = question.to(base.model.device)
reference = logits(base.model, ids)
for label, put in relatives.items():
    torch.manual_seed(0)
    model = put(base.load()).eval()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layer = {name.split(".layers.0.")[1].replace(".default", ""): tuple(p.shape) for name, p in trained.items() if ".layers.0." in name}  # fmt: skip
    gap = float((logits(model, ids) - reference).abs().max())
    print(
        f"{label}: {sum(p.numel() for p in trained.values()):_} treináveis; muda a resposta no início em até {gap:.1e}"
    )
    for name, shape in layer.items():
        print(f"    {name.replace('_vector', ''):<44} {shape}")
    del model, trained

# %% [markdown]
# **Leitura do resultado.** Os três começam sem mudar nada (zero, ou a última casa): na IA3 os fatores são 1; na DoRA, $B = 0$ e o tamanho `lora_magnitude` é a norma que cada linha do peso já tem; na AdaLoRA, o $\Lambda$ (`lora_E`) é zero. A IA3 treina várias vezes menos números que o LoRA, e se funde ao peso como ele. A DoRA acrescenta ao LoRA um número por saída, mas refaz a norma do peso a cada passagem: aprende com poucos parâmetros a mais e anda mais devagar. A AdaLoRA treina **mais** números que o LoRA de posto 8, porque começa com posto 12; o ganho é terminar com o mesmo orçamento mais bem repartido. Se alguma linha mostra uma mudança grande no início, o adaptador não partiu do neutro.

# %% [markdown]
# ## 8. O que serve a quê
#
# | se você precisa de | considere | porque |
# |---|---|---|
# | a melhor qualidade por passo, e há memória | completo, ou LoRA de posto maior | treina mais números; confira o esquecimento |
# | nenhum atraso ao usar | LoRA fundido | some dentro do peso |
# | treinar um modelo que não cabe | QLoRA | só a base em 4 bits muda o tamanho dos pesos |
# | muitas tarefas no mesmo lote | prompt, prefixo | são parte da entrada; nem um peso muda |
# | o menor arquivo possível | prompt, IA3 | dezenas de KiB por tarefa |
# | módulos que se empilham e trocam, com o modelo intacto | adaptador | uma peça a mais no caminho, que se tira quando se quer |
#
# Duas advertências sobre a tabela que você mediu. Ela é de **um** modelo pequeno, **uma** tarefa, **uma** semente e poucos passos: mede sobretudo quem aprende **depressa**. Lester e colegas viram o ajuste de prompt alcançar o completo com um modelo de 11 bilhões e dezenas de milhares de passos; nem um nem outro cabe aqui. E um método que perde nesta tabela pode ganhar na sua: a resposta é medir.

# %% [markdown] nbgrader={"grade_id": "aberta_enunciado"}
# ## 9. Pergunta aberta
#
# ### Exercício 8: três clientes, três métodos
#
# ★★☆☆☆ · ◆◆◆◆◆ · 10 minutos · 3 pontos (corrigido por uma pessoa)
#
# Você mantém **um** modelo de 8 bilhões de parâmetros em **uma** placa. (a) Um serviço atende 500 lojas: cada uma tem o seu tom de resposta, e pedidos de lojas diferentes chegam ao mesmo tempo. (b) Um banco usa uma só tarefa, e cada milissegundo por token custa dinheiro. (c) Um laboratório tem uma T4 e quer treinar o mesmo modelo. Em 8 a 12 linhas, escolha um método para cada cliente e apoie cada escolha num número que **você mediu** nesta aula. Depois aponte um número da sua tabela em que **não** se deve confiar, e diga que experimento o confirmaria ou o derrubaria.
#
# ### BEGIN MARK SCHEME
# 1. (1 ponto) Cliente (a): prompt ou prefixo (tarefas misturadas no lote, arquivos pequenos), com o tamanho em disco ou o teste do lote misto; ou LoRA separado por loja, dizendo o que isso custa. (palavras: prompt, prefixo, lora; lote, disco, mib, kib)
# 2. (1 ponto) Clientes (b) e (c): LoRA fundido, com a latência medida igual à da base; QLoRA, com a previsão de memória ao lado dos 14,75 GiB da T4. (palavras: fundid, fundir, fusao; qlora, 4 bits; latencia, tempo, vezes; gib, memoria)
# 3. (1 ponto) Um número frágil da própria tabela (acertos em poucas candidaturas, perda do prompt com poucos passos, RSS na CPU, uma só semente) e um experimento que decide: mais sementes, mais passos, outro modelo, medida em GPU. (palavras: semente, passos, rss, ruido, intervalo; repetir, mais, outro, outra)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 3}
# Espera-se: (a) prompt ou prefixo, que vão na entrada e cabem em KiB; (b) LoRA fundido, sem atraso; (c) QLoRA; e um número frágil com o experimento que o testa.

# %% [markdown]
# ## O que você leva daqui
#
# - O **prompt contínuo** troca as palavras por vetores livres; o **prefixo** troca o que as palavras fariam em cada camada; o **adaptador** põe uma peça nova no caminho; o **LoRA** muda os pesos.
# - Todo prompt de texto é um prompt contínuo, e todo prompt de texto é um prefixo: você provou, tensor por tensor. Poder representar não é conseguir aprender.
# - O início importa: copiar um texto, ou começar em zero, deixa o modelo inteiro; sortear estraga.
# - O que tem uma função não linear no caminho não se funde. Sem ela, o adaptador é um LoRA.
# - Uma tabela de métodos só vale com a regra que escolheu as taxas ao lado.
#
# **Para ler mais:** [Li & Liang, 2021](https://arxiv.org/abs/2101.00190) (prefixo); [Lester et al., 2021](https://arxiv.org/abs/2104.08691) (prompt e tamanho do modelo); [Houlsby et al., 2019](https://arxiv.org/abs/1902.00751) (adaptadores); [He et al., 2022](https://arxiv.org/abs/2110.04366), que escreve todos eles como variações da mesma conta.
