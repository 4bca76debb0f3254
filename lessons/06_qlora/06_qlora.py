# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # QLoRA: a base em 4 bits, o aprendizado ao lado
#
# Um arquivo público guarda um andar inteiro de processos numa gaveta de microfilmes. Ninguém escreve no filme: quem precisa de uma página a projeta na tela, lê, e faz as suas anotações em papel comum, com toda a clareza. Ganha-se um andar; perde-se o tempo de projetar, **toda vez**. O QLoRA ([Dettmers et al., 2023](https://arxiv.org/abs/2305.14314)) é esse arquivo: a base fica em 4 bits e só é lida, projetada para 16 bits na hora de cada conta; o que se aprende fica ao lado, num LoRA em precisão maior.
#
# Nesta aula você vai:
#
# 1. escrever a camada QLoRA, com **duas precisões** no mesmo produto, e igualá-la à da `peft`;
# 2. escrever a **volta** do gradiente por um peso que só existe em 4 bits, e conferi-la com a da `bitsandbytes`;
# 3. medir o preço: QLoRA troca **velocidade por memória**;
# 4. preparar um modelo para o treino e ver o que cada passo do preparo faz com a memória;
# 5. simular um **otimizador paginado** e descobrir quando ele age, e quando não;
# 6. caçar um defeito silencioso de verdade: o treino que não dá erro e não aprende nada;
# 7. treinar o mesmo modelo por completo, com LoRA e com QLoRA, e conferir, linha por linha, a tabela que se costuma ver sobre eles;
# 8. fundir o que foi aprendido numa cópia de 16 bits e medir o que se perde.
#
# **Tempo:** 80 a 90 minutos. **Antes:** as aulas 03 (LoRA) e 05 (quantização).
# **Pontos:** 20, em sete exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import math
import warnings
from collections import OrderedDict

import bitsandbytes.functional as bnb
import matplotlib.pyplot as plt
import torch
from bitsandbytes import nn as bnb_nn
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.exercise import needs_exercise

# Recados das bibliotecas às suas próprias versões futuras.
warnings.filterwarnings("ignore", category=FutureWarning)
GIB = 2**30


def gaussian(*shape, std=0.02, seed=0):
    """Números sorteados de uma normal de média zero, como os pesos de uma camada treinada."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def quantized(weight):
    """O peso em NF4 com quantização dupla, como a bitsandbytes o guarda: (códigos empacotados, estado)."""
    return bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)


class Params4bit(bnb_nn.Params4bit):
    """O peso em 4 bits da bitsandbytes, que o PyTorch copiaria por pickle como um parâmetro comum; este não."""

    def __reduce_ex__(self, protocol):
        return _empty_4bit, (), self.__getstate__()


def _empty_4bit():
    return Params4bit(torch.empty(0), requires_grad=False)


def to_4bit(layer, storage=torch.uint8, kind=Linear4bit):
    """A mesma camada linear, em NF4, como um módulo da bitsandbytes."""
    twin = kind(layer.in_features, layer.out_features, bias=False)
    twin.weight = Params4bit(
        layer.weight.data, requires_grad=False, quant_type="nf4", quant_storage=storage, module=twin
    )
    return twin.to("cpu")


def tiny_4bit_llama(seed=0, layers=2, dtype=torch.bfloat16, storage=torch.uint8, kind=Linear4bit):
    """Um Llama de brinquedo: camadas lineares em NF4, embeddings e normas em `dtype`."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 64}
    heads = {
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "use_cache": False,
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True)).to(dtype).eval()
    for parent in list(model.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, to_4bit(child, storage, kind))
    model.is_loaded_in_4bit = True
    return model


def tiny_qlora(seed=0, layers=2, kind=Linear4bit):
    """O mesmo, em fp32 fora dos 4 bits, com LoRA da peft em q_proj e v_proj, pronto para treinar."""
    model = tiny_4bit_llama(seed, layers, torch.float32, kind=kind)
    return get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])).train()


# %% [markdown]
# ## 1. Duas precisões no mesmo produto
#
# A camada QLoRA tem a fórmula do LoRA, com um $W$ que só existe em códigos de 4 bits:
#
# $$h = \underbrace{x\,\operatorname{desquantiza}(W_4)^\top}_{\text{conta em 16 bits}} \;+\; \frac{\alpha}{r}\,\underbrace{x A^\top B^\top}_{\text{conta em 32 bits}}$$
#
# **Ninguém multiplica em 4 bits.** Os 4 bits são só o modo de *guardar*. Na hora da conta, o peso é desquantizado para a precisão de cálculo (`compute_dtype`: bf16, fp16 ou, sem GPU, fp32), usado e esquecido. O adaptador é pequeno e é o que aprende: a `peft` o mantém em **fp32**, e faz a conta dele em fp32.


# %% cellView="form"
# @title Desenho: a camada QLoRA, na ida e na volta
def draw_layer():
    _, axes = plt.subplots(figsize=(9.5, 4.6))
    axes.set(xlim=(0, 12), ylim=(0.2, 6.6))
    axes.axis("off")
    stored, passing, trained, line = "#8ab0ab", "#e8ecef", "#f4a259", "#444"

    def box(x, y, width, text, color, height=1.0, style="-"):
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor=line, linestyle=style))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    def arrow(x0, y0, x1, y1, color=line, style="-"):
        axes.annotate(
            "",
            (x1, y1),
            (x0, y0),
            arrowprops={"arrowstyle": "->", "color": color, "linestyle": style, "lw": 1.4},
        )

    axes.text(0.5, 3.25, "$x$", fontsize=14, ha="center", va="center")
    box(2.0, 5.2, 3.0, "códigos NF4 e escalas\n(4,127 bits por peso)", stored)
    box(2.0, 3.6, 3.0, "$\\hat W$ desquantizado\n(16 bits, descartado)", passing, style="--")
    box(2.2, 1.0, 1.5, "$A$ (fp32)", trained)
    box(5.0, 1.0, 1.5, "$B$ (fp32)", trained)
    axes.text(
        8.1,
        3.25,
        "+",
        fontsize=15,
        ha="center",
        va="center",
        bbox={"boxstyle": "circle", "facecolor": "white"},
    )
    axes.text(9.9, 3.25, "$h$", fontsize=14, ha="center", va="center")
    arrow(3.5, 5.2, 3.5, 4.6)
    arrow(0.8, 3.4, 2.0, 4.0)
    arrow(0.8, 3.1, 2.2, 1.6)
    arrow(5.0, 4.0, 7.7, 3.4)
    arrow(3.7, 1.5, 5.0, 1.5)
    arrow(6.5, 1.6, 7.7, 3.05)
    arrow(8.5, 3.25, 9.6, 3.25)
    back = "#bc4b51"
    arrow(7.6, 3.75, 5.2, 4.4, back, "--")
    arrow(1.9, 4.3, 0.7, 3.75, back, "--")
    arrow(7.4, 2.5, 6.3, 0.85, back, "--")
    arrow(5.0, 1.15, 3.8, 1.15, back, "--")
    arrow(2.0, 1.1, 0.7, 2.7, back, "--")
    for y, color, style, text in (
        (6.0, stored, "-", "guardado, nunca muda"),
        (5.4, passing, "--", "existe só durante a conta"),
        (4.8, trained, "-", "guardado e treinado"),
    ):
        box(8.4, y, 0.5, "", color, 0.35, style)
        axes.text(9.1, y + 0.17, text, va="center", fontsize=10)
    arrow(8.3, 4.2, 9.0, 4.2, back, "--")
    axes.text(9.1, 4.2, "gradiente: atravessa $\\hat W$,\nmas só $A$ e $B$ mudam", va="center", fontsize=10)
    plt.show()


draw_layer()

# %% [markdown]
# ### Exercício 1: `qlora_forward`
#
# ★★☆☆☆ · ◆◆◆◆◆ · 10 minutos · 2 pontos
#
# `qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype)` devolve $h$. As regras são as da `peft`:
#
# - o produto da base é feito em `compute_dtype` (a entrada e o peso são convertidos para ele), e o resultado volta ao dtype de `x`;
# - o produto do adaptador é feito no dtype de `lora_A`, a partir da **entrada original** (e não da que foi convertida para a base), e o resultado volta ao dtype de `x`;
# - a soma tem o dtype de `x`.
#
# `bnb.dequantize_4bit(packed, state)` dá o peso $(d, k)$; `lora_A` tem forma $(r, k)$ e `lora_B`, $(d, r)$. `t.to(dtype)` converte.


# %% nbgrader={"grade_id": "qlora", "solution": true}
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    """Entrada (..., k), saída (..., d), no dtype da entrada."""
    ### BEGIN SOLUTION
    weight = bnb.dequantize_4bit(packed, state).to(compute_dtype)
    base = x.to(compute_dtype) @ weight.T
    update = scaling * (x.to(lora_A.dtype) @ lora_A.T @ lora_B.T)
    return base.to(x.dtype) + update.to(x.dtype)
    ### END SOLUTION


# %% nbgrader={"grade_id": "qlora_teste", "points": 2}
packed, state = quantized(gaussian(48, 64))
lora_A, lora_B = gaussian(4, 64, std=1, seed=1), gaussian(48, 4, std=1, seed=2)
x = gaussian(3, 64, std=1, seed=3)
h = qlora_forward(x, packed, state, lora_A, lora_B, 2.0, torch.float32)
assert tuple(h.shape) == (3, 48), f"A saída tem forma (3, 48); recebi {tuple(h.shape)}."
expected = x @ bnb.dequantize_4bit(packed, state).T + 2.0 * x @ lora_A.T @ lora_B.T
# os mesmos produtos em outra ordem: em float32 mudam as últimas casas
assert torch.allclose(h, expected, rtol=1e-4, atol=1e-4), (
    "Em fp32, h é x · W^T + scaling · x · A^T · B^T, com W desquantizado."
)
assert (
    qlora_forward(x.bfloat16(), packed, state, lora_A, lora_B, 2.0, torch.bfloat16).dtype == torch.bfloat16
), "A saída deve ter o dtype da entrada."
### BEGIN HIDDEN TESTS
nothing, zero_state = quantized(torch.zeros(32, 128))
for seed, rank, strength in ((5, 3, 0.25), (6, 8, 4.0)):
    A, B = gaussian(rank, 128, std=1, seed=seed), gaussian(32, rank, std=1, seed=seed + 10)
    x = gaussian(2, 5, 128, std=1, seed=seed + 20)
    h = qlora_forward(x, nothing, zero_state, A, B, strength, torch.bfloat16)
    assert torch.allclose(h, strength * x @ A.T @ B.T, rtol=1e-4, atol=1e-4), (
        "Com uma base de zeros sobra o adaptador, que deve ser calculado em fp32, sem passar pelos 16 bits da base."
    )
