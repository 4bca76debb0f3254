# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quantização: os pesos de um modelo em 4 bits
#
# Uma loja de roupas não costura uma peça para cada cliente. Fabrica poucos tamanhos, e cada um leva o mais próximo. Se os tamanhos forem bem escolhidos, ninguém fica muito mal vestido, e o estoque é pequeno. **Quantizar** um peso é isto: trocar um número de 16 ou 32 bits pelo *código* do mais próximo entre poucos valores. Com 4 bits, há só 16 valores para escolher. Toda a arte está em **quais** são esses valores e em **que escala** eles são medidos.
#
# Nesta aula você vai:
#
# 1. quantizar com uma régua uniforme, simétrica (*absmax*) e deslocada (*ponto zero*);
# 2. ver um único número grande estragar um tensor inteiro, e a solução: quantizar **por blocos**;
# 3. derivar, dos quantis da curva normal, os 16 códigos do **NF4**, o tipo de dado do QLoRA ([Dettmers et al., 2023](https://arxiv.org/abs/2305.14314));
# 4. guardar dois códigos em cada byte e quantizar também as escalas (**quantização dupla**): de 4,5 para 4,127 bits por parâmetro;
# 5. conferir cada passo, byte por byte, com a biblioteca `bitsandbytes`;
# 6. medir o que isso custa a um modelo de verdade, e descobrir quando o NF4 quase não ajuda.
#
# **Tempo:** 75 a 90 minutos. **Antes:** PyTorch básico (tensores, `view`) e a aula 03 (LoRA) para o contexto.
# **Pontos:** 20, em oito exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import math
from statistics import NormalDist

import bitsandbytes.functional as bnb
import matplotlib.pyplot as plt
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.exercise import needs_exercise

# O dicionário de 8 bits da bitsandbytes: 256 valores em ordem crescente, mais densos perto de zero.
DYNAMIC_8BIT = bnb.create_dynamic_map()


def gaussian(*shape, std=0.02, seed=0):
    """Pesos sorteados de uma normal de média zero: o que mais se parece com uma camada treinada."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def rmse(a, b):
    """Raiz do erro quadrático médio entre dois tensores: o tamanho típico do erro num peso."""
    return float((a - b).square().mean().sqrt())


def to_4bit(layer, double_quant, storage):
    """A mesma camada linear, em NF4, como a bitsandbytes a guarda."""
    twin = Linear4bit(layer.in_features, layer.out_features, bias=False)
    twin.weight = Params4bit(
        layer.weight.data, quant_type="nf4", compress_statistics=double_quant, quant_storage=storage, module=twin
    )  # fmt: skip
    return twin.to("cpu")


def tiny_4bit_llama(seed=0, layers=2, double_quant=True, storage=torch.uint8):
    """Um Llama de brinquedo com as camadas lineares em NF4; embeddings e normas ficam em fp32."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for parent in list(model.model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, to_4bit(child, double_quant, storage))
    return model


# %% [markdown]
# ## 1. Uma régua com poucas marcas: absmax
#
# A régua mais simples tem marcas igualmente espaçadas e o zero no meio. Com $b$ bits, as marcas são os inteiros de $-(2^{b-1}-1)$ a $2^{b-1}-1$; com 4 bits, de $-7$ a $7$. A **escala** $s$ diz quanto vale um passo, e é escolhida para que o maior valor absoluto caia na última marca:
#
# $$s = \frac{\max_i |x_i|}{2^{b-1} - 1}, \qquad q_i = \operatorname{arredonda}\!\left(\frac{x_i}{s}\right), \qquad \hat{x}_i = s\, q_i.$$
#
# Guardam-se os inteiros $q$ e **um** número $s$. Voltar ($\hat{x} = s\,q$) chama-se **desquantizar**; o que se perdeu no arredondamento não volta.

# %% [markdown]
# ### Exercício 1: `absmax_quantize`
#
# ★☆☆☆☆ · ◆◆◆◆◇ · 6 minutos · 2 pontos
#
# `absmax_quantize(x, bits)` devolve o par `(q, scale)`: `q` é um tensor `torch.int8` com a forma de `x`, e `scale`, o passo da régua. Um tensor todo de zeros deve dar `q` todo zero, sem dividir por zero.


# %% nbgrader={"grade_id": "absmax", "solution": true}
def absmax_quantize(x, bits):
    """Quantização simétrica do tensor inteiro; x ≈ q * scale. Aceita bits de 2 a 8."""
    ### BEGIN SOLUTION
    top = 2 ** (bits - 1) - 1
    scale = x.abs().max() / top
    if scale == 0:
        return torch.zeros_like(x, dtype=torch.int8), scale
    return (x / scale).round().to(torch.int8), scale
    ### END SOLUTION


# %% nbgrader={"grade_id": "absmax_teste", "points": 2}
x = torch.tensor([0.0, 1.5, -2.8, 0.31])
q, scale = absmax_quantize(x, 4)
assert math.isclose(float(scale), 0.4, rel_tol=1e-5), (
    f"Com 4 bits a maior marca é 7: scale = 2.8 / 7 = 0.4; recebi {float(scale):.4f}."
)
assert q.dtype == torch.int8, f"q deve ser torch.int8; recebi {q.dtype}."
assert q.tolist() == [0, 4, -7, 1], (
    f"1.5/0.4 = 3.75 vai para 4 e 0.31/0.4 = 0.775 vai para 1; recebi {q.tolist()}. Arredonde, não corte."
)
### BEGIN HIDDEN TESTS
for bits, size, seed in ((2, (50,), 1), (3, (8, 9), 2), (5, (4, 5, 6), 3), (8, (200,), 4)):
    values = gaussian(*size, std=3.0, seed=seed)
    q, scale = absmax_quantize(values, bits)
    top = 2 ** (bits - 1) - 1
    assert tuple(q.shape) == tuple(values.shape), "q deve ter a forma de x."
    assert math.isclose(float(scale), float(values.abs().max()) / top, rel_tol=1e-5), (
        "A escala falha para outros números de bits: o maior valor absoluto deve cair na última marca."
    )
    assert int(q.abs().max()) == top, "O maior valor absoluto deve receber a última marca."
    # meio passo, mais a última casa do float32
    assert float((q.float() * scale - values).abs().max()) <= float(scale) * 0.5001, (
        "Nenhum valor pode errar mais que meio passo: falta arredondar para a marca mais próxima."
    )
q, scale = absmax_quantize(torch.zeros(3, 2), 4)
assert torch.equal(q, torch.zeros(3, 2, dtype=torch.int8)) and math.isfinite(float(scale)), (
    "Um tensor de zeros deve dar q todo zero e uma escala finita."
)
### END HIDDEN TESTS

# %%
w = gaussian(1024, 1024)
with needs_exercise(1):
    print(f"{'bits':>4} {'marcas':>7} {'passo':>9} {'erro (RMSE)':>12} {'passo/√12':>10}")
    for bits in (8, 7, 6, 5, 4, 3, 2):
        q, scale = absmax_quantize(w, bits)
        error = rmse(q * scale, w)
        print(f"{bits:4d} {2**bits - 1:7d} {float(scale):9.5f} {error:12.6f} {float(scale) / 12**0.5:10.6f}")

# %% [markdown]
# **Leitura do resultado.** Cada bit a menos dobra o passo e, com ele, o erro. Enquanto o passo é bem menor que os próprios pesos (desvio 0,02), o erro segue a última coluna, $s/\sqrt{12}$: é o desvio de um número sorteado por igual dentro de um passo. Com 2 bits a regra deixa de valer: o passo já é maior que quase todos os pesos, e quase tudo vira zero. Se o seu erro fica perto do dobro da última coluna em 8 bits, você está cortando as casas decimais em vez de arredondar.