for seed, kind, compute in (
    (7, torch.bfloat16, torch.bfloat16),
    (8, torch.float16, torch.float32),
    (9, torch.float32, torch.bfloat16),
):
    layer = to_4bit(nn.Linear(128, 64, bias=False))
    layer.compute_dtype, layer.compute_type_is_set = compute, True
    model = get_peft_model(
        nn.ModuleDict({"proj": layer}), LoraConfig(r=4, lora_alpha=6, target_modules=["proj"])
    )
    theirs = model.base_model.model["proj"]
    A, B = gaussian(4, 128, std=1, seed=seed), gaussian(64, 4, std=1, seed=seed + 1)
    with torch.no_grad():
        theirs.lora_A["default"].weight.copy_(A), theirs.lora_B["default"].weight.copy_(B)
        x = gaussian(5, 128, std=1, seed=seed + 2).to(kind)
        reference = theirs(x)
    h = qlora_forward(x, layer.weight.data, layer.weight.quant_state, A, B, 1.5, compute)
    assert h.dtype == kind, "A saída deve ter o dtype da entrada, seja qual for o de cálculo."
    # em bf16 uma unidade na última casa é 1/128
    assert torch.allclose(h.float(), reference.float(), rtol=0.01, atol=0.01), (
        "A saída difere da camada da peft com os mesmos números: confira em que precisão é feita cada conta."
    )
### END HIDDEN TESTS

# %% [markdown]
# Por que o adaptador em fp32, se a base vive bem com 4 bits? Porque **ler** e **aprender** pedem coisas diferentes. O passo do otimizador é um número minúsculo somado a um peso, e em bf16, com 8 bits de precisão, a soma pode não mudar nada. Cem passos de $2 \cdot 10^{-5}$, somados um a um:

# %%
start, step = 0.02, 2e-5
print(
    f"{'dtype':<10} {'início':>9} {'fim':>9} {'andou':>9} {'devia andar':>12} {'menor mudança possível':>23}"
)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    weight = torch.tensor(start, dtype=dtype)
    first = float(weight)
    for _ in range(100):
        weight = weight + torch.tensor(step, dtype=dtype)
    gap = float(torch.nextafter(torch.tensor(start, dtype=dtype), torch.tensor(1.0, dtype=dtype))) - first
    print(
        f"{str(dtype)[6:]:<10} {first:9.5f} {float(weight):9.5f} {float(weight) - first:9.5f} {100 * step:12.5f} {gap:23.1e}"
    )
packed, state = quantized(gaussian(64, 64))
levels = bnb.dequantize_4bit(packed, state).flatten()[:64].unique()
print(f"{'NF4':<10} {'':>9} {'':>9} {'':>9} {'':>12} {float(levels.diff().min()):23.1e}")

# %% [markdown]
# **Leitura do resultado.** Em bf16 o peso **não sai do lugar**: cada passo é menor que metade do espaço até o vizinho, e o arredondamento o engole. Em fp16 ele anda, mas já com erro; em fp32, anda o que devia. Na última linha, a menor distância entre dois valores de um bloco NF4: o peso teria de juntar mais de cem passos para mudar de código. É por isso que ninguém treina o peso quantizado, e por isso que os adaptadores ficam em fp32. Tabelas que dizem "adaptadores em FP16" descrevem outra biblioteca, ou um treino que perde passos. Custa pouco: 16 bytes por parâmetro **treinado**, e esses são uns poucos por cento do modelo, ou menos.

# %% [markdown]
# ## 2. O caminho de volta
#
# Só $A$ e $B$ mudam. Mas para chegar aos adaptadores da primeira camada, o gradiente da perda tem de **atravessar** todas as bases acima dela. Para uma camada $y = x\,\hat W^\top$, a regra da cadeia dá
#
# $$\frac{\partial L}{\partial x} = \frac{\partial L}{\partial y}\, \hat W \qquad\text{e}\qquad \frac{\partial L}{\partial \hat W} = \text{ninguém pede: } W \text{ está congelado.}$$
#
# Não é preciso derivar o arredondamento: a quantização aconteceu uma vez, antes do treino, e $\hat W$ é uma constante como outra qualquer. O cuidado é outro. Se você escrever `x @ bnb.dequantize_4bit(packed, state).T` e deixar o autograd cuidar do resto, ele **guarda $\hat W$**, em 16 ou 32 bits, até a volta. Em todas as camadas. Os 4 bits iriam embora na primeira passagem.
#
# A saída é dizer ao PyTorch como fazer a volta: uma `torch.autograd.Function`, que guarda os **códigos** e desquantiza outra vez. É assim que a `bitsandbytes` faz (`MatMul4Bit`), e é daí que vem o preço em tempo.

# %% [markdown]
# ### Exercício 2: a volta por um peso em 4 bits
#
# ★★★★☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos
#
# Complete a classe. Em `forward`, calcule $x\,\hat W^\top$ no dtype de `x` e anote em `ctx` o que a volta precisa (`ctx.qualquer_nome = ...`), **sem** guardar $\hat W$. Em `backward`, devolva **um gradiente por argumento** de `forward`, na ordem, com `None` para o que não tem. O gradiente de $x$ tem o dtype de `grad_output`.
#
# `there_and_back` já vem pronta: é por ela que os testes (e você) usam a classe.


# %% nbgrader={"grade_id": "volta", "solution": true}
class FrozenLinear4bit(torch.autograd.Function):
    """y = x W^T com W guardado em 4 bits: desquantizado na ida e, de novo, na volta."""

    @staticmethod
    def forward(ctx, x, packed, state):
        """x: (..., k); devolve (..., d)."""
        ### BEGIN SOLUTION
        ctx.packed, ctx.state = packed, state
        return x @ bnb.dequantize_4bit(packed, state).to(x.dtype).T
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_output):
        """grad_output: (..., d); devolve os gradientes de x, packed e state."""
        ### BEGIN SOLUTION
        weight = bnb.dequantize_4bit(ctx.packed, ctx.state).to(grad_output.dtype)
        return grad_output @ weight, None, None
        ### END SOLUTION


def there_and_back(x, packed, state, upstream, other=None):
    """A saída e o gradiente de x para o gradiente `upstream` da saída; `other` troca os códigos entre os dois."""
    x = x.clone().requires_grad_(True)
    y = FrozenLinear4bit.apply(x, packed, state)
    if other is not None:
        packed.data.copy_(other)
    y.backward(upstream)
    return y.detach(), x.grad


# %% nbgrader={"grade_id": "volta_teste", "points": 4}
def reference(x, packed, state, upstream):
    """O mesmo pelo autograd, sobre o peso desquantizado."""
    x = x.clone().requires_grad_(True)
    y = x @ bnb.dequantize_4bit(packed, state).to(x.dtype).T
    y.backward(upstream)
    return y.detach(), x.grad


packed, state = quantized(gaussian(32, 64))
x, upstream = gaussian(3, 64, std=1, seed=1), gaussian(3, 32, std=1, seed=2)
y, gradient = there_and_back(x, packed, state, upstream)
expected_y, expected = reference(x, packed, state, upstream)
assert torch.allclose(y, expected_y, atol=1e-5), "A ida deve dar x · W^T, com W desquantizado."
assert tuple(gradient.shape) == (3, 64), f"O gradiente de x tem a forma de x; recebi {tuple(gradient.shape)}."
assert torch.allclose(gradient, expected, atol=1e-5), (
    "A volta difere da do autograd sobre o peso desquantizado: é grad_output · W."
)
other, _ = quantized(gaussian(32, 64, seed=9))
_, swapped = there_and_back(x, packed.clone(), state, upstream, other)
assert not torch.allclose(swapped, expected, atol=1e-3), (
    "Trocados os códigos entre a ida e a volta, o gradiente não mudou: a classe está guardando W desquantizado, e "
    "os 4 bits não economizam nada. Guarde os códigos e desquantize de novo em backward."
)
### BEGIN HIDDEN TESTS
from bitsandbytes.autograd._functions import MatMul4Bit

for size_out, size_in, shape, kind, seed in (
    (64, 64, (7,), torch.float32, 21),
    (128, 64, (2, 5), torch.float32, 22),
    (32, 192, (1, 3, 4), torch.float32, 23),
    (96, 64, (6,), torch.bfloat16, 24),
):
    packed, state = quantized(gaussian(size_out, size_in, std=0.5, seed=seed))
    x = gaussian(*shape, size_in, std=1, seed=seed + 1).to(kind)
    upstream = gaussian(*shape, size_out, std=1, seed=seed + 2).to(kind)
    y, gradient = there_and_back(x, packed, state, upstream)
    assert y.dtype == kind and gradient.dtype == kind, "A saída e o gradiente devem ter o dtype da entrada."
    leaf = x.clone().requires_grad_(True)
    theirs = MatMul4Bit.apply(leaf, packed, None, None, state)
    theirs.backward(upstream)
    near = {"rtol": 0.02, "atol": 0.05} if kind == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    assert torch.allclose(y, theirs.detach(), **near), "A ida difere da MatMul4Bit da bitsandbytes."
    assert torch.allclose(gradient, leaf.grad, **near), (
        "A volta difere da MatMul4Bit da bitsandbytes em outro tamanho, lote ou dtype."
    )
    other, _ = quantized(gaussian(size_out, size_in, std=0.5, seed=seed + 3))
    _, swapped = there_and_back(x, packed.clone(), state, upstream, other)
    _, expected = reference(x, other, state, upstream)
    assert torch.allclose(swapped, expected, **near), (
        "A volta deve desquantizar os códigos de novo, não guardar W."
    )
### END HIDDEN TESTS

# %% [markdown]
# Quanto isso economiza? O PyTorch deixa ver o que cada operação guarda para a volta (a aula 01 usou o mesmo gancho). Uma pilha de oito camadas de $512 \times 512$, com 64 tokens:


# %%
def kept_for_backward(layer, weights, x):
    """Bytes que oito produtos seguidos guardam até a volta, sem repetição e sem os códigos."""
    known = {packed.data_ptr() for packed, _ in weights}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = x
        for packed, state in weights:
            y = layer(y, packed, state)
    return sum(size for place, size in kept.items() if place not in known), y


def library_4bit(x, packed, state):
    import bitsandbytes

    return bitsandbytes.matmul_4bit(x, packed, quant_state=state)


WAYS = {
    "autograd sobre W desquantizado": lambda x, packed, state: x @ bnb.dequantize_4bit(packed, state).T,
    "a sua Function": FrozenLinear4bit.apply,
    "bitsandbytes": library_4bit,
}
weights = [quantized(gaussian(512, 512, seed=seed)) for seed in range(8)]
x = gaussian(64, 512, std=1, seed=9).requires_grad_(True)
codes = sum(packed.nbytes for packed, _ in weights)
with needs_exercise(2):
    print(f"os códigos, guardados de qualquer jeito: {codes / 2**20:.2f} MiB\n")
    print(f"{'como':<32} {'a mais, até a volta':>20} {'gradiente de x':>15}")
    for label, layer in WAYS.items():
        kept, y = kept_for_backward(layer, weights, x)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        print(f"{label:<32} {kept / 2**20:16.2f} MiB {float(gradient.norm()):15.6f}")

# %% [markdown]
# **Leitura do resultado.** O mesmo gradiente, até a última casa, a dois preços. Deixado por conta do autograd, cada peso desquantizado fica vivo até a volta: oito vezes o tamanho dos códigos, que é a base inteira em fp32. A sua `Function` não guarda nada além do que já existia, como a da `bitsandbytes`. Se a sua linha não é zero, `backward` está usando um $\hat W$ guardado. (Repare que a entrada de cada camada também não é guardada: sem gradiente para o peso, ninguém precisa dela.)

# %% [markdown]
# ## 3. O preço é tempo
#
# O peso é desquantizado na ida, outra vez na volta e, com recomputação de ativações, uma terceira. Esse trabalho é proporcional ao tamanho do **peso**, não ao do lote: se muitos tokens aproveitam a mesma projeção, ele se dilui. Uma camada de $1024 \times 1024$, ida e volta, nesta máquina:

# %%
import os
import time

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos


def quickest(function, repeats):
    """O menor tempo entre algumas repetições, em segundos: a medida menos perturbada pela máquina."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


device = "cuda" if torch.cuda.is_available() else "cpu"
width = 256 if reduced else 1024
dense = gaussian(width, width).to(device)
packed, state = quantized(dense)


def pass_and_back(multiply, x):
    multiply(x).sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()


ratios = {}
print(f"{'tokens':>6} {'peso denso':>12} {'4 bits':>12} {'razão':>6}   (ida e volta, {device})")
for tokens in (1, 16, 64) if reduced else (1, 16, 64, 256, 1024, 2048):
    x = gaussian(tokens, width, std=1).to(device).requires_grad_(True)
    plain = quickest(lambda x=x: pass_and_back(lambda v: v @ dense.T, x), 2 if reduced else 7)
    packed_time = quickest(
        lambda x=x: pass_and_back(lambda v: library_4bit(v, packed, state), x), 2 if reduced else 7
    )
    ratios[tokens] = packed_time / plain
    print(f"{tokens:6d} {1e3 * plain:9.2f} ms {1e3 * packed_time:9.2f} ms {ratios[tokens]:6.2f}")

# %% [markdown]
# **Leitura do resultado.** Com um token só, a camada em 4 bits leva várias vezes o tempo da densa: quase tudo é desquantizar. Com muitos tokens a conta domina, e a razão cai para perto de 1. (Nunca espere menos que 1, a não ser por ruído: desquantizar é trabalho a mais, em qualquer máquina.)
#
# Quão depressa ela cai depende da máquina. Desquantizar é ir e vir da **memória**: ler meio byte, escrever dois. O produto é **conta**: $2 \cdot \text{tokens}$ operações por peso. Uma GPU, rápida em conta, sente mais a memória. No papel, com os picos das fichas:

# %%
CARDS_ON_PAPER = {
    "T4": (65e12, 320e9),
    "A100": (312e12, 2.0e12),
}  # operações por segundo em 16 bits, bytes por segundo
print(
    f"{'tokens':>6}"
    + "".join(f"{card:>8}" for card in CARDS_ON_PAPER)
    + "   (razão entre 4 bits e denso, no papel)"
)
for tokens in (64, 256, 512, 2048, 8192):
    cells = []
    for speed, bandwidth in CARDS_ON_PAPER.values():
        dense_time = max(2 * tokens / speed, 2 / bandwidth)  # por peso: a conta, ou ler os 2 bytes
        cells.append((dense_time + (0.516 + 2) / bandwidth) / dense_time)
    print(f"{tokens:6d}" + "".join(f"{cell:8.2f}" for cell in cells))

# %% [markdown]
# **Leitura do resultado.** Com 512 tokens por passagem, a conta de papel dá de uma vez e um terço a uma vez e meia; com milhares, o preço some; com poucas dezenas, dobra. Daí duas lições: QLoRA **não mantém**, em geral, a velocidade do LoRA, e lotes maiores ou textos mais longos diluem o preço. Na sua CPU, lenta em conta, ele pode nem aparecer num treino com centenas de tokens por passo, e aparecer inteiro na hora de gerar texto, um token por vez.

# %% [markdown]
# ## 4. Preparar o modelo
#
# A `peft` traz a função `prepare_model_for_kbit_training`, que muitos cadernos chamam sem olhar. São quatro passos, e cada um mexe na memória:
#
# | passo | para quê |
# |---|---|
# | congelar tudo | nada da base pede gradiente |
# | passar para **fp32** o que está em 16 bits e não foi quantizado: normas, embeddings, saída | somas mais estáveis, onde a precisão pesa mais |
# | ligar a **recomputação de ativações** | guardar só a entrada de cada bloco, e refazer a conta na volta |
# | fazer a saída dos embeddings **pedir gradiente** | sem isso, a recomputação "reentrante" acha que não há nada a derivar |
#
# O último passo parece um truque, e é. Na recomputação reentrante, cada bloco só entra no grafo se a sua **entrada** pede gradiente. Com a base congelada, a saída dos embeddings não pede, e o primeiro bloco, e por consequência os outros, fica de fora. A `transformers` 5 já dá esse passo sozinha quando se liga a recomputação; para ver do que ela nos livra, a célula o desfaz:

# %%
ids = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(0))


def adapter_gradients(inputs_require_grad, reentrant):
    """Quantos adaptadores B recebem gradiente com recomputação, e o que o PyTorch tem a dizer."""
    net = tiny_qlora()
    net.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if not inputs_require_grad:
        net.get_input_embeddings()._forward_hooks.clear()  # desfaz o que a transformers 5 faz por conta própria
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            net(input_ids=ids, labels=ids).loss.backward()
        except RuntimeError as error:
            return f"erro: {str(error)[:60]}..."
    alive = [
        p.grad is not None and float(p.grad.norm()) > 0 for n, p in net.named_parameters() if "lora_B" in n
    ]
    noise = " (com aviso)" if any("requires_grad" in str(w.message) for w in said) else ""
    return f"{sum(alive)} de {len(alive)} adaptadores com gradiente{noise}"


for reentrant in (True, False):
    for wanted in (False, True):
        name = "reentrante" if reentrant else "não reentrante"
        print(
            f"{name:<15} entrada pede gradiente: {'sim' if wanted else 'não':<4} {adapter_gradients(wanted, reentrant)}"
        )

# %% [markdown]
# **Leitura do resultado.** Só a primeira linha falha: recomputação reentrante, sem o truque. Aqui, ao menos, com estrondo: nada na perda pede gradiente. (Se algo fora dos blocos também fosse treinado, não haveria erro, só blocos parados.) As outras três treinam os quatro adaptadores. A forma não reentrante (`use_reentrant=False`), mais nova, dispensa o truque; é a que o `toolkit` usa. Quem escreve um laço próprio, ou usa uma versão mais velha, precisa lembrar do truque. Se a segunda linha também falha na sua máquina, a biblioteca mudou de costume: fie-se no que você vê.

# %% [markdown]
# ### Exercício 3: `prepare_for_kbit`
#
# ★★★☆☆ · ◆◆◆◆◇ · 12 minutos · 3 pontos
#
# Escreva a sua: `prepare_for_kbit(model)` faz os quatro passos no próprio `model` e o devolve. Cuidado: um peso em 4 bits é um `Params4bit`, e os seus códigos podem estar guardados num tensor de tipo bf16 (`quant_storage`); convertê-lo para fp32 destruiria o modelo. *Dicas:* `p.data = p.data.float()` troca o tipo de um parâmetro; os métodos `enable_input_require_grads` e `gradient_checkpointing_enable` (com `{"use_reentrant": True}`, como acima) fazem os dois últimos; chame os dois, porque nem toda versão liga um pelo outro.


# %% nbgrader={"grade_id": "preparar", "solution": true}
def prepare_for_kbit(model):
    """Congela, passa o que não é 4 bits para fp32, e liga a recomputação reentrante; devolve `model`."""
    ### BEGIN SOLUTION
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.dtype in (torch.float16, torch.bfloat16) and not isinstance(parameter, Params4bit):
            parameter.data = parameter.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model
    ### END SOLUTION


# %% nbgrader={"grade_id": "preparar_teste", "points": 3}
def described(model):
    """Nome → (dtype, pede gradiente) de cada parâmetro."""
    return {key: (value.dtype, value.requires_grad) for key, value in model.named_parameters()}


model = tiny_4bit_llama()
model = prepare_for_kbit(model)
assert not any(trained for _, trained in described(model).values()), (
    "Depois do preparo nada da base pede gradiente."
)
kinds = described(model)
assert kinds["model.embed_tokens.weight"][0] == kinds["model.norm.weight"][0] == torch.float32, (
    "Embeddings e normas devem passar para fp32."
)
assert kinds["model.layers.0.self_attn.q_proj.weight"][0] == torch.uint8, "Os pesos em 4 bits não mudam."
assert model.is_gradient_checkpointing, "Falta ligar a recomputação de ativações."
ids = torch.randint(0, 96, (1, 5))
assert model.get_input_embeddings()(ids).requires_grad, "A saída dos embeddings deve pedir gradiente."
### BEGIN HIDDEN TESTS
for seed, depth, kind, storage in (
    (31, 1, torch.float16, torch.uint8),
    (32, 3, torch.bfloat16, torch.bfloat16),
    (33, 2, torch.float32, torch.float32),
):
    mine = prepare_for_kbit(tiny_4bit_llama(seed, depth, kind, storage))
    theirs = prepare_model_for_kbit_training(tiny_4bit_llama(seed, depth, kind, storage))
    assert described(mine) == described(theirs), (
        "Os dtypes ou o congelamento diferem dos de prepare_model_for_kbit_training: confira fp16, e os pesos em 4 bits "
        "guardados num tensor bf16."
    )
    assert mine.is_gradient_checkpointing, "A recomputação deve ficar ligada em qualquer modelo."
    mine.gradient_checkpointing_disable(), theirs.gradient_checkpointing_disable()
    sample = torch.randint(0, 96, (2, 9))
    assert torch.allclose(mine(sample).logits, theirs(sample).logits, atol=1e-5), (
        "O preparo não pode mudar os números do modelo."
    )
### END HIDDEN TESTS

# %% [markdown]
# E a memória? Um modelo de 7 bilhões não cabe nesta aula, mas os planos cabem: cada passo do preparo é um campo do `Plan`. A coluna "prevista" vem da fórmula (`estimate`); a "simulada", do código de verdade da `transformers` e da `peft` rodando em tensores falsos, sem pesos e sem GPU (`simulate`).

# %%
from toolkit import Architecture, Full, LoRA, Plan, QLoRA, count
from toolkit.vram.estimate import estimate
from toolkit.vram.simulate import simulate

STEPS = {
    "4 bits, sem preparo": {},
    "+ normas em fp32": {"upcast": "norms"},
    "+ tudo que não é 4 bits em fp32": {"upcast": "all"},
    "+ recomputação reentrante": {"upcast": "all", "checkpointing": True, "reentrant": True},
    "só a recomputação": {"checkpointing": True},
}
SHOWN = {
    "pesos e escalas": ("weights", "quant_constants"),
    "treino dos adaptadores": ("adapters", "gradients", "optimizer_states", "optimizer_temporaries"),
    "ativações": ("activations", "recompute"),
    "logits": ("logits",),
}
LARGE = Architecture.from_config(tiny_4bit_llama(layers=1).config if reduced else "meta-llama/Llama-2-7b-hf")
large = Plan(LARGE, QLoRA(16, targets="all-linear"), seq_len=64 if reduced else 1024)
prepared = {}
print(f"{LARGE.name}, {large.seq_len} tokens, bf16\n")
print(f"{'passo':<34}" + "".join(f"{part:>24}" for part in SHOWN) + f"{'pico previsto':>16} {'simulado':>14}")
for label, switches in STEPS.items():
    plan = large.change(**switches)
    memory = estimate(plan)
    prepared[label] = [sum(memory.peak.get(name, 0) for name in names) / GIB for names in SHOWN.values()]
    simulated = simulate(plan).allocated.value
    print(
        f"{label:<34}"
        + "".join(f"{size:20.2f} GiB" for size in prepared[label])
        + f"{memory.allocated.value / GIB:12.2f} GiB {simulated / GIB:10.2f} GiB"
    )

# %%
_, axes = plt.subplots(figsize=(9, 3.2))
COLORS = ["#d9dde3", "#f4a259", "#8ab0ab", "#bc4b51"]
left = [0.0] * len(prepared)
for index, (part, color) in enumerate(zip(SHOWN, COLORS, strict=True)):
    sizes = [row[index] for row in prepared.values()]
    axes.barh(range(len(prepared)), sizes, left=left, color=color, label=part)
    left = [a + b for a, b in zip(left, sizes, strict=True)]
axes.set_yticks(range(len(prepared)), prepared)
axes.invert_yaxis()
axes.set(xlabel="GiB no pico")
axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, 1.2), frameon=False, fontsize=9)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** Dois passos **aumentam** a memória. As normas em fp32 quase não pesam por si (são 266 mil números), mas a saída delas é fp32 e arrasta as ativações. Com tudo em fp32, dobram também os embeddings e a saída: meio GiB a mais neste modelo, que tem um vocabulário pequeno. Quem paga a conta é a recomputação, que sozinha devolve várias vezes o que os outros gastaram; a última linha mostra que ela sem o resto é a mais barata de todas. Não há lei que mande fazer os quatro: bibliotecas de 2026 já não passam tudo para fp32. A previsão e a simulação devem andar a poucos por cento uma da outra.

# %% [markdown]
# ## 5. O otimizador paginado
#
# Um treino passa semanas a 12 GiB e morre num único lote de textos longos, que pediu 15. Os estados do Adam (dois números por parâmetro treinado) ficam na GPU o tempo todo, mas só são usados num instante: o `step`. O **otimizador paginado** os põe em *memória gerenciada* do CUDA: quando falta lugar na placa, o driver empurra as **páginas** usadas há mais tempo para a memória da CPU, e as traz de volta quando o `step` as toca. É o mesmo que um sistema operacional faz com o disco.
#
# **O que** é paginado: só os estados do otimizador. Pesos, gradientes e ativações não saem da placa. **Quando**: só quando falta lugar; no resto do tempo, nada acontece.

# %% [markdown]
# ### Exercício 4: `page_ins`
#
# ★★★☆☆ · ◆◆◆◆◇ · 15 minutos · 4 pontos
#
# Simule o driver. A placa tem `capacity` páginas; `trace` é uma lista de acontecimentos, na ordem:
#
# - `("ocupa", n)`: daqui em diante, tudo o que **não** é paginável ocupa `n` páginas (é o total, não um acréscimo). Se os estados que estão na placa não couberem mais no que sobra, saem os usados há mais tempo, até caberem;
# - `("usa", p)`: o `step` toca a página `p` dos estados. Se ela não está na placa, **entra**; se falta lugar, sai antes a usada há mais tempo.
#
# `page_ins(trace, capacity)` devolve quantas vezes uma página entrou na placa, contando a primeira vez de cada uma. Se `n` passa de `capacity`, lance `MemoryError`: contra isso, paginar não ajuda. *Dica:* um `OrderedDict` lembra a ordem; `move_to_end(p)` põe `p` como a mais recente e `popitem(last=False)` tira a mais antiga.


# %% nbgrader={"grade_id": "paginas", "solution": true}
def page_ins(trace, capacity):
    """Quantas páginas dos estados entram na placa ao longo de `trace`."""
    ### BEGIN SOLUTION
    resident, occupied, entered = OrderedDict(), 0, 0
    for what, value in trace:
        if what == "ocupa":
            if value > capacity:
                raise MemoryError(f"{value} páginas fixas numa placa de {capacity}")
            occupied = value
        else:
            entered += value not in resident
            resident[value] = None
            resident.move_to_end(value)
        while len(resident) > capacity - occupied:
            resident.popitem(last=False)
    return entered
    ### END SOLUTION


# %% nbgrader={"grade_id": "paginas_teste", "points": 4}
first = [("ocupa", 6), ("usa", 0), ("usa", 1), ("usa", 2)]
assert page_ins(first, 10) == 3, "Na primeira vez, cada página entra: são três."
assert page_ins(first * 2, 10) == 3, (
    "Com lugar de sobra (6 + 3 de 10), no segundo passo nada sai e nada entra."
)
squeezed = [*first, ("ocupa", 9), ("ocupa", 6), *first[1:]]
assert page_ins(squeezed, 10) == 5, (
    "Com 9 páginas ocupadas só fica a mais recente (a 2); no passo seguinte entram de novo a 0 e a 1: 3 + 2. "
    f"Recebi {page_ins(squeezed, 10)}."
)
try:
    page_ins([("ocupa", 11)], 10)
except MemoryError:
    pass
else:
    raise AssertionError("O que não é paginável não cabe: falta lançar MemoryError.")
### BEGIN HIDDEN TESTS
import random


def by_hand(trace, capacity):
    """O mesmo, por outro caminho: a hora do último uso de cada página que está na placa."""
    used, room, entered = {}, capacity, 0
    for moment, (what, value) in enumerate(trace):
        if what == "ocupa":
            room = capacity - value
        else:
            entered += value not in used
            used[value] = moment
        for page in sorted(used, key=used.get)[: max(0, len(used) - room)]:
            del used[page]
    return entered


for _ in range(12):
    capacity = random.randint(8, 30)
    trace = []
    for _ in range(60):
        trace += [("ocupa", random.randint(0, capacity - 1))]
        trace += [("usa", random.randint(0, 20)) for _ in range(random.randint(0, 8))]
    assert page_ins(trace, capacity) == by_hand(trace, capacity), (
        "A contagem falha numa sequência sorteada: confira qual página sai, e quando o lugar muda."
    )
cycle = [("ocupa", 0), *(("usa", page) for page in range(5))] * 4
assert page_ins(cycle, 5) == 5, "Se tudo cabe, cada página só entra uma vez."
assert page_ins(cycle, 4) == 20, (
    "Em roda, com lugar para uma a menos, a que sai é sempre a próxima a ser usada."
)
assert page_ins([("ocupa", 7)] * 3, 7) == 0, (
    "Sem páginas tocadas, nada entra; e ocupar a placa inteira é permitido."
)
### END HIDDEN TESTS

# %% [markdown]
# Agora com números de um treino. O plano abaixo é QLoRA de um modelo de 7 bilhões numa T4, com posto 64; a maioria dos lotes é curta, e um deles é longo. A cada passo, os momentos (ida, perda, volta, passo) ocupam o que a fórmula prevê, e no fim o `step` toca todos os estados. Páginas de 2 MiB.

# %%
from toolkit.vram.gpus import gpu

PAGE = 2 * 2**20
T4 = gpu("T4")
room = T4.memory - sum(T4.context) // 2  # o que sobra depois do contexto CUDA
seven = Plan(
    Architecture.from_config("meta-llama/Llama-2-7b-hf"), QLoRA(64, targets="all-linear"), gpu="T4", batch=4,
    dtype="fp16", compute_dtype="fp16", autocast=True, checkpointing=True, optimizer="paged_adamw_32bit",
)  # fmt: skip
states = 8 * count(seven).trainable  # dois números de 4 bytes por parâmetro treinado
MOMENTS = ("forward", "loss", "backward", "step")
BATCHES = [512, 512, 4096, 512, 512]  # tokens por texto, em cada passo


def step_trace(plan):
    """Os acontecimentos de um passo de treino, em páginas."""
    memory = estimate(plan)
    occupied = [("ocupa", math.ceil(memory.total(moment) / PAGE)) for moment in MOMENTS]
    return [*occupied, *(("usa", page) for page in range(math.ceil(states / PAGE)))]


history = []
with needs_exercise(4):
    print(
        f"placa: {room / GIB:.2f} GiB livres   estados: {states / GIB:.2f} GiB em {math.ceil(states / PAGE)} páginas\n"
    )
    print(
        f"{'passo':>5} {'tokens':>6} {'pico sem os estados':>20} {'com eles, sem paginar':>22} {'entram':>7} {'demora':>9}"
    )
    trace, before = [], 0
    for number, tokens in enumerate(BATCHES, start=1):
        plan = seven.change(seq_len=tokens)
        trace += step_trace(plan)
        entered = page_ins(trace, room // PAGE) - before
        before += entered
        peak = max(estimate(plan).total(moment) for moment in MOMENTS)
        history.append((tokens, peak, entered))
        verdict = "cabe" if peak + states <= room else "NÃO CABE"
        print(
            f"{number:5d} {tokens:6d} {peak / GIB:16.2f} GiB {(peak + states) / GIB:10.2f} GiB {verdict:>8}"
            f"{entered:7d} {entered * PAGE / 12e9:7.2f} s"
        )

# %%
if history:
    _, axes = plt.subplots(figsize=(9, 3.4))
    for place, (_, peak, _) in enumerate(history):
        there = min(states, room - peak) / GIB
        axes.bar(
            place,
            peak / GIB,
            color="#d9dde3",
            width=0.6,
            label="não paginável, no pico" if not place else None,
        )
        axes.bar(
            place,
            there,
            bottom=peak / GIB,
            color="#f4a259",
            width=0.6,
            label="estados na placa" if not place else None,
        )
        if there < states / GIB:
            axes.bar(
                place, states / GIB - there, bottom=peak / GIB + there, width=0.6, fill=False, edgecolor="#bc4b51",
                hatch="//", label="estados empurrados para a CPU",
            )  # fmt: skip
    axes.axhline(room / GIB, color="#444", linestyle=":", linewidth=1)
    axes.text(-0.45, room / GIB + 0.2, "T4", fontsize=10)
    axes.set_xticks(
        range(len(history)), [f"passo {n + 1}\n{tokens} tokens" for n, (tokens, _, _) in enumerate(history)]
    )
    axes.set(ylabel="GiB", ylim=(0, room / GIB * 1.3))
    axes.legend(frameon=False, ncols=3, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** No primeiro passo, todas as páginas entram, porque acabam de nascer. Nos outros passos curtos, nenhuma: o paginado custa zero quando há lugar. No lote longo, o pico com os estados passa da placa; sem paginação o treino morreria ali. Com ela, parte dos estados vai para a CPU e volta no mesmo passo, em um décimo de segundo, se o barramento PCIe der 12 GB/s. É um **seguro contra picos**, não um modo de ter mais memória: se todos os lotes fossem longos, a conta viria a cada passo, e se o pico **sem** os estados passasse da placa, nada o salvaria. Se no seu passo 3 não entra nenhuma página, confira o "ocupa" quando `n` cresce.
#
# Duas ressalvas que quase nenhum tutorial faz. A política do driver é parecida com esta, não idêntica. E a `bitsandbytes` só pagina tensores com 100 mil elementos ou mais (`optimizer.py`, `get_state_buffer`). Quantos dos seus são desse tamanho?

# %%
SMALLEST_PAGED = 100_000
print(f"{'modelo':<18}" + "".join(f"{'posto ' + str(rank):>12}" for rank in (8, 16, 64)))
for name in (
    "HuggingFaceTB/SmolLM2-135M",
    "TucanoBR/Tucano-1b1",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-70b-hf",
):
    cells = []
    for rank in (8, 16, 64):
        sizes = [
            rank * side
            for linear in Architecture.from_config(name).linears()
            for side in (linear.inputs, linear.outputs)
        ]
        cells.append(sum(n for n in sizes if n >= SMALLEST_PAGED) / sum(sizes))
    print(f"{name.split('/')[1]:<18}" + "".join(f"{cell:12.0%}" for cell in cells))

# %% [markdown]
# **Leitura do resultado.** A fração dos estados que pode ser paginada, com LoRA em todas as matrizes lineares. Com posto 8 num modelo de 7 bilhões, **nada** é paginado, embora o nome do otimizador seja o mesmo: as matrizes $A$ e $B$ são pequenas demais. O artigo usou posto 64 em 65 bilhões de parâmetros, onde quase tudo é.
#
# E na sua máquina? Na CPU a memória gerenciada não existe, e a biblioteca avisa que vai fazer o normal. Numa GPU, os estados paginados nem aparecem na conta do PyTorch.

# %%
import bitsandbytes.optim

weight = nn.Parameter(gaussian(400, 500).to(device))
for kind in (bitsandbytes.optim.AdamW32bit, bitsandbytes.optim.PagedAdamW32bit):
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    optimizer = kind([weight], lr=1e-3)
    weight.grad = torch.ones_like(weight)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        optimizer.step()
    grown = (
        f"{torch.cuda.memory_allocated() - before:,d} bytes a mais na placa"
        if device == "cuda"
        else "sem GPU"
    )
    state = optimizer.state[weight]["state1"]
    print(f"{kind.__name__:<16} {grown}; estado na memória gerenciada: {getattr(state, 'is_paged', False)}")
    for warning in said:
        print(f"   a biblioteca avisa: {warning.message}")

# %% [markdown]
# **Leitura do resultado.** Na CPU, o aviso diz que o paginado vira um otimizador comum: os números do treino são os mesmos, e nada é paginado. Numa GPU, a segunda linha deve dizer `True`, e o que cresce na placa deve ser menor que na primeira. Esta aula só pode **mostrar** a paginação onde há CUDA; o que você simulou acima é o que ela faria.

# %% [markdown]
# ## 6. O treino que não aprende e não reclama
#
# O defeito é verdadeiro, e apareceu quando este curso era preparado; a história, contada depois, fica em ordem. Um QLoRA treinava bem na CPU. Alguém acrescentou uma avaliação antes do treino, para ter o "antes" da tabela, e a perda parou de cair. Nenhum erro. Os adaptadores mudavam de nome, de posto, de taxa; a perda, não. O que você faria?
#
# 1. **Ver o sintoma mais de perto.** A perda não cai; os parâmetros mudam? Não. Há gradiente? A norma é exatamente `0.0`. Não é pequena: é zero. Zero exato quase nunca é um problema de taxa de aprendizado; é um **fio cortado**.
# 2. **Achar a menor diferença.** Sem a avaliação, há gradiente. Com ela, não. E basta uma passagem em modo de avaliação, mesmo sem gerar texto.
# 3. **Perguntar o que muda.** `model.eval()` não devia mudar pesos. Mas o código da camada (`bitsandbytes/nn/modules.py`, `Linear4bit.forward`) tem um atalho: em CPUs com a instrução **AVX512-BF16**, na primeira passagem em avaliação, a camada **reempacota** os pesos para uma rotina mais rápida. A rotina calcula a saída certa, e não sabe derivar.
# 4. **Explicar o silêncio.** Um operador sem derivada registrada não é um erro para o PyTorch: ele entra no grafo com gradiente nulo, e um aviso que se perde entre outros.
#
# A sua CPU tem a instrução? Seja qual for a resposta, a maquete abaixo refaz o mecanismo: uma camada em 4 bits que, depois de uma avaliação, passa a usar um operador rápido sem derivada.

# %% nbgrader={"grade_id": "maquete"}
# A maquete: um operador registrado só para a ida, e uma camada que troca para ele na primeira avaliação.
import time

_operators = torch.library.Library(
    f"aula06_{time.time_ns()}", "DEF"
)  # um nome novo cada vez que a célula roda
_operators.define("produto(Tensor x, Tensor weight) -> Tensor")
_operators.impl("produto", lambda x, weight: x.detach() @ weight.T, "CPU")  # como uma rotina em C: só números
fast_product = getattr(torch.ops, _operators.ns).produto


class Shortcut4bit(Linear4bit):
    """Uma camada em 4 bits com o atalho: depois de uma passagem em avaliação, não sabe mais derivar."""

    repacked = False

    def forward(self, x):
        """Entrada (..., k), saída (..., d): a mesma por um caminho e pelo outro."""
        self.repacked = self.repacked or not (self.training or torch.is_grad_enabled())
        if not self.repacked:
            return super().forward(x)
        return fast_product(x, bnb.dequantize_4bit(self.weight.data, self.weight.quant_state).to(x.dtype))


def evaluate(model, ids):
    """Uma avaliação como outra qualquer: sem gradiente, e de volta ao treino."""
    model.eval()
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    model.train()
    return loss


# %% [markdown]
# ### Exercício 5: o alarme
#
# ★★☆☆☆ · ◆◆◆◆◆ · 8 minutos · 2 pontos
#
# `dead_adapters(model)` olha os gradientes depois de um `backward` e devolve a **lista ordenada dos nomes** dos parâmetros treináveis cujo nome contém `lora_B` e cujo gradiente está **ausente** (`None`), é **todo zero** ou tem **NaN**. Por que só os $B$? Porque no primeiro passo o gradiente de todo $A$ é zero por direito: $B$ começa em zero (aula 03). Um alarme que toca sempre não é um alarme.


# %% nbgrader={"grade_id": "alarme", "solution": true}
def dead_adapters(model):
    """Os nomes dos lora_B treináveis sem gradiente que preste, em ordem."""
    ### BEGIN SOLUTION
    return sorted(
        name
        for name, p in model.named_parameters()
        if "lora_B" in name and p.requires_grad and (p.grad is None or not float(p.grad.norm()) > 0)
    )
    ### END SOLUTION


# %% nbgrader={"grade_id": "alarme_teste", "points": 2}
model = tiny_qlora()
ids = torch.randint(0, 96, (2, 8))
dead = dead_adapters(model)
assert len(dead) == 4 and all("lora_B" in name for name in dead), (
    f"Antes do backward, nenhum dos quatro B (q e v, duas camadas) tem gradiente; recebi {dead}."
)
assert dead == sorted(dead), "Devolva os nomes em ordem."
model(input_ids=ids, labels=ids).loss.backward()
assert dead_adapters(model) == [], (
    f"Depois do primeiro backward todos os B têm gradiente (os A, ainda não); recebi {dead_adapters(model)}."
)
### BEGIN HIDDEN TESTS
for seed, depth in ((41, 1), (42, 3)):
    model = tiny_qlora(seed, depth)
    before = dead_adapters(model)
    assert before == sorted(n for n, p in model.named_parameters() if "lora_B" in n), (
        "Sem backward, todos os B estão mortos, em modelos de qualquer tamanho."
    )
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".0.self_attn.q_proj.lora_A" in name:
                p.zero_()
    model(input_ids=ids, labels=ids).loss.backward()
    dead = dead_adapters(model)
    assert len(dead) == 1 and ".0.self_attn.q_proj.lora_B" in dead[0], (
        "Um B cujo gradiente é todo zero deve ser denunciado, e só ele."
    )
model = tiny_qlora(44)
for name, p in model.named_parameters():
    p.requires_grad_(p.requires_grad and ".0.self_attn.q_proj.lora_B" not in name)
dead = dead_adapters(model)
assert len(dead) == 3 and not any(".0.self_attn.q_proj" in name for name in dead), (
    "Um B congelado não é treinável, e não é da conta do alarme."
)
model = tiny_qlora(43)
dead_adapters(model)
with torch.no_grad():
    for name, p in model.named_parameters():
        if ".1.self_attn.v_proj.lora_A" in name:
            p.fill_(float("nan"))
model(input_ids=ids, labels=ids).loss.backward()
assert any(".1.self_attn.v_proj.lora_B" in name for name in dead_adapters(model)), (
    "Um gradiente com NaN não presta."
)
### END HIDDEN TESTS

# %%
ids = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(1))


def total_gradient(model):
    """A norma do gradiente de tudo o que se treina, e o que o PyTorch avisou pelo caminho."""
    model.zero_grad()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model(input_ids=ids, labels=ids).loss.backward()
    squares = [p.grad.square().sum() for p in model.parameters() if p.grad is not None]
    warned = any("autograd kernel" in str(w.message) for w in said)
    return float(sum(squares, torch.tensor(0.0)).sqrt()), warned


with needs_exercise(5):
    print(f"{'camada':<34} {'momento':<18} {'perda':>7} {'|gradiente|':>12} {'mortos':>7}")
    for label, kind in (("bitsandbytes, nesta máquina", Linear4bit), ("maquete com o atalho", Shortcut4bit)):
        model = tiny_qlora(kind=kind)
        for moment in ("antes de avaliar", "depois de avaliar"):
            norm, warned = total_gradient(model)
            dead = len(dead_adapters(model))
            loss = evaluate(model, ids)
            print(
                f"{label:<34} {moment:<18} {loss:7.4f} {norm:12.6f} {dead:7d}{'   (um aviso do PyTorch)' if warned else ''}"
            )
print(f"\nesta CPU tem AVX512-BF16: {'sim' if bnb.has_avx512bf16() else 'não'}")

# %% [markdown]
# **Leitura do resultado.** Na maquete, a perda é igual antes e depois (o atalho calcula certo), a norma vai a zero exato e os quatro adaptadores morrem. Na linha da `bitsandbytes`, tudo depende da sua CPU: **sem** a instrução, nada muda; **com** ela, em versões com o defeito, a segunda linha também dá zero. No Colab com GPU o atalho não existe. O conserto é desligá-lo em cada camada, antes do treino (`layer.support_avx512bf16_for_cpu = False`); o `toolkit` faz isso em `base.load`, mas um laço seu não faria.
#
# O que fica não é o nome da instrução. É o **alarme**: depois de uma avaliação, antes de gastar horas, um `backward` e uma linha, `assert not dead_adapters(model)`. É o que faremos agora, no treino de verdade.

# %% [markdown]
# ## 7. Os três treinos
#
# O mesmo modelo, as mesmas cláusulas de contrato, a mesma ordem dos dados: ajuste completo, LoRA e QLoRA. O tamanho depende da sua máquina. Na CPU, o modelo pequeno, com poucos passos: uns sete minutos ao todo. Numa T4, o Tucano de 1,1 bilhão, em que o ajuste completo **não cabe**. Numa placa grande, um modelo de 7 bilhões. O que não cabe não é treinado, e a recusa diz por quê.

# %%
from dataclasses import replace

from toolkit import base_model, clauses, train
from toolkit.data import collate, encode_all
from toolkit.recipe import TrainingError

MODELS = {"cpu": "", "t4": "TucanoBR/Tucano-1b1", "big": "Qwen/Qwen2.5-7B-Instruct"}
base = base_model("tiny" if reduced else MODELS[machine.profile])
print(f"Modelo: {base.name} ({base.reason})")

task = clauses(DADOS)
held_out, test = (task.validation[:2], task.test[:2]) if reduced else (task.validation[:12], task.test[:24])
steps = 2 if reduced else {"cpu": 20, "t4": 150, "big": 100}[machine.profile]
METHODS = {
    "completo": (Full(), 5e-5),
    "LoRA": (LoRA(16, 32, targets="all-linear"), 1e-3),
    "QLoRA": (QLoRA(16, 32, targets="all-linear"), 1e-3),
}


def stored_bits(model):
    """Bits por parâmetro da base, com as escalas, e o tipo do que se treina."""
    numbers, size, trained = 0, 0, set()
    for value in model.parameters():
        if value.requires_grad:
            trained.add(str(value.dtype).removeprefix("torch."))
            continue
        state = getattr(value, "quant_state", None)
        numbers += value.numel() if state is None else math.prod(state.shape)
        size += value.nbytes + (0 if state is None else state.absmax.nbytes + state.state2.absmax.nbytes)
    return 8 * size / numbers, ", ".join(sorted(trained))


sizes = [len(e.ids) - e.prompt_length for e in encode_all(base.tokenizer, held_out, 1024)]
guess = math.log(12) * len(sizes) / sum(sizes)
print(f"perda por token de quem só decorou a lista dos doze tipos, e chuta: {guess:.2f}")

runs, stored = {}, {}
for label, (method, rate) in METHODS.items():
    paged = label == "QLoRA" and device == "cuda"  # sem GPU, o mesmo AdamW nos três: só a base muda
    plan = base.plan(
        method, batch=4, seq_len=1024, checkpointing=machine.profile != "cpu",
        optimizer="paged_adamw_32bit" if paged else "adamw",
    )  # fmt: skip
    print(f"\n{label}")
    try:
        run = train(
            plan, task.train, base, steps=steps, learning_rate=rate, validation=held_out,
            metric=task.metric(base.tokenizer, test),
        )  # fmt: skip
    except TrainingError as refusal:
        print(f"não treinado: {refusal}")
        continue
    if label != "completo":
        stored[label] = stored_bits(run.model)
    # dos três modelos, guarda-se um só: a memória é pouca
    runs[label] = run if label == "QLoRA" else replace(run, model=None)
    del run

# %% [markdown]
# Antes de olhar os números, o alarme: há gradiente depois de uma avaliação?

# %%
tokens = collate(encode_all(base.tokenizer, task.train[:2], 1024), base.tokenizer.pad_token_id)
model = runs["QLoRA"].model.train()
tokens = {name: tensor.to(model.device) for name, tensor in tokens.items()}
with needs_exercise(5):
    evaluate(model, tokens["input_ids"])
    model.zero_grad()
    model(**tokens).loss.backward()
    norm = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    print(
        f"norma do gradiente depois de uma avaliação: {norm:.4f}; adaptadores mortos: {len(dead_adapters(model))}"
    )
    assert norm > 0 and not dead_adapters(model), "O treino acima não aprendeu nada: veja a seção 6."
model.eval()
model.zero_grad()

# %%
from toolkit import compare

compare(runs)

# %% [markdown]
# **Leitura do resultado.** Olhe quatro linhas.
#
# - A **perda na validação** despenca nos três, e LoRA e QLoRA terminam perto um do outro, embora o QLoRA comece de um modelo já quantizado. Compare-a com a de quem só decorou a lista: acima dela, o modelo aprendeu o **formato** da resposta e ainda não os tipos.
# - Por isso a **macro-F1** diz pouco na CPU: com vinte passos ela ainda anda pelo acaso (0,08), e com 24 cláusulas oscila alguns centésimos por sorte. Para o LoRA levantá-la com folga foram precisos, nas aulas 03 e 04, quatro vezes mais exemplos; três treinos assim não caberiam nesta aula. Na T4, com mais passos, é ela que conta.
# - Os **tokens/s**: o LoRA costuma passar o ajuste completo, porque não calcula o gradiente dos pesos. O QLoRA fica abaixo dele, porque desquantiza na ida e outra vez na volta; quanto abaixo depende dos tokens por passagem (seção 3): com lotes pequenos como este, a velocidade pode cair a menos da metade.
# - O **pico**: na CPU, que mede o processo inteiro, a economia do QLoRA quase não aparece, porque o modelo é pequeno, os pesos desquantizados passam pela memória e as ativações são as mesmas. Memória de GPU se mede numa GPU, ou se calcula, como abaixo.
#
# Se a perda do QLoRA não cai e a das outras cai, volte à seção 6.

# %%
PARTS = {
    "pesos": ("weights",),
    "escalas": ("quant_constants",),
    "adaptadores": ("adapters",),
    "gradientes": ("gradients",),
    "otimizador": ("optimizer_states", "optimizer_temporaries"),
    "ativações": ("activations", "recompute"),
    "logits": ("logits",),
    "o resto": ("workspaces", "batch"),
}


def memory_table(title, plans):
    """O pico de cada plano, por parte, previsto e simulado; devolve as partes em GiB."""
    print(
        f"{title}\n{'':<12}" + "".join(f"{part:>13}" for part in PARTS) + f"{'pico':>8} {'simulado':>9}   GiB"
    )
    found = {}
    for label, plan in plans.items():
        memory = estimate(plan)
        found[label] = [sum(memory.peak.get(name, 0) for name in names) / GIB for names in PARTS.values()]
        cells = "".join(f"{size:13.3f}" for size in found[label])
        print(
            f"{label:<12}{cells}{memory.allocated.value / GIB:8.2f} {simulate(plan).allocated.value / GIB:9.2f}"
        )
    print()
    return found


def three(model, seq_len, **changes):
    """Os três métodos em bf16 puro, com as matrizes lineares todas adaptadas."""
    return {
        label: Plan(model, method, seq_len=seq_len).change(**changes)
        for label, (method, _) in METHODS.items()
    }


length = 64 if reduced else 512
by_part = memory_table(
    f"{LARGE.name}, {length} tokens, com recomputação", three(LARGE, length, checkpointing=True)
)

# %%
_, axes = plt.subplots(figsize=(9, 2.8))
palette = ["#d9dde3", "#444", "#f4a259", "#bc4b51", "#8cb369", "#8ab0ab", "#5b8e7d", "#e8ecef"]
left = [0.0] * len(by_part)
for index, (part, color) in enumerate(zip(PARTS, palette, strict=True)):
    sizes = [row[index] for row in by_part.values()]
    axes.barh(range(len(by_part)), sizes, left=left, color=color, label=part)
    left = [a + b for a, b in zip(left, sizes, strict=True)]
for row, total in enumerate(left):
    axes.text(total, row, f" {total:.1f} GiB", va="center")
axes.axvline(T4.memory / GIB, color="#444", linestyle=":", linewidth=1)
axes.text(T4.memory / GIB, -0.72, " T4", fontsize=9)
axes.set_yticks(range(len(by_part)), by_part)
axes.invert_yaxis()
axes.set(xlabel=f"GiB no pico: {LARGE.name}", xlim=(0, 1.12 * max(*left, T4.memory / GIB)))
axes.legend(ncols=4, loc="lower right", frameon=False, fontsize=9)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** No modelo grande, o ajuste completo gasta quase tudo com pesos, gradientes e otimizador, e passa longe da T4. O LoRA apaga gradientes e otimizador e fica com a **base**, que já encosta no limite. O QLoRA encolhe a base em quase quatro vezes. No modelo pequeno que você treinou, em fp32, o retrato é outro: ativações e logits dominam. É a mesma conta; mudou o que pesa. Previsto e simulado devem concordar a poucos por cento.

# %% [markdown]
# ## 8. A tabela de sempre, conferida
#
# Quase toda aula sobre o assunto traz um quadro assim:
#
# | | LoRA | QLoRA |
# |---|---|---|
# | modelo base | em precisão total (ex.: FP16) | quantizado em 4 bits (ex.: NF4) |
# | parâmetros treináveis | adaptadores, em FP16 | adaptadores, em FP16 |
# | memória | bem menor que no ajuste completo | até 3 vezes menor que no LoRA, até 16 vezes menor que no completo |
# | hardware | mais acessível | GPUs de consumo |
# | desempenho | muito próximo do completo | degradação mínima |
# | velocidade | mais rápido | mantida |
# | complexidade | menor | maior |
#
# Confira uma linha de cada vez, com o que esta máquina mediu e com o que a conta diz dos modelos que não cabem nela.


# %%
from toolkit.vram.fit import fit


def peak(name, label, **changes):
    return estimate(three(name, 512, checkpointing=True)[label].change(**changes)).allocated.value


print("MODELO BASE E PARÂMETROS TREINÁVEIS (nos modelos treinados acima)")
for label, (bits, kind) in stored.items():
    print(f"   {label:<6} {bits:5.2f} bits por parâmetro da base; adaptadores em {kind}")

print("\nMEMÓRIA: quantas vezes menos o QLoRA gasta (posto 16, todos os lineares)")
CASES = {
    "160 milhões, 512 tokens": ("TucanoBR/Tucano-160m", {}),
    "7 bilhões, 512 tokens": ("meta-llama/Llama-2-7b-hf", {}),
    "7 bilhões, 4.096 tokens, sem recomputar": (
        "meta-llama/Llama-2-7b-hf",
        {"seq_len": 4096, "checkpointing": False},
    ),
    "70 bilhões, 512 tokens": ("meta-llama/Llama-2-70b-hf", {}),
}
for title, (name, changes) in CASES.items():
    full, lora, qlora = (peak(name, label, **changes) for label in METHODS)
    mixed = full + 4 * count(Plan(name, Full())).total  # cada estado do Adam em fp32: 2 bytes a mais
    print(
        f"   {title:<40} que o LoRA: {lora / qlora:4.1f}   que o completo: {full / qlora:5.1f}"
        f"   que o completo com Adam em fp32: {mixed / qlora:5.1f}"
    )

print("\nHARDWARE: a menor placa da tabela em que cabe com certeza (512 tokens, recomputação)")
for name in (
    "TucanoBR/Tucano-1b1",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-13b-hf",
    "meta-llama/Llama-2-70b-hf",
):
    smallest = {
        label: fit(plan, "T4").smallest_gpu or "nenhuma"
        for label, plan in three(name, 512, checkpointing=True).items()
    }
    print(
        f"   {name.split('/')[1]:<18} " + "   ".join(f"{label}: {card}" for label, card in smallest.items())
    )

print("\nDESEMPENHO E VELOCIDADE (medidos acima)")
for label, run in runs.items():
    print(
        f"   {label:<9} perda {run.validation[0][1]:.3f} → {run.validation[-1][1]:.3f}"
        f"   macro-F1 {run.before['macro-F1']:.2f} → {run.after['macro-F1']:.2f}"
        f"   {run.tokens_per_second:6.0f} tokens/s"
    )
print(
    f"   o QLoRA treina a {runs['QLoRA'].tokens_per_second / runs['LoRA'].tokens_per_second:.0%} da velocidade do LoRA"
)

# %% [markdown]
# **Leitura do resultado.** O que fica em pé do quadro:
#
# - **Modelo base.** Certo, com duas correções: FP16 não é "precisão total", é metade; e "4 bits" vale para as matrizes lineares (4,127 com as escalas). Na média do modelo, o que você vê na primeira linha é mais.
# - **Parâmetros treináveis.** Errado na `peft`: os dois em **fp32** (seção 1).
# - **Memória.** "Até 3" e "até 16 vezes" valem onde os pesos dominam: modelo grande, texto curto, recomputação. Ali até se passa disso. No modelo de 160 milhões, ou no de 7 bilhões com textos longos sem recomputação, a vantagem sobre o LoRA cai a menos de uma vez e meia: as ativações são as mesmas. E as 16 dependem também de como o outro lado é contado (o Adam em 16 ou em 32 bits).
# - **Hardware.** Certo, e é a razão de o QLoRA existir.
# - **Desempenho.** A perda do QLoRA terminou perto da do LoRA, como promete o quadro. Mas com uma semente, poucos passos e 24 cláusulas isso é um indício, não uma prova: diferenças de alguns centésimos são ruído, e afirmar "mínima" pede mais sementes e mais tarefas. O artigo fez isso, e encontrou empate.
# - **Velocidade.** **Só com condição**: muitos tokens por passagem. Aí o preço de desquantizar se dilui (na sua CPU, talvez até sumir); com poucos, a seção 3 mediu várias vezes mais lento. O QLoRA troca velocidade por memória, e só ganha tempo quando a memória poupada deixa usar um lote maior, ou quando a alternativa é não treinar.
# - **Complexidade.** Certo, e esta aula é a prova: quatro passos de preparo, um otimizador que nem sempre pagina, um defeito silencioso, e uma fusão que precisa de cuidado. É a próxima seção.

# %% [markdown]
# ## 9. Fundir numa cópia de 16 bits
#
# Para servir o modelo sem o custo do adaptador, funde-se $\frac{\alpha}{r}BA$ no peso. Mas em qual peso? Somar num peso de 4 bits obriga a quantizar **de novo**, e a correção, que é pequena, some no arredondamento. A saída é fundir numa **cópia em 16 bits** do peso *desquantizado*, que é o peso ao lado do qual o adaptador aprendeu:
#
# $$W_{16} = \operatorname{arredonda}_{16}\!\left(\hat W + \tfrac{\alpha}{r} B A\right)$$

# %% [markdown]
# ### Exercício 6: `merged_weight`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# `merged_weight(packed, state, lora_A, lora_B, scaling, dtype)` devolve o peso fundido, no `dtype` pedido. Faça a soma em **fp32** e arredonde **uma vez só**, no fim: arredondar $\hat W$ e a correção cada um por si, e depois a soma, erra mais.


# %% nbgrader={"grade_id": "fundir", "solution": true}
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    """O peso (d, k) fundido, desquantizado e somado em fp32 e arredondado uma vez para `dtype`."""
    ### BEGIN SOLUTION
    weight = bnb.dequantize_4bit(packed, state).float()
    return (weight + scaling * lora_B.float() @ lora_A.float()).to(dtype)
    ### END SOLUTION


# %% nbgrader={"grade_id": "fundir_teste", "points": 2}
packed, state = quantized(gaussian(48, 64))
A, B = gaussian(4, 64, std=0.1, seed=1), gaussian(48, 4, std=0.1, seed=2)
merged = merged_weight(packed, state, A, B, 2.0, torch.float32)
assert tuple(merged.shape) == (48, 64), (
    f"O peso fundido tem a forma do original, (48, 64); recebi {tuple(merged.shape)}."
)
exact = bnb.dequantize_4bit(packed, state) + 2.0 * B @ A
assert torch.allclose(merged, exact, atol=1e-6), (
    "Em fp32, o peso fundido é W desquantizado mais scaling · B · A."
)
assert merged_weight(packed, state, A, B, 2.0, torch.bfloat16).dtype == torch.bfloat16, (
    "Devolva no dtype pedido."
)
### BEGIN HIDDEN TESTS
for size_out, size_in, rank, strength, kind, stored, seed in (
    (96, 128, 8, 0.5, torch.bfloat16, torch.float32, 51),
    (64, 64, 2, 3.0, torch.float16, torch.float32, 52),
    (32, 192, 4, 1.0, torch.bfloat16, torch.bfloat16, 53),
):
    packed, state = quantized(gaussian(size_out, size_in, std=0.3, seed=seed).to(stored))
    A, B = gaussian(rank, size_in, std=0.2, seed=seed + 1), gaussian(size_out, rank, std=0.2, seed=seed + 2)
    exact = bnb.dequantize_4bit(packed, state).double() + strength * B.double() @ A.double()
    merged = merged_weight(packed, state, A, B, strength, kind)
    assert merged.dtype == kind, "Devolva no dtype pedido, qualquer que seja."
    nearest = exact.to(kind)
    # um empate entre dois vizinhos pode cair para o outro lado em fp32: raro
    assert float((merged != nearest).float().mean()) < 0.01, (
        "O resultado não é o vizinho mais próximo da soma exata: some em fp32 e arredonde uma vez só."
    )
### END HIDDEN TESTS

# %% [markdown]
# Agora no modelo que você treinou. Quatro destinos para o mesmo adaptador, todos calculados em fp32, para que só o arredondamento dos pesos apareça (numa GPU, a referência calcula em 16 bits, e as diferenças menores se perdem nela). A referência é o modelo em 4 bits com o adaptador ao lado.

# %%
from toolkit.evaluation import mean_loss

trained = {
    name: module
    for name, module in runs["QLoRA"].model.get_base_model().named_modules()
    if hasattr(module, "lora_A")
}


def parts_of(module):
    """Códigos, estado, A, B e escala de uma camada da peft."""
    weight = module.base_layer.weight
    factors = (getattr(module, side)["default"].weight.detach() for side in ("lora_A", "lora_B"))
    return weight.data, weight.quant_state, *factors, module.scaling["default"]


def fused(kind, parts, original):
    """O peso fundido num dos quatro destinos."""
    if kind == "modelo original, em bf16":
        *_, A, B, scaling = parts
        return (original.to(A.device) + scaling * B @ A).bfloat16()
    if kind == "de volta a 4 bits":
        return bnb.dequantize_4bit(*quantized(merged_weight(*parts, torch.float32)))
    return merged_weight(*parts, torch.float16 if "fp16" in kind else torch.bfloat16)


DESTINATIONS = (
    "modelo original, em bf16",
    "de volta a 4 bits",
    "cópia desquantizada, em bf16",
    "cópia desquantizada, em fp16",
)
held = encode_all(base.tokenizer, held_out, 1024)
sample = collate(held[:2], base.tokenizer.pad_token_id)["input_ids"].to(runs["QLoRA"].model.device)
drifts = {}
with needs_exercise(6):
    with torch.no_grad():
        reference = runs["QLoRA"].model(sample).logits.float()
    loss = mean_loss(runs["QLoRA"].model, held, 4, base.tokenizer.pad_token_id)
    print(f"{'destino da fusão':<34} {'perda':>8} {'desvio dos logits':>18} {'token previsto muda':>20}")
    print(f"{'4 bits, adaptador ao lado':<34} {loss:8.4f} {'referência':>18}")
    # uma cópia só: o peso original serve ao primeiro destino, e os outros não precisam dele
    copy = base.load().to("cpu" if machine.profile == "big" else base.model.device).float()
    for kind in DESTINATIONS:
        for name, module in trained.items():
            weight = copy.get_submodule(name).weight.data
            weight.copy_(fused(kind, parts_of(module), weight))
        with torch.no_grad():
            logits = copy(sample.to(copy.device)).logits.to(reference)
        drifts[kind] = float((logits - reference).square().mean().sqrt())
        changed = float((logits.argmax(-1) != reference.argmax(-1)).float().mean())
        loss = mean_loss(copy, held, 4, base.tokenizer.pad_token_id)
        print(f"{kind:<34} {loss:8.4f} {drifts[kind]:18.4f} {changed:20.1%}")

# %% [markdown]
# **Leitura do resultado.** A cópia em fp16 é quase indistinguível da referência; em bf16, que tem três bits a menos de precisão, o desvio é algumas vezes maior, e ainda pequeno. Fundir no **modelo original** desvia muito mais: o adaptador aprendeu ao lado do peso quantizado, e parte do que aprendeu foi compensar aquele erro. Voltar a 4 bits é o pior ou quase: é outra quantização por cima. Regra: funda na cópia *desquantizada*, em 16 bits; se precisar de 4 bits para servir, deixe o adaptador ao lado. Se a sua linha de fp16 não for a menor, confira `merged_weight`.

# %% [markdown]
# ## 10. Qual, quando


# %% cellView="form"
# @title Desenho: por onde começar
def draw_choice():
    _, axes = plt.subplots(figsize=(10.5, 5.4))
    axes.set(xlim=(0, 13), ylim=(0, 8.4))
    axes.axis("off")

    def box(x, y, text, color, width=3.6, height=1.1):
        axes.add_patch(plt.Rectangle((x, y), width, height, facecolor=color, edgecolor="#444"))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)

    def arrow(x0, y0, x1, y1, text, dx=0.0, dy=0.12):
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": "#444"})
        axes.text((x0 + x1) / 2 + dx, (y0 + y1) / 2 + dy, text, ha="center", fontsize=10, color="#444")

    question, answers = "#f2f4f6", ("#8ab0ab", "#f4a259", "#bc4b51")
    box(0.2, 7.0, "A tarefa traz muito conteúdo novo\n(outra língua, outro domínio)?", question, 4.6)
    box(0.2, 4.7, "O ajuste completo cabe\n(12 a 16 bytes por parâmetro)?", question, 4.6)
    box(6.2, 7.0, "", question, 0, 0)
    box(0.2, 2.4, "LoRA cabe\n(base em 16 bits)?", question, 4.6)
    box(0.2, 0.1, "QLoRA cabe\n(base em 4 bits)?", question, 4.6)
    arrow(2.5, 7.0, 2.5, 5.8, "sim", -0.45)
    arrow(2.5, 4.7, 2.5, 3.5, "não", -0.45)
    arrow(2.5, 2.4, 2.5, 1.2, "não", -0.45)
    axes.plot([4.8, 5.6, 5.6], [7.55, 7.55, 3.25], color="#444", linewidth=1)
    arrow(5.6, 3.25, 4.8, 3.0, "", 0)
    axes.text(5.15, 7.67, "não", ha="center", fontsize=10, color="#444")
    for y, color, text in (
        (4.7, answers[0], "Ajuste completo\naprende mais, esquece mais"),
        (2.4, answers[1], "LoRA\no mais rápido; um adaptador por tarefa"),
        (0.1, answers[2], "QLoRA\nmais lento; funda em 16 bits para servir"),
    ):
        box(7.6, y, text, color, 5.2)
        arrow(4.8, y + 0.55, 7.6, y + 0.55, "sim", 0.9)
    axes.text(
        0.2,
        -0.5,
        "Não? Nesta ordem: recomputação, texto mais curto, lote menor, modelo menor, placa maior.",
        fontsize=10,
    )
    plt.show()


draw_choice()

# %% [markdown]
# E em números: para cada modelo e cada placa, o primeiro método, na ordem completo, LoRA, QLoRA, que cabe com certeza (uma sequência de 512 tokens, recomputação, bf16 ou fp16).

# %%
SIZES = ["TucanoBR/Tucano-160m", "TucanoBR/Tucano-1b1", "TucanoBR/Tucano-2b4", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf", "meta-llama/Llama-2-70b-hf"]  # fmt: skip
CARDS = ["RTX 3060 12 GB", "T4", "RTX 4090", "RTX A6000", "A100 80 GB"]


CHOICES = {
    "completo": "#8ab0ab",
    "LoRA": "#f4a259",
    "QLoRA": "#bc4b51",
    "QLoRA?": "#d9a5a8",
    "nenhum": "#e8ecef",
}


def first_that_fits(name, card):
    """O primeiro método que cabe com certeza; "QLoRA?" se ele fica no limite."""
    verdict = ""
    for label, plan in three(name, 512, checkpointing=True, gpu=card).items():
        if not gpu(card).bf16:
            dtype = "fp32" if label == "completo" else "fp16"
            plan = plan.change(dtype=dtype, compute_dtype="fp16", autocast=True)
        verdict = gpu(card).verdict(estimate(plan).process)
        if verdict == "fits":
            return label
    return "QLoRA?" if verdict == "tight" else "nenhum"


_, axes = plt.subplots(figsize=(9, 4))
for row, name in enumerate(SIZES):
    for column, card in enumerate(CARDS):
        choice = first_that_fits(name, card)
        axes.add_patch(plt.Rectangle((column, row), 0.97, 0.95, color=CHOICES[choice]))
        axes.text(column + 0.5, row + 0.5, choice, ha="center", va="center")
axes.set(xlim=(0, len(CARDS)), ylim=(len(SIZES), 0))
axes.set_xticks(
    [n + 0.5 for n in range(len(CARDS))], [f"{card}\n{gpu(card).memory / GIB:.0f} GiB" for card in CARDS]
)
axes.set_yticks([n + 0.5 for n in range(len(SIZES))], [name.split("/")[1] for name in SIZES])
axes.spines[:].set_visible(False)
axes.tick_params(length=0)
axes.set_title("O primeiro método que cabe com certeza (com ?: só no limite)", fontsize=11)
plt.show()

# %% [markdown]
# **Leitura do resultado.** A faixa do QLoRA é estreita, e é exatamente a que interessa a quem tem uma placa de consumo: os modelos de 7 e 13 bilhões, que ali o LoRA não alcança. Abaixo dela, nenhum método ajuda; acima, o LoRA é mais rápido e mais simples. O caso famoso, 70 bilhões de parâmetros em 48 GiB, fica **no limite**: cabe ou não conforme o que mais ocupar a placa. Por isso "QLoRA sempre" é um mau conselho, e "QLoRA nunca" também.

# %% [markdown]
# ## 11. Pergunta aberta

# %% [markdown] nbgrader={"grade_id": "aberta_enunciado"}
# ### Exercício 7: por que os dois juntos?
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 3 pontos (corrigido por uma pessoa)
#
# Explique, em 10 a 15 linhas, como a **quantização** e os **adaptadores de posto baixo**, *juntos*, permitem ajustar um modelo enorme em uma única GPU de consumo. Diga o que cada um dos dois economiza e o que **não** economiza, por que nenhum bastaria sozinho (o que aconteceria com a quantização sem o LoRA? e com o LoRA sem a quantização?), e qual é o preço. Apoie-se em pelo menos três números medidos nesta aula.
#
# ### BEGIN MARK SCHEME
# 1. (1 ponto) O LoRA elimina gradientes e estados do otimizador de tudo o que está congelado, e o que sobra é a base, que a quantização encolhe para 4,127 bits nas matrizes lineares; com números da tabela de memória por parte. (palavras: gradiente, otimizador, estados; base, congelad; 4 bits, nf4)
# 2. (1 ponto) Nenhum basta sozinho: o passo do otimizador é menor que a distância entre dois códigos, logo peso em 4 bits não se treina; o LoRA sozinho ainda carrega a base em 16 bits. O gradiente atravessa o peso desquantizado, que não muda. (palavras: sozinho, sem o lora, sem a quantizacao; 16 bits, fp16, bf16; codigo, arredond, desquantiz)
# 3. (1 ponto) O preço e os limites: desquantizar a cada passagem (tokens/s medidos), ativações e logits que não mudam, o erro da quantização, o cuidado ao fundir. O otimizador paginado é seguro contra picos, não economia. (palavras: lent, velocidade, tempo, tokens/s; ativac, logits, fundir, erro)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 3}
# Espera-se: o LoRA tira gradientes e estados; a quantização tira o que sobra, a base congelada; peso em 4 bits não se treina sozinho.

# %% [markdown]
# ## O que você leva daqui
#
# - Guarda-se em 4 bits, calcula-se em 16, aprende-se em 32. Ninguém multiplica em 4 bits.
# - O gradiente atravessa o peso desquantizado como atravessa uma constante; o truque é não o guardar, e desquantizar de novo na volta.
# - QLoRA troca **velocidade por memória**. Se o LoRA cabe, use o LoRA.
# - Preparar o modelo é fazer escolhas de memória: fp32 custa, recomputar devolve. Paginar é um seguro, e só para o otimizador.
# - Depois de uma avaliação, confira se ainda há gradiente.
# - Funda numa cópia desquantizada de 16 bits.
#
# **Para ler mais:** o artigo do QLoRA ([Dettmers et al., 2023](https://arxiv.org/abs/2305.14314)); adaptadores que já nascem compensando o erro da quantização, o LoftQ ([Li et al., 2023](https://arxiv.org/abs/2310.08659)); o que se perde em 4 bits, medido em muitos modelos ([Dettmers e Zettlemoyer, 2022](https://arxiv.org/abs/2212.09720)).