# %% [markdown]
# ## 2. Quando os dados não têm o zero no meio: ponto zero
#
# A saída de uma SiLU quase não tem negativos. Uma régua simétrica gastaria metade das marcas com valores que não existem. A quantização com **ponto zero** estica a régua do menor ao maior valor e guarda também qual marca vale zero:
#
# $$s = \frac{x_{\max} - x_{\min}}{2^b - 1}, \qquad z = \operatorname{arredonda}\!\left(\frac{-x_{\min}}{s}\right), \qquad q = \operatorname{arredonda}\!\left(\frac{x}{s}\right) + z, \qquad \hat{x} = s\,(q - z).$$
#
# Os códigos vão de 0 a $2^b - 1$. Para que o zero seja representado **exatamente** (zeros são comuns, e um erro neles se repete milhares de vezes), o intervalo sempre inclui o zero: $x_{\min} \le 0 \le x_{\max}$.

# %% [markdown]
# ### Exercício 2: `zero_point_quantize`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 8 minutos · 2 pontos
#
# `zero_point_quantize(x, bits)` devolve `(q, scale, zero)`: `q` é `torch.uint8`, com códigos de 0 a $2^b - 1$, e `zero` é inteiro. Estenda o intervalo até o zero se ele não estiver lá, e depois de somar $z$ limite `q` à faixa permitida. Um tensor todo de zeros deve voltar todo zero.


# %% nbgrader={"grade_id": "ponto_zero", "solution": true}
def zero_point_quantize(x, bits):
    """Quantização assimétrica do tensor inteiro; x ≈ (q - zero) * scale. Aceita bits de 2 a 8."""
    ### BEGIN SOLUTION
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / scale)
    q = ((x / scale).round() + zero).clamp(0, 2**bits - 1)
    return q.to(torch.uint8), scale, zero
    ### END SOLUTION


# %% nbgrader={"grade_id": "ponto_zero_teste", "points": 2}
x = torch.tensor([-0.6, 0.0, 1.0, 2.4])
q, scale, zero = zero_point_quantize(x, 4)
assert math.isclose(float(scale), 0.2, rel_tol=1e-5), (
    f"De -0.6 a 2.4 são 3.0, em 15 passos: scale = 0.2; recebi {float(scale):.4f}."
)
assert int(zero) == 3, f"A marca do zero é arredonda(0.6 / 0.2) = 3; recebi {zero}."
assert q.dtype == torch.uint8, f"q deve ser torch.uint8; recebi {q.dtype}."
assert q.tolist() == [0, 3, 8, 15], f"Some zero depois de arredondar x / scale; recebi {q.tolist()}."
### BEGIN HIDDEN TESTS
for bits, shift, seed in ((3, 4.0, 1), (4, -5.0, 2), (8, 0.7, 3), (6, 0.0, 4)):
    values = gaussian(30, 4, std=1.0, seed=seed) + shift
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    q, scale, zero = zero_point_quantize(values, bits)
    assert tuple(q.shape) == (30, 4) and q.dtype == torch.uint8, "q deve ser uint8, com a forma de x."
    assert math.isclose(float(scale), (high - low) / (2**bits - 1), rel_tol=1e-4), (
        "O intervalo vai do menor ao maior valor, estendido até o zero, em 2**bits - 1 passos."
    )
    assert int(q.max()) <= 2**bits - 1, "Os códigos devem caber em `bits` bits: limite-os à faixa."
    assert float(zero) in range(2**bits), "A marca do zero é um inteiro, e também um código de `bits` bits."
    # meio passo do arredondamento de x e, nas pontas, outro meio do arredondamento do ponto zero
    assert float(((q.float() - zero) * scale - values).abs().max()) <= 1.001 * float(scale), (
        "Há valores que voltam com mais de um passo de erro."
    )
    inside = (values > low + float(scale)) & (values < high - float(scale))
    gap = ((q.float() - zero) * scale - values)[inside].abs().max()
    assert float(gap) <= 0.501 * float(scale), "Longe das pontas, o erro não passa de meio passo."
q, scale, zero = zero_point_quantize(torch.tensor([0.0, 3.3, -7.1, 0.0]), 5)
assert ((q.float() - zero) * scale).tolist()[::3] == [0.0, 0.0], "O zero deve voltar exato."
q, scale, zero = zero_point_quantize(torch.tensor([-0.875, 2.875]), 4)  # as duas pontas caem em meio passo
assert q.tolist()[1] == 15, "Somado o zero, um código pode passar da última marca: limite-o à faixa."
q, scale, zero = zero_point_quantize(torch.zeros(5), 4)
assert torch.equal((q.float() - zero) * scale, torch.zeros(5)), "Um tensor de zeros deve voltar todo zero."
### END HIDDEN TESTS

# %%
samples = {
    "pesos (normal)": gaussian(100_000),
    "depois da SiLU": nn.functional.silu(gaussian(100_000, std=2.0)),
    "depois da ReLU": gaussian(100_000, std=2.0).relu(),
}
with needs_exercise(1, 2):
    print(f"{'4 bits':<16} {'absmax':>9} {'ponto zero':>11} {'razão':>6}")
    for label, values in samples.items():
        q, scale = absmax_quantize(values, 4)
        symmetric = rmse(q * scale, values)
        q, scale, zero = zero_point_quantize(values, 4)
        shifted = rmse((q.float() - zero) * scale, values)
        print(f"{label:<16} {symmetric:9.5f} {shifted:11.5f} {symmetric / shifted:6.2f}")

# %% [markdown]
# **Leitura do resultado.** Nos pesos, que são simétricos, o ponto zero quase não muda nada (ganha 16 marcas em vez de 15). Depois da SiLU e da ReLU, a razão passa de 1,5 e de 2: com quase nenhum negativo, todas as marcas trabalham. Como o QLoRA quantiza **pesos**, a régua simétrica basta, e economiza guardar $z$. Se a razão da ReLU fica em 1, o seu intervalo não está usando o mínimo.

# %% [markdown]
# ## 3. Um número grande estraga a régua: blocos
#
# A escala é decidida pelo **maior** valor. Basta um peso muito grande para que o passo cresça e todos os outros virem zero. E modelos treinados têm pesos assim. A saída é não usar uma régua só: cortar o tensor em **blocos** (o QLoRA usa 64 pesos) e dar a cada um a sua escala, o seu `absmax`. Um valor extremo passa a estragar só os 63 vizinhos.
#
# Aproveitemos para separar duas coisas que andavam juntas:
#
# - a **escala** do bloco, $a = \max |x_i|$, que leva os pesos ao intervalo $[-1, 1]$;
# - o **dicionário de códigos** (*codebook*), a lista dos valores permitidos entre $-1$ e $1$. O índice do valor mais próximo é o código.
#
# A régua de 4 bits da seção 1 é o dicionário $\{-\frac77, -\frac67, \dots, \frac77\}$. Trocar o dicionário é trocar de tipo de dado, sem mexer no resto.

# %% [markdown]
# ### Exercício 3: `quantize` e `dequantize`
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos (2 por ida, 2 por volta)
#
# - `quantize(w, code, block)` percorre `w` na ordem de `w.flatten()`, em blocos de `block` números (o último pode ser menor), e devolve `(indices, absmax)`: `indices` é `torch.uint8`, de uma dimensão, com a posição em `code` do valor mais próximo de $w_i / a$; `absmax` tem um número por bloco. `code` está em ordem crescente.
# - `dequantize(indices, absmax, code, block, shape)` desfaz: $\hat{w}_i = a \cdot \text{code}[\text{índice}_i]$, na forma `shape`.
#
# Um bloco só de zeros deve voltar só de zeros. *Dicas:* `nn.functional.pad` completa o último bloco; se `code` está em ordem, o mais próximo se acha com `torch.bucketize` e os **pontos médios** entre valores vizinhos, sem montar uma tabela de todas as distâncias.


# %% nbgrader={"grade_id": "blocos", "solution": true}
def quantize(w, code, block=64):
    """Códigos e escalas de `w` por blocos. code: (n,) crescente, em [-1, 1]; n até 256."""
    ### BEGIN SOLUTION
    flat = w.flatten()
    blocks = nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks / absmax.clamp(min=1e-30)[:, None]
    indices = torch.bucketize(scaled, (code[1:] + code[:-1]) / 2)
    return indices.flatten()[: flat.numel()].to(torch.uint8), absmax
    ### END SOLUTION


def dequantize(indices, absmax, code, block, shape):
    """O tensor de forma `shape` que os códigos e as escalas descrevem."""
    ### BEGIN SOLUTION
    scales = absmax.repeat_interleave(block)[: indices.numel()]
    return (code[indices.long()] * scales).view(shape)
    ### END SOLUTION


# %% nbgrader={"grade_id": "blocos_ida_teste", "points": 2}
code = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
w = torch.tensor([[1.2, -4.0, 2.2], [0.0, 0.1, -0.2]])
indices, absmax = quantize(w, code, block=3)
assert torch.allclose(absmax, torch.tensor([4.0, 0.2])), (
    f"Um absmax por bloco: aqui o maior valor absoluto de cada linha, [4.0, 0.2]; recebi {absmax.tolist()}."
)
assert indices.dtype == torch.uint8 and tuple(indices.shape) == (6,), "indices: torch.uint8, uma dimensão."
assert indices.tolist() == [3, 0, 3, 2, 3, 0], (
    f"-4/4 = -1 é o código 0 e 2.2/4 = 0.55 é o código 3 (0.5); recebi {indices.tolist()}."
)
assert quantize(torch.ones(10), code, block=4)[1].numel() == 3, "Dez números em blocos de 4 são três blocos."
### BEGIN HIDDEN TESTS
for size, block, codes, seed in (
    ((40, 33), 64, 16, 1),
    ((7, 5), 8, 7, 2),
    ((300,), 50, 3, 3),
    ((4, 600), 100, 256, 4),
):
    values = gaussian(*size, std=0.5, seed=seed)
    code = gaussian(codes, std=1.0, seed=seed).clamp(-1, 1).sort().values
    indices, absmax = quantize(values, code, block)
    pieces = values.flatten().split(block)
    assert torch.allclose(absmax, torch.stack([piece.abs().max() for piece in pieces])), (
        "absmax falha para outros tamanhos de bloco, ou quando o último bloco é menor."
    )
    assert indices.numel() == values.numel(), "Um código por peso, sem os que completam o último bloco."
    for number, piece in enumerate(pieces):
        mine = code[indices[number * block :][: len(piece)].long()]
        best = (piece[:, None] / absmax[number] - code).abs().min(dim=1).values
        # num empate entre dois códigos, a última casa do float32 decide
        assert torch.allclose((piece / absmax[number] - mine).abs(), best, atol=1e-5), (
            "Cada peso deve receber o código mais próximo, também num dicionário irregular."
        )
indices, absmax = quantize(torch.zeros(2, 8), torch.tensor([-1.0, -0.4, 0.0, 0.3, 1.0]), 8)
assert indices.tolist() == [2] * 16 and absmax.tolist() == [0.0, 0.0], (
    "Um bloco só de zeros recebe o código do zero, sem NaN."
)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "blocos_volta_teste", "points": 2}
code = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
indices = torch.tensor([0, 3, 2, 3, 0, 4], dtype=torch.uint8)
restored = dequantize(indices, torch.tensor([4.0, 0.2]), code, 3, (2, 3))
assert tuple(restored.shape) == (2, 3), (
    f"O resultado deve ter a forma pedida; recebi {tuple(restored.shape)}."
)
assert torch.allclose(restored, torch.tensor([[-4.0, 2.0, 0.0], [0.1, -0.2, 0.2]])), (
    f"Multiplique o valor de cada código pela escala do seu bloco; recebi {restored.tolist()}."
)
### BEGIN HIDDEN TESTS
for size, block, codes, seed in (((6, 7), 4, 16, 11), ((128,), 32, 5, 12), ((3, 5, 9), 64, 255, 13)):
    total = math.prod(size)
    generator = torch.Generator().manual_seed(seed)
    code = torch.rand(codes, generator=generator).sort().values
    indices = torch.randint(0, codes, (total,), generator=generator).to(torch.uint8)
    absmax = torch.rand(math.ceil(total / block), generator=generator)
    expected = [float(code[i]) * float(absmax[n // block]) for n, i in enumerate(indices.tolist())]
    restored = dequantize(indices, absmax, code, block, size)
    assert tuple(restored.shape) == size, "O resultado deve ter a forma pedida, de qualquer dimensão."
    assert torch.allclose(restored.flatten(), torch.tensor(expected)), (
        "A volta falha para outros blocos e dicionários, ou quando o último bloco é menor."
    )
### END HIDDEN TESTS

# %% [markdown]
# Agora a prova do bloco: a mesma matriz, sem e com um único peso extremo.

# %%
int4 = torch.linspace(-1, 1, 15)  # a régua da seção 1: -7/7, -6/7, ..., 7/7


def restored(w, code, block):
    """`w` depois de quantizado e desquantizado."""
    indices, absmax = quantize(w, code, block)
    return dequantize(indices, absmax, code, block, w.shape)


with needs_exercise(3):
    clean = gaussian(1024, 1024)
    spoiled = clean.clone()
    spoiled[0, 0] = 1.0  # cinquenta desvios-padrão: um peso em um milhão
    print(f"{'escala':<24} {'bits/peso':>9} {'erro sem extremo':>17} {'com extremo':>12}")
    for label, block in (
        ("uma para o tensor", clean.numel()),
        ("blocos de 1024", 1024),
        ("blocos de 64", 64),
    ):
        errors = [rmse(restored(m, int4, block).flatten()[1:], m.flatten()[1:]) for m in (clean, spoiled)]
        print(f"{label:<24} {4 + 32 / block:9.3f} {errors[0]:17.6f} {errors[1]:12.6f}")

# %% [markdown]
# **Leitura do resultado.** O erro é medido em todos os pesos menos o extremo. Com uma escala só, um peso em um milhão leva o erro a 0,02, o próprio desvio dos pesos: **todos** viraram zero, e a camada se perdeu. Com blocos, a coluna da direita quase não se move: o estrago ficou no bloco dele, e quanto menor o bloco, menos vizinhos ele leva. O preço são os 32 bits de cada escala, repartidos entre os pesos do bloco. Se as suas duas colunas diferem mais de 1 % nos blocos de 64, o seu `absmax` não é por bloco.

# %%
with needs_exercise(3):
    blocks = [16, 32, 64, 128, 256, 512, 1024, 4096]
    costs = [4 + 32 / block for block in blocks]
    errors = [rmse(restored(clean, int4, block), clean) for block in blocks]
    _, axes = plt.subplots(figsize=(8, 3.6))
    axes.plot(costs, errors, "o-", color="#f4a259")
    for block, cost, error in zip(blocks, costs, errors, strict=True):
        if block <= 256:
            axes.annotate(f" bloco {block}", (cost, error), va="bottom")
    axes.set(xlabel="bits por peso, com a escala", ylabel="erro (RMSE)", xlim=(3.9, 6.4))
    axes.set_title("Blocos menores erram menos e ocupam mais")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** É uma troca: quem desce paga indo para a direita. Da esquerda até 64 o erro cai depressa; de 64 para 16 custa um bit e meio a mais. O QLoRA parou em 64 (4,5 bits) e foi procurar o resto em dois lugares: um dicionário melhor e escalas mais baratas. São as próximas seções. A curva deve descer sempre; se sobe em algum ponto, reveja a escolha do mais próximo.

# %% [markdown]
# ## 4. Um dicionário sob medida: NF4
#
# Volte à loja de roupas: fabricar um tamanho a cada dez centímetros, de 1,20 m a 2,20 m, deixaria as prateleiras das pontas cheias de peças que ninguém leva. Melhor é pôr mais tamanhos onde há mais gente. Pesos treinados seguem quase uma curva normal; a régua uniforme, que os ignora, gasta códigos nas pontas.
#
# O **NF4** (*4-bit NormalFloat*) põe os valores nos **quantis** da normal: entre dois vizinhos cai mais ou menos a mesma fração dos pesos. O quantil $Q(p)$ é o número que deixa uma fração $p$ da curva à sua esquerda; em Python, `NormalDist().inv_cdf(p)`. A receita, para $b$ bits:
#
# 1. **lado positivo:** $2^{b-1} + 1$ probabilidades igualmente espaçadas, de $p_\text{max}$ até $0{,}5$; joga-se fora a última, porque $Q(0{,}5) = 0$. Ficam $2^{b-1}$ valores $Q(p)$;
# 2. **lado negativo:** o mesmo com $2^{b-1}$ probabilidades, e o sinal trocado. Ficam $2^{b-1} - 1$ valores $-Q(p)$;
# 3. junta-se o **zero exato**: ao todo, $2^b$ valores;
# 4. ordena-se e divide-se pelo maior, para chegar a $[-1, 1]$.
#
# Por que $p_\text{max}$ e não 1? Porque $Q(1) = \infty$. Os autores pararam na média entre $1 - \frac{1}{32}$ e $1 - \frac{1}{30}$, meio intervalo antes do fim para 16 e para 15 valores: 0,9677083.

# %% [markdown]
# ### Exercício 4: `normal_codes`
#
# ★★★☆☆ · ◆◆◆◆◆ · 10 minutos · 3 pontos
#
# `normal_codes(bits, p_max)` devolve o dicionário como tensor `float32` de $2^b$ números em ordem crescente. *Dica:* `torch.linspace(p_max, 0.5, n)` dá as probabilidades.


# %% nbgrader={"grade_id": "nf4", "solution": true}
def normal_codes(bits=4, p_max=(1 - 1 / 32 + 1 - 1 / 30) / 2):
    """O dicionário NormalFloat de `bits` bits: (2**bits,), crescente, de -1 a 1, com o zero."""
    ### BEGIN SOLUTION
    quantile, half = NormalDist().inv_cdf, 2 ** (bits - 1)
    positive = [quantile(p) for p in torch.linspace(p_max, 0.5, half + 1).tolist()[:-1]]
    negative = [-quantile(p) for p in torch.linspace(p_max, 0.5, half).tolist()[:-1]]
    codes = torch.tensor([*negative, 0.0, *positive]).sort().values
    return codes / codes.max()
    ### END SOLUTION


# %% nbgrader={"grade_id": "nf4_teste", "points": 3}
nf4 = normal_codes()
assert tuple(nf4.shape) == (16,), f"4 bits são 16 códigos; recebi {tuple(nf4.shape)}."
assert bool((nf4[1:] > nf4[:-1]).all()), "Os códigos devem estar em ordem crescente, sem repetição."
assert float(nf4[0]) == -1 and float(nf4[-1]) == 1, "Divida pelo maior: as pontas são -1 e 1."
assert int((nf4 == 0).sum()) == 1, "O zero deve estar no dicionário, exato, uma vez."
assert int((nf4 > 0).sum()) == 8, "São 8 positivos e 7 negativos: o zero ocupa o lugar de um negativo."
difference = float((nf4 - bnb.get_4bit_type("nf4", device="cpu")).abs().max())
# a tabela da biblioteca foi escrita em decimal: sobram as últimas casas do float32
assert difference < 1e-6, f"Os códigos diferem dos da bitsandbytes em até {difference:.1e}."
print("Os seus códigos:", [round(float(c), 4) for c in nf4])
print(f"Maior diferença para a tabela da bitsandbytes: {difference:.1e}")


### BEGIN HIDDEN TESTS
def reference_codes(bits, p_max):
    """A mesma receita por outro caminho: o inverso da função de erro, em float64."""
    half = 2 ** (bits - 1)
    ends = [torch.linspace(p_max, 0.5, n, dtype=torch.float64)[:-1] for n in (half + 1, half)]
    right, left = (torch.erfinv(2 * p - 1) for p in ends)
    codes = torch.cat([-left, torch.zeros(1, dtype=torch.float64), right]).sort().values
    return (codes / codes.max()).float()


for bits, p_max in ((2, 0.9), (3, 0.95), (5, 0.99), (4, 0.93), (8, 0.998)):
    codes = normal_codes(bits, p_max)
    assert tuple(codes.shape) == (2**bits,), "O número de códigos é 2**bits, para qualquer número de bits."
    assert torch.allclose(codes, reference_codes(bits, p_max), atol=1e-5), (
        "Os códigos falham para outros bits ou outro p_max."
    )
### END HIDDEN TESTS

# %% [markdown]
# **Leitura do resultado.** Espere uma diferença abaixo de 1e-6, as últimas casas do float32. A biblioteca traz essa tabela escrita à mão; você acaba de derivá-la. Repare na assimetria: o passo logo à direita do zero é menor que à esquerda, porque ali há um código a mais.

# %% cellView="form"
# @title Desenho: três dicionários sobre a curva dos pesos
fp4 = bnb.get_4bit_type("fp4", device="cpu").unique()


def draw_codebooks(books, block=64):
    """Cada dicionário sobre a densidade dos pesos já divididos pelo absmax, e o uso de cada código."""
    weights = gaussian(4096, block, std=1.0)
    scaled = (weights / weights.abs().amax(dim=1, keepdim=True)).flatten()
    figure, panels = plt.subplots(len(books), 1, figsize=(9, 6.6), sharex=True)
    for axes, (label, code) in zip(panels, books.items(), strict=True):
        indices, _ = quantize(weights, code, block)
        share = torch.bincount(indices.int(), minlength=len(code)) / indices.numel()
        entropy = -(share[share > 0] * share[share > 0].log2()).sum()
        density, edges = torch.histogram(scaled, bins=81, range=(-1, 1), density=True)
        axes.fill_between((edges[1:] + edges[:-1]) / 2, density / density.max() * 0.2, color="#d9dde3")
        axes.vlines(code, 0, share, color="#f4a259", linewidth=4)
        axes.plot(code, [-0.012] * len(code), "|", color="#444", markersize=8)
        axes.set(ylabel="uso do código", ylim=(-0.025, 0.21))
        axes.set_title(f"{label}: {float(entropy):.2f} dos 4 bits trabalham", loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("peso dividido pelo maior do bloco (cinza: onde os pesos estão)")
    figure.tight_layout()
    plt.show()


with needs_exercise(3, 4):
    draw_codebooks({"int4 (uniforme)": int4, "FP4 (ponto flutuante)": fp4, "NF4 (quantis)": normal_codes()})

# %% [markdown]
# **Leitura do resultado.** O cinza é onde os pesos estão, já divididos pelo maior do bloco; cada barra laranja é um código, com a altura da fração de pesos que o usam. (As pontas do cinza são os campeões dos blocos: divididos por si mesmos, dão sempre 1 ou $-1$.) No int4, os códigos das pontas quase não são usados. No FP4, um código junto do zero é desperdiçado, porque os vizinhos estão perto demais. No NF4 as barras são as mais parelhas, e a entropia (quantos bits de informação os códigos carregam) é a maior. Não chega a 4: os pesos divididos pelo maior de 64 não são exatamente a normal da receita, como [Yoshida (2023)](https://arxiv.org/abs/2306.06965) mostrou. Bits bem usados costumam dar erro menor, mas quem decide é a medida; ela vem logo depois da quantização dupla.

# %% [markdown]
# ## 5. Dois códigos em cada byte
#
# Não existe tensor de 4 bits: o menor tipo do PyTorch tem 8. Guardar um código por byte jogaria fora metade do ganho. **Empacotar** é pôr dois códigos em cada byte: o primeiro nos 4 bits altos e o segundo nos 4 baixos, a ordem da `bitsandbytes`.
#
# $$\text{byte} = 16 \cdot \text{primeiro} + \text{segundo} \qquad\text{por exemplo}\qquad (13, 6) \to 1101\,0110_2 = 214$$

# %% [markdown]
# ### Exercício 5: `pack` e `unpack`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 7 minutos · 2 pontos
#
# - `pack(indices)` recebe códigos de 0 a 15 (`torch.uint8`, uma dimensão) e devolve os bytes (`torch.uint8`). Se forem ímpares, complete com um zero.
# - `unpack(packed, count)` devolve os `count` primeiros códigos.


# %% nbgrader={"grade_id": "empacotar", "solution": true}
def pack(indices):
    """Dois códigos de 4 bits por byte, o primeiro nos bits altos: (n,) -> ((n + 1) // 2,)."""
    ### BEGIN SOLUTION
    pairs = nn.functional.pad(indices, (0, indices.numel() % 2)).view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]
    ### END SOLUTION


def unpack(packed, count):
    """Desfaz pack: os `count` primeiros códigos, em uint8."""
    ### BEGIN SOLUTION
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()[:count]
    ### END SOLUTION


# %% nbgrader={"grade_id": "empacotar_teste", "points": 2}
packed = pack(torch.tensor([13, 6, 0, 15], dtype=torch.uint8))
assert packed.dtype == torch.uint8 and packed.numel() == 2, (
    "Quatro códigos cabem em dois bytes (torch.uint8)."
)
assert packed.tolist() == [214, 15], (
    f"(13, 6) é 16·13 + 6 = 214 e (0, 15) é 15; recebi {packed.tolist()}. O primeiro vai nos bits altos."
)
assert unpack(packed, 4).tolist() == [13, 6, 0, 15], (
    f"unpack deve desfazer; recebi {unpack(packed, 4).tolist()}."
)
### BEGIN HIDDEN TESTS
for count, seed in ((1, 1), (2, 2), (255, 3), (1000, 4)):
    indices = torch.randint(0, 16, (count,), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    packed, numbers = pack(indices), [*indices.tolist(), 0]
    expected = [16 * numbers[2 * n] + numbers[2 * n + 1] for n in range((count + 1) // 2)]
    assert packed.dtype == torch.uint8 and packed.tolist() == expected, (
        "pack falha para outros códigos, ou quando são ímpares."
    )
    codes = unpack(torch.tensor(expected, dtype=torch.uint8), count)
    assert codes.tolist() == numbers[:count], "unpack deve devolver exatamente `count` códigos, na ordem."
weights = gaussian(64, 64, seed=5)
theirs, state = bnb.quantize_4bit(weights, quant_type="nf4", blocksize=64)
codes = unpack(theirs.flatten(), weights.numel())
scales = state.absmax.repeat_interleave(64)
back = (state.code[codes.long()] * scales).view(64, 64)
assert torch.allclose(back, bnb.dequantize_4bit(theirs, state), atol=1e-6), (
    "Os bytes da bitsandbytes, desempacotados, devem dar os mesmos pesos."
)
### END HIDDEN TESTS

# %%
w = gaussian(1024, 1024)
theirs, state = bnb.quantize_4bit(w, quant_type="nf4", blocksize=64)
with needs_exercise(3, 4, 5):
    indices, absmax = quantize(w, normal_codes(), 64)
    mine = pack(indices)
    print(f"bytes: {mine.numel():,d} seus, {theirs.numel():,d} da bitsandbytes")
    print(f"bytes diferentes: {int((mine != theirs.flatten()).sum())}")
    print(f"maior diferença entre as escalas: {float((absmax - state.absmax).abs().max()):.1e}")
    back = dequantize(unpack(mine, w.numel()), absmax, normal_codes(), 64, w.shape)
    print(
        f"maior diferença entre os pesos: {float((back - bnb.dequantize_4bit(theirs, state)).abs().max()):.1e}"
    )

# %% [markdown]
# **Leitura do resultado.** Meio milhão de bytes, e nenhum diferente (um ou outro pode mudar se um peso cair a um dígito de distância da fronteira entre dois códigos). Com isso o seu código lê e escreve o formato da biblioteca. Se metade dos bytes difere, a ordem dentro do byte está trocada; se quase todos, o dicionário ou o bloco é outro.

# %% [markdown]
# ## 6. Quantização dupla: as escalas também
#
# Cada bloco de 64 pesos guarda um `absmax` de 32 bits: meio bit por peso. Parece pouco, mas num modelo de 70 bilhões de parâmetros são 70 bilhões ÷ 64 × 4 bytes ≈ 4,1 GiB só de escalas. A **quantização dupla** quantiza as próprias escalas, em 8 bits, com blocos de 256 escalas:
#
# 1. as escalas são todas positivas e parecidas: subtrai-se a **média** $\mu$, para centrar em zero;
# 2. o que sobra é quantizado por blocos de 256, com um dicionário de 256 valores, o `DYNAMIC_8BIT`;
# 3. na volta, soma-se $\mu$.
#
# É o seu `quantize` outra vez, com outros dados, outro dicionário e outro bloco.

# %% [markdown]
# ### Exercício 6: `double_quantize` e `restore_absmax`
#
# ★★★☆☆ · ◆◆◆◆◇ · 10 minutos · 3 pontos
#
# - `double_quantize(absmax, code, block)` devolve `(indices, absmax2, mean)`: os códigos de 8 bits das escalas centradas, a escala de cada bloco de escalas e a média subtraída.
# - `restore_absmax(indices, absmax2, mean, code, block)` devolve as escalas aproximadas.


# %% nbgrader={"grade_id": "dupla", "solution": true}
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    """Quantiza as escalas (n,): códigos uint8 (n,), escalas dos blocos (ceil(n / block),) e a média."""
    ### BEGIN SOLUTION
    mean = absmax.mean()
    indices, absmax2 = quantize(absmax - mean, code, block)
    return indices, absmax2, mean
    ### END SOLUTION


def restore_absmax(indices, absmax2, mean, code=DYNAMIC_8BIT, block=256):
    """Desfaz double_quantize, a menos do erro: (n,)."""
    ### BEGIN SOLUTION
    return dequantize(indices, absmax2, code, block, indices.shape) + mean
    ### END SOLUTION


# %% nbgrader={"grade_id": "dupla_teste", "points": 3}
scales = torch.tensor([1.0, 3.0, 2.0, 2.0])
code = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
indices, absmax2, mean = double_quantize(scales, code, block=256)
assert math.isclose(float(mean), 2.0), f"A média das escalas é 2.0; recebi {float(mean)}."
assert torch.allclose(absmax2, torch.tensor([1.0])), (
    f"Depois de subtrair a média sobram -1, 1, 0, 0: absmax2 = [1.0]; recebi {absmax2.tolist()}."
)
assert indices.tolist() == [0, 4, 2, 2], f"São os códigos de -1, 1, 0 e 0; recebi {indices.tolist()}."
assert torch.allclose(restore_absmax(indices, absmax2, mean, code, block=256), scales), (
    "Na volta, some a média."
)
### BEGIN HIDDEN TESTS
for blocks, std, seed in ((4096, 0.02, 1), (700, 1.5, 2), (256, 0.3, 3)):
    scales = gaussian(blocks, 64, std=std, seed=seed).abs().amax(dim=1)
    indices, absmax2, mean = double_quantize(scales)
    assert indices.dtype == torch.uint8 and indices.numel() == blocks, "Um código de 8 bits por escala."
    assert absmax2.numel() == math.ceil(blocks / 256), "Uma escala por bloco de 256 escalas."
    assert math.isclose(float(mean), float(scales.mean()), rel_tol=1e-4), (
        "mean é a média de todas as escalas."
    )
    theirs, state = bnb.quantize_blockwise(scales - scales.mean(), blocksize=256)
    reference = bnb.dequantize_blockwise(theirs, state) + scales.mean()
    back = restore_absmax(indices, absmax2, mean)
    # a biblioteca desempata do seu jeito, entre vizinhos do dicionário: o erro é quase o mesmo
    assert rmse(back, scales) <= 1.02 * rmse(reference, scales), (
        "As escalas voltam com mais erro que as da bitsandbytes."
    )
    assert float((back - reference).abs().max()) <= 0.05 * float(absmax2.max()), (
        "Alguma escala volta longe da que a bitsandbytes devolve."
    )
scales = gaussian(90, 8, seed=4).abs().amax(dim=1)
coarse = torch.linspace(-1, 1, 9)
indices, absmax2, mean = double_quantize(scales, coarse, block=30)
centred = scales - scales.mean()
assert torch.allclose(absmax2, centred.view(3, 30).abs().amax(dim=1), atol=1e-7), (
    "Outro dicionário e outro bloco devem funcionar também."
)
gap = (restore_absmax(indices, absmax2, mean, coarse, block=30) - scales).view(3, 30).abs().amax(dim=1)
assert bool((gap <= absmax2 / 8 * 1.001 + 1e-7).all()), "A volta falha com outro dicionário e outro bloco."
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 7: quantos bits por parâmetro?
#
# ★☆☆☆☆ · ◆◆◆◆◇ · 4 minutos · 1 ponto
#
# `bits_per_parameter(block, double_quant, block2)`: os 4 bits do código, mais a parte de cada peso na escala do bloco (32 bits) ou, com quantização dupla, na escala de 8 bits e na escala de 32 bits de cada `block2` escalas. A média e os dicionários são um por tensor: não entram na conta.


# %% nbgrader={"grade_id": "bits", "solution": true}
def bits_per_parameter(block=64, double_quant=False, block2=256):
    """Bits guardados por parâmetro quantizado em 4 bits, com as escalas."""
    ### BEGIN SOLUTION
    scale = 8 + 32 / block2 if double_quant else 32
    return 4 + scale / block
    ### END SOLUTION


# %% nbgrader={"grade_id": "bits_teste", "points": 1}
counted = bits_per_parameter(64, double_quant=False)
assert math.isclose(counted, 4.5), (
    f"4 bits do código e 32 bits de escala para 64 pesos: 4.5; recebi {counted}."
)
counted = bits_per_parameter(64, double_quant=True)
assert math.isclose(counted, 4.126953125), (
    f"Com quantização dupla, 4 + 8/64 + 32/(64·256) = 4.127; recebi {counted}."
)
### BEGIN HIDDEN TESTS
for block, block2 in ((32, 128), (128, 256), (256, 1024)):
    weights = 32 * block * block2
    plain = 4 * weights + 32 * (weights // block)
    double = 4 * weights + 8 * (weights // block) + 32 * (weights // block // block2)
    assert math.isclose(bits_per_parameter(block), plain / weights), "A conta falha para outros blocos."
    assert math.isclose(bits_per_parameter(block, True, block2), double / weights), (
        "A conta da quantização dupla falha para outros blocos."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 7. O placar
#
# Todos os métodos sobre a mesma matriz de pesos normais, os seus e os da `bitsandbytes`.


# %%
def double_restored(w):
    """`w` depois de ida e volta em NF4 com quantização dupla."""
    indices, absmax = quantize(w, normal_codes(), 64)
    return dequantize(indices, restore_absmax(*double_quantize(absmax)), normal_codes(), 64, w.shape)


METHODS = {
    "int4, uma escala": (lambda w: restored(w, int4, w.numel()), None, 4.0),
    "FP4, blocos de 64": (lambda w: restored(w, fp4, 64), {"quant_type": "fp4"}, 4.5),
    "int4, blocos de 64": (lambda w: restored(w, int4, 64), None, 4.5),
    "NF4, blocos de 64": (lambda w: restored(w, normal_codes(), 64), {"quant_type": "nf4"}, 4.5),
    "NF4 + quantização dupla": (double_restored, {"quant_type": "nf4", "compress_statistics": True}, 4.127),
}


def library(w, options):
    """A ida e volta da bitsandbytes, onde ela tem o método; nan onde não tem."""
    if options is None:
        return float("nan")
    return rmse(bnb.dequantize_4bit(*bnb.quantize_4bit(w, blocksize=64, **options)), w)


w = gaussian(1024, 1024)
scores = {}
with needs_exercise(3, 4, 6):
    print(f"{'método':<24} {'bits/peso':>9} {'erro (seu)':>11} {'bitsandbytes':>13}")
    for label, (method, options, bits) in METHODS.items():
        scores[label] = rmse(method(w), w)
        print(f"{label:<24} {bits:9.3f} {scores[label]:11.6f} {library(w, options):13.6f}")

# %% [markdown]
# **Leitura do resultado.** Onde há as duas colunas, elas devem ser iguais até a sexta casa. Entre os que usam 4,5 bits, o NF4 erra menos que o int4, e o int4 menos que o FP4, que ainda assim é o padrão do `BitsAndBytesConfig`: peça `nf4` por escrito. A quantização dupla devolve 0,37 bit por peso e aumenta o erro em menos de 0,1 %. "nan" quer dizer que a biblioteca não oferece aquele método. Se o seu NF4 fica acima do int4, confira se o dicionário está em ordem.

# %% [markdown]
# ## 8. Uma camada de verdade
#
# Pesos sorteados são um laboratório. O que acontece com uma camada treinada? Carregamos o modelo base e olhamos uma projeção da atenção, no meio da rede. Erro no peso é só meio caminho: o que importa é a **saída** da camada, com entradas de verdade. Então guardamos o que entra nela quando o modelo lê cláusulas de contrato.

# %%
import os

from toolkit import base_model, read_examples

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e pouco texto
base = base_model("tiny" if reduced else "")
model = base.load()
print(f"{base.name}: {base.reason}")

clauses = read_examples(DADOS / "clausulas" / "test.jsonl", "texto", "tipo")[: 3 if reduced else 16]
texts = [base.tokenizer(clause.prompt, return_tensors="pt").input_ids.to(model.device) for clause in clauses]
linears = {
    name: module
    for name, module in model.named_modules()
    if isinstance(module, nn.Linear) and name != "lm_head"
}
chosen = next(
    name for name in linears if name.endswith(f"{model.config.num_hidden_layers // 2}.self_attn.q_proj")
)
seen = []
hook = linears[chosen].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0][0]))
with torch.no_grad():
    model(torch.cat(texts, dim=1)[:, :512])
hook.remove()

weight, inputs = linears[chosen].weight.detach().float().cpu(), seen[0].float().cpu()
outputs = inputs @ weight.T
distinct = max(len(row.unique()) for row in weight.flatten().view(-1, 32)[:500])
print(f"{chosen}: {tuple(weight.shape)}, desvio {float(weight.std()):.3f}")
print(
    f"maior peso: {float(weight.abs().max() / weight.std()):.0f} desvios-padrão (numa normal deste tamanho, cerca de 5)"
)
print(f"valores distintos em 32 pesos seguidos: no máximo {distinct}")

# %% [markdown]
# **Leitura do resultado.** O maior peso está muito além do que uma normal permitiria: os extremos da seção 3 existem. E desconfie da última linha. Num modelo guardado em 16 bits, 32 pesos seguidos são quase sempre 32 valores distintos. Se você vê **no máximo 16**, o arquivo que você recebeu **já foi quantizado em 4 bits** por alguém: é o caso do SmolLM2 que roda sem rede, que vem de um arquivo GGUF do tipo Q4_1 (réguas uniformes, blocos de 32). As medidas abaixo são então o erro de uma *segunda* quantização. A comparação entre métodos continua valendo; a perda contra o modelo original, que não temos aqui, não. Olhar os dados antes de medir é parte da medida.

# %%
real = {}
with needs_exercise(3, 4, 6):
    print(f"{'método':<24} {'erro do peso':>13} {'erro da saída':>14}   (em % do desvio)")
    for label, (method, _, _) in METHODS.items():
        approximate = method(weight)
        real[label] = rmse(approximate, weight) / float(weight.std())
        output_error = rmse(inputs @ approximate.T, outputs) / float(outputs.std())
        print(f"{label:<24} {real[label]:13.1%} {output_error:14.1%}")

# %%
if scores and real:
    places = range(len(METHODS))
    _, axes = plt.subplots(figsize=(8.5, 3.6))
    axes.barh(
        [p + 0.2 for p in places],
        [scores[m] / 0.02 for m in METHODS],
        0.38,
        color="#d9dde3",
        label="pesos normais",
    )
    axes.barh(
        [p - 0.2 for p in places], [real[m] for m in METHODS], 0.38, color="#f4a259", label="camada treinada"
    )
    axes.set_yticks(list(places), METHODS)
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set(xlabel="erro do peso, em relação ao desvio-padrão dos pesos")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** Com uma escala só, a camada treinada erra muito mais que os pesos normais: são os extremos. Com blocos, os dois ficam perto, e a ordem é a mesma: NF4, int4, FP4. O erro da saída pode ser maior ou menor que o do peso, porque as entradas também têm direções fortes e fracas. Se a barra laranja do NF4 passa de 15 %, algo está errado no seu `quantize`.
#
# E o modelo inteiro? Trocamos **todas** as matrizes lineares pela sua versão de ida e volta e medimos a perda nas mesmas cláusulas, token por token.


# %%
def token_losses():
    """A perda do modelo em cada token das cláusulas."""
    with torch.no_grad():
        predicted = [model(ids).logits[0, :-1].float() for ids in texts]
    pairs = zip(predicted, texts, strict=True)
    return torch.cat([nn.functional.cross_entropy(a, ids[0, 1:], reduction="none") for a, ids in pairs])


originals = {name: module.weight.detach().clone() for name, module in linears.items()}
start = token_losses()
print(f"{'modelo':<24} {'perda':>7}   aumento (erro-padrão, em {len(start)} tokens)")
print(f"{'sem quantizar':<24} {float(start.mean()):7.3f}")
with needs_exercise(3, 4, 6):
    for label, (method, _, _) in METHODS.items():
        for name, module in linears.items():
            module.weight.data.copy_(method(originals[name].float().cpu()))
        losses = token_losses()
        rise, spread = losses - start, float((losses - start).std()) / len(start) ** 0.5
        print(f"{label:<24} {float(losses.mean()):7.3f}   {float(rise.mean()):+.3f} (± {spread:.3f})")
for name, module in linears.items():
    module.weight.data.copy_(originals[name])

# %% [markdown]
# **Leitura do resultado.** Com uma escala por tensor, o modelo desaprende a língua: a perda passa de $\ln(\text{vocabulário})$, o palpite ao acaso. Com blocos ele sobrevive, e a ordem é outra vez NF4, int4, FP4; a quantização dupla não muda quase nada. Olhe sempre o erro-padrão antes de comparar: diferenças do tamanho dele são ruído (com uma cláusula só, a ordem sai trocada com facilidade). Modelos pequenos, como este, costumam sofrer mais com 4 bits que os grandes. O que sobra de perda é o que o LoRA por cima tem chance de compensar, na aula 06. Se o NF4 aumenta a perda em mais de 1, há um erro de volta: confira `dequantize` com blocos incompletos.

# %% [markdown]
# ## 9. Quando o NF4 quase não ajuda
#
# De 16 bits para 4,127 são 16 ÷ 4,127 = 3,88 vezes. Mas só as matrizes **lineares** dos blocos são quantizadas: embeddings, a camada de saída e as normas ficam em 16 bits. Num modelo pequeno, com um vocabulário grande, elas são uma parte enorme do total. A conta usa a descrição de cada modelo; não é preciso baixar nenhum.

# %%
from toolkit import Architecture, Full, Plan, count

NAMES = [
    "google/gemma-3-270m", "TucanoBR/Tucano-160m", "HuggingFaceTB/SmolLM2-135M", "TucanoBR/Tucano-1b1",
    "TucanoBR/Tucano-2b4", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-70b-hf",
]  # fmt: skip
ratios = {}
with needs_exercise(7):
    nf4_bits = bits_per_parameter(64, double_quant=True)
    print(
        f"{'modelo':<28} {'parâmetros':>11} {'lineares':>9} {'16 bits':>10} {'NF4 + dupla':>12} {'razão':>6}"
    )
    for name in NAMES:
        architecture = Architecture.from_config(name)
        total = count(Plan(architecture, Full())).total
        linear = sum(layer.weights for layer in architecture.linears())
        before, after = 2 * total, 2 * (total - linear) + linear * nf4_bits / 8
        ratios[name.split("/")[1]] = (linear / total, before / after)
        print(
            f"{name.split('/')[1]:<28} {total / 1e6:9,.0f} M {linear / total:9.1%} "
            f"{before / 2**30:6.2f} GiB {after / 2**30:8.2f} GiB {before / after:6.2f}"
        )

# %%
if ratios:
    _, axes = plt.subplots(figsize=(8.5, 3.8))
    shares = torch.linspace(0.3, 1, 100)
    axes.plot(shares, 1 / (1 - shares + shares * nf4_bits / 16), color="#444", linewidth=1)
    for place, (name, (share, ratio)) in enumerate(sorted(ratios.items(), key=lambda item: item[1])):
        side = {"xytext": (9, -3)} if place % 2 else {"xytext": (-9, -3), "ha": "right"}
        axes.plot(share, ratio, "o", color="#f4a259", markersize=8)
        axes.annotate(name, (share, ratio), textcoords="offset points", fontsize=9, **side)
    axes.axhline(16 / nf4_bits, color="#444", linestyle=":", linewidth=1)
    axes.text(0.2, 16 / nf4_bits + 0.04, f"limite: {16 / nf4_bits:.2f} vezes", fontsize=9)
    axes.set(
        xlabel="fração dos parâmetros em matrizes lineares", ylabel="quantas vezes menor", xlim=(0.18, 1.17)
    )
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** O Tucano-160m encolhe só 2,07 vezes: 30 % dos seus parâmetros são embeddings e saída, que não mudam. O gemma-3-270m, com um vocabulário de 262 mil tokens, nem chega a 1,4. O Llama-2-70B quase alcança o limite. Repare nos dois de 7 e 8 bilhões: o mais novo ganha menos, porque o vocabulário quadruplicou. E isto conta só os **pesos**: se o que ocupa a sua GPU são as ativações e os logits (lotes grandes, textos longos), quantizar os pesos não resolve, e a desquantização a cada passagem ainda custa tempo. Se a sua razão passa do limite, `bits_per_parameter` está abaixo do certo.

# %% [markdown]
# ## 10. Contar parâmetros de um modelo em 4 bits
#
# Uma armadilha que já pegou muito caderno publicado: `sum(p.numel() for p in model.parameters())` conta **elementos guardados**, e num peso de 4 bits cada elemento é um byte com dois códigos. A conta sai quase pela metade, e a fração treinável, quase dobrada.
#
# Na `bitsandbytes`, um peso quantizado `p` tem `p.quant_state` (os outros parâmetros não têm esse atributo), com:
#
# - `p.quant_state.shape`: a forma do peso **antes** de empacotar;
# - `p.quant_state.absmax`: as escalas, que com quantização dupla já são códigos de 8 bits;
# - `p.quant_state.state2`: `None`, ou, com quantização dupla, o estado com `state2.absmax`, as escalas das escalas.
#
# Os bytes empacotados podem estar num tensor de outro tipo (`quant_storage=torch.bfloat16`, por exemplo, guarda quatro códigos por elemento): dobrar o `numel()` não basta.

# %% [markdown]
# ### Exercício 8: `real_size`
#
# ★★★☆☆ · ◆◆◆◆◇ · 12 minutos · 3 pontos
#
# `real_size(model)` devolve `(parameters, bytes)`: quantos números o modelo **tem**, e quantos bytes **ocupam** os seus parâmetros com as escalas (`absmax` e `state2.absmax`). Deixe de fora médias e dicionários, poucos bytes por camada. Um tensor `t` ocupa `t.numel() * t.element_size()` bytes.


# %% nbgrader={"grade_id": "contar_4bit", "solution": true}
def real_size(model):
    """(parâmetros de verdade, bytes guardados), com pesos da bitsandbytes em 4 bits ou sem eles."""
    ### BEGIN SOLUTION
    parameters, tensors = 0, []
    for p in model.parameters():
        state = getattr(p, "quant_state", None)
        parameters += p.numel() if state is None else math.prod(state.shape)
        tensors.append(p)
        while state is not None:
            tensors.append(state.absmax)
            state = state.state2
    return parameters, sum(t.numel() * t.element_size() for t in tensors)
    ### END SOLUTION


# %% nbgrader={"grade_id": "contar_4bit_teste", "points": 3}
layer = nn.Linear(10, 4)
assert tuple(real_size(layer)) == (44, 176), (
    f"Uma camada fp32 comum: 10·4 + 4 = 44 números, 176 bytes; recebi {tuple(real_size(layer))}."
)
layer = to_4bit(nn.Linear(256, 128, bias=False), double_quant=False, storage=torch.uint8)
parameters, size = real_size(layer)
assert parameters == 32_768, (
    f"256 x 128 são 32768 números; recebi {parameters}. Cada byte guarda dois códigos."
)
assert size == 18_432, (
    f"16384 bytes de códigos e 512 escalas de 4 bytes: 18432; recebi {size}. São 4,5 bits por parâmetro."
)
### BEGIN HIDDEN TESTS
for seed, depth, double_quant, storage in (
    (1, 1, True, torch.uint8),
    (2, 3, False, torch.bfloat16),
    (3, 2, True, torch.float32),
):
    model = tiny_4bit_llama(seed, depth, double_quant, storage)
    # por camada: q e o, k e v, gate, up e down; embeddings (os mesmos da saída) e normas à parte
    matrices = [64 * 64] * 2 + [32 * 64] * 2 + [64 * 128] * 3
    rest = 96 * 64 + 64 + depth * 2 * 64
    stored = 4 * rest
    for weights in matrices * depth:
        scales = weights // 64
        stored += weights // 2 + (scales + 4 * math.ceil(scales / 256) if double_quant else 4 * scales)
    parameters, size = real_size(model)
    assert parameters == rest + depth * sum(matrices), (
        "A contagem falha num modelo inteiro, com quant_storage diferente de uint8 ou com pesos compartilhados."
    )
    assert size == stored, "Os bytes falham: some códigos, absmax e, com quantização dupla, state2.absmax."
### END HIDDEN TESTS

# %%
from toolkit import QLoRA

quantized = base.load(base.plan(QLoRA(rank=8, alpha=16)))
full_bytes = sum(p.numel() * p.element_size() for p in base.model.parameters())
with needs_exercise(8):
    naive = sum(p.numel() for p in quantized.parameters())
    parameters, size = real_size(quantized)
    print(f"contagem ingênua (numel):  {naive:13,d}")
    print(f"a sua contagem:            {parameters:13,d}")
    print(f"a do toolkit:              {count(quantized).total:13,d}")
    print(f"pesos em {str(base.model.dtype).removeprefix('torch.')}: {full_bytes / 2**20:8.1f} MiB")
    print(
        f"com NF4 + dupla: {size / 2**20:8.1f} MiB, {full_bytes / size:.2f} vezes menos, {8 * size / parameters:.2f} bits por parâmetro em média"
    )

# %% [markdown]
# **Leitura do resultado.** A sua contagem e a do `toolkit` devem ser iguais; a ingênua fica muito abaixo. A média de bits por parâmetro está longe de 4,127 porque os embeddings não foram quantizados. Sem GPU eles estão em fp32, e a razão aqui é contra fp32; na tabela da seção 9, contra 16 bits.

# %% [markdown]
# ## O que fica
#
# - Quantizar é escolher uma **escala** e um **dicionário de códigos**. Blocos contêm o estrago dos extremos; quantis da normal põem os códigos onde os pesos estão; a quantização dupla barateia as escalas.
# - 4 bits são 4,5 com as escalas, e 4,127 com quantização dupla. Só nas matrizes lineares.
# - Peso quantizado não se treina: arredondar mata o gradiente, e o passo do otimizador é menor que o passo da régua. Por isso o QLoRA congela a base em NF4 e treina, ao lado, um LoRA em precisão maior. É a **aula 06**, e lá você vai escrever a passagem do gradiente por um peso desquantizado.
#
# *Para ir além:* meça o NF3 (`normal_codes(3, ...)`) e o NF8 no placar da seção 7; troque `p_max` e procure o que minimiza o erro em blocos de 64.
