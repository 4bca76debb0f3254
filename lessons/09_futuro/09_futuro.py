# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Futuro: na borda, sob orçamento, em combinação e com imagens
#
# Até aqui o adaptador morou ao lado do modelo, na mesma GPU. Mas um adaptador é um objeto pequeno, e coisas pequenas viajam: vão por rádio até um celular, encolhem onde não fazem falta, se somam, e se encaixam em modelos que veem. Esta aula percorre quatro direções em que o ajuste fino eficiente está crescendo. Nenhuma é ficção: cada uma roda aqui, num notebook sem GPU.
#
# Nesta aula você vai:
#
# 1. **exportar** um modelo para a borda de modo que o adaptador seja uma *entrada*, quantizá-lo em 8 e em 4 bits, e medir tamanho e latência em CPU;
# 2. calcular o **teto** de velocidade de um modelo que gera texto, e ver por que 4 bits aceleram;
# 3. dar mais posto a quem precisa: o **AdaLoRA**, que reparte um orçamento entre as camadas;
# 4. **combinar** adaptadores já treinados sem treinar de novo, e entender por que a soma ingênua erra;
# 5. pôr LoRA nas **duas torres** de um modelo que liga imagem e texto, e ver o que as imagens fazem com a memória.
#
# **Tempo:** 90 a 100 minutos. **Antes:** as aulas 03 (LoRA) e 05 (quantização).
# **Pontos:** 20, em oito exercícios. Em cada um, ★ é a dificuldade e ◆ a importância, de uma a cinco.
#
# *Como funciona um exercício:* complete a célula que traz `raise NotImplementedError`, rode-a e depois rode a célula de testes logo abaixo. Sem erro, está certo até onde os testes visíveis veem; um `AssertionError` traz uma dica; `NotImplementedError` só quer dizer "ainda não feito". Na correção rodam também testes que você não vê, com entradas novas: respostas fixas não passam.

# %%
# No Colab faltam as bibliotecas do ONNX; em casa, `make env` já as trouxe.
import subprocess
import sys
from importlib.util import find_spec

ONNX = {"onnx": "onnx", "onnx_ir": "onnx-ir", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}
if absent := [package for module, package in ONNX.items() if find_spec(module) is None]:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *absent], check=True)

# %% nbgrader={"grade_id": "apoio"}
# Apoio aos exercícios: rode e siga em frente (não é preciso mexer aqui).
import logging
import math
import warnings

import matplotlib.pyplot as plt
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.exercise import needs_exercise

# Recados das bibliotecas às suas próprias versões futuras, e os dos exportadores a cada operação do grafo.
warnings.filterwarnings("ignore", category=FutureWarning)
logging.disable(logging.WARNING)


def tiny_llama(seed=0, layers=2):
    """Um Llama de brinquedo, de pesos sorteados."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True)).eval()


def with_lora(model, targets=("q_proj", "v_proj"), rank=2, name="default"):
    """O modelo com um LoRA da peft, de pesos sorteados, como se já tivesse havido treino."""
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets)), name)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(std=0.3)
    return model.eval()


def drawn(model, seed):
    """Valores novos, sorteados, para os parâmetros LoRA de `model`: nome -> tensor."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=generator) * 0.3
        for name, p in model.named_parameters()
        if "lora_" in name
    }


# %% [markdown]
# ## 1. Na borda: uma base, muitos adaptadores
#
# **Borda** é o celular, o caixa do supermercado, o trator: aparelhos com pouca memória, sem GPU de servidor e às vezes sem rede. Um modelo chega lá num formato que não precisa de Python, como o **ONNX** (um grafo de operações, que o [ONNX Runtime](https://onnxruntime.ai) executa) ou o GGUF (do llama.cpp). O caminho óbvio é fundir o adaptador aos pesos, exportar e enviar. Funciona, mas cada atualização do adaptador obriga a enviar **o modelo inteiro** outra vez.
#
# Há um caminho melhor: exportar o modelo com o adaptador **fora** dele, como uma entrada do grafo. A base vai uma vez, quantizada; depois viajam só os fatores $A$ e $B$. Para isso precisamos de uma função que calcule a saída do modelo *como se* certos parâmetros tivessem outros valores.

# %% [markdown]
# ### Exercício 1: `forward_with`
#
# ★★★☆☆ · ◆◆◆◆◆ · 12 minutos · 3 pontos
#
# `forward_with(model, ids, adapter)` devolve os logits do **último** token, com forma `(lote, vocabulário)`, calculados com os parâmetros citados em `adapter` (nome → tensor, nomes como em `model.named_parameters()`) no lugar dos que o modelo tem. O modelo não pode sair mudado, nem por um instante: outro processo pode estar usando os mesmos pesos. *Dica:* `torch.func.functional_call(module, {nome: tensor}, args, kwargs)`; passe `use_cache=False` ao modelo.


# %% nbgrader={"grade_id": "adaptador_de_fora", "solution": true}
def forward_with(model, ids, adapter):
    """Os logits do último token com `adapter` no lugar dos parâmetros de mesmo nome."""
    ### BEGIN SOLUTION
    inputs = {"input_ids": ids, "use_cache": False}
    return torch.func.functional_call(model, adapter, (), inputs).logits[:, -1]
    ### END SOLUTION


# %% nbgrader={"grade_id": "adaptador_de_fora_teste", "points": 3}
model = with_lora(tiny_llama())
ids = torch.randint(0, 64, (2, 7))
with torch.no_grad():
    expected = model(input_ids=ids).logits[:, -1]
silent = {name: torch.zeros_like(tensor) for name, tensor in drawn(model, 0).items()}
with torch.no_grad(), model.disable_adapter():
    without = model(input_ids=ids).logits[:, -1]
found = forward_with(model, ids, silent)
assert tuple(found.shape) == (2, 64), f"Só o último token: forma (2, 64); recebi {tuple(found.shape)}."
assert torch.allclose(found, without, atol=1e-5), "Com A e B em zero, a saída é a do modelo sem adaptador."
assert torch.allclose(forward_with(model, ids, {}), expected, atol=1e-5), (
    "Sem nada para trocar, a saída é a do próprio modelo."
)
### BEGIN HIDDEN TESTS
for seed, targets, depth in ((1, ("q_proj", "v_proj"), 3), (2, ("o_proj", "down_proj"), 2)):
    reference = with_lora(tiny_llama(seed, depth), targets)
    weights = drawn(reference, seed + 10)
    sample = torch.randint(0, 64, (3, 5))
    with torch.no_grad():
        before = reference(input_ids=sample).logits[:, -1]
        kept = {name: p.clone() for name, p in reference.named_parameters()}
        reference.load_state_dict(weights, strict=False)
        expected = reference(input_ids=sample).logits[:, -1]
        reference.load_state_dict({name: kept[name] for name in weights}, strict=False)
    found = forward_with(reference, sample, weights)
    assert torch.allclose(found, expected, atol=1e-4), (
        "A saída não é a do modelo com os valores de `adapter`."
    )
    state = dict(reference.named_parameters())
    assert all(torch.equal(state[name], kept[name]) for name in kept), "O modelo saiu mudado."
    first = dict(list(weights.items())[:1])
    assert not torch.allclose(forward_with(reference, sample, first), before, atol=1e-5), (
        "Trocar um só parâmetro também deve mudar a saída."
    )
### END HIDDEN TESTS

# %% [markdown]
# Agora o modelo de verdade. `Edge` embrulha a sua função num módulo, e `torch.onnx.export` segue as operações dela e escreve o grafo: `input_ids` de comprimento livre e os tensores do adaptador entram; os logits saem.

# %%
import os
import time
from pathlib import Path

from toolkit import LoRA, attach, base_model

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
base = base_model("tiny" if reduced else "")
base.tokenizer.chat_template = None  # pergunta e resposta sem o formato de conversa: metade dos tokens
print(f"Modelo: {base.name} ({base.reason})")
folder = Path("borda")
folder.mkdir(exist_ok=True)


class Edge(nn.Module):
    """O que vai para o aparelho: tokens e adaptador entram, logits do próximo token saem."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, adapter):
        return forward_with(self.model, input_ids, adapter)


torch.manual_seed(0)
model = attach(base.load().float().cpu(), LoRA(rank=8, alpha=16))
weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
prompt = base.tokenizer(
    "A entrega atrasou dois dias. O que eu faço agora? " * 4, return_tensors="pt"
).input_ids[:, :64]
with needs_exercise(1):
    Edge(model)(prompt, weights)  # uma vez fora do exportador, que esconde os erros de dentro
    free = {"input_ids": {1: torch.export.Dim("tokens", min=2, max=1024)}, "adapter": dict.fromkeys(weights)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Edge(model),
            (prompt,),
            kwargs={"adapter": weights},
            dynamic_shapes=free,
            dynamo=True,
            verbose=False,
        )
    program.save(folder / "base_fp32.onnx")
    print(
        f"{len(list(program.model.graph))} operações; entradas: tokens e {len(weights)} tensores do adaptador"
    )

# %% [markdown]
# E a quantização, com as ferramentas do próprio ONNX Runtime: 8 bits por matriz (dinâmica: as ativações são quantizadas na hora) e 4 bits em blocos de 32. Só os pesos **constantes** são quantizados; o adaptador, que é entrada, continua em fp32. É a ideia do QLoRA, agora na hora de usar.

# %%
from onnxruntime import InferenceSession, SessionOptions
from safetensors.torch import save_file


def quantize_graph(source, bits):
    """O grafo de `source` com as matrizes constantes em 8 ou 4 bits, num arquivo ao lado."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    target = source.with_name(f"base_int{bits}.onnx")
    if bits == 8:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8)
    else:
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), bits=4, block_size=32, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target), use_external_data_format=False)
    return target


def open_session(path):
    """Um grafo pronto para rodar, com os mesmos fios que o torch."""
    options = SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return InferenceSession(path, options)


def feed(session, ids, adapter):
    """As entradas do grafo, na ordem em que foram exportadas."""
    tensors = [ids, *adapter.values()]
    return {slot.name: t.numpy() for slot, t in zip(session.get_inputs(), tensors, strict=True)}


def seconds(call, times=3 if reduced else 5):
    """O menor de alguns tempos: o que a máquina faz quando ninguém a interrompe."""
    call()
    marks = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        marks.append(time.perf_counter() - start)
    return min(marks)


latency = {}
with needs_exercise(1):
    update = {name: tensor * 0.02 for name, tensor in drawn(model, 1).items()}
    with torch.no_grad():
        reference = forward_with(model, prompt, update)
        latency["torch fp32"] = seconds(lambda: forward_with(model, prompt, update))
    fp32 = folder / "base_fp32.onnx"
    files = {"ONNX fp32": fp32, "ONNX int8": quantize_graph(fp32, 8), "ONNX int4": quantize_graph(fp32, 4)}
    save_file(update, folder / "adaptador.safetensors")
    sizes = {
        name: sum(part.stat().st_size for part in folder.glob(path.name + "*")) / 2**20
        for name, path in files.items()
    }
    print(f"{'':<12}{'MiB':>8}{'ms, ' + str(prompt.shape[1]) + ' tokens':>16}{'desvio dos logits':>19}")
    print(f"{'torch fp32':<12}{'':>8}{1000 * latency['torch fp32']:16.0f}")
    for name, path in files.items():
        session = open_session(path)
        given = feed(session, prompt, update)
        (logits,) = session.run(None, given)
        latency[name] = seconds(lambda s=session, g=given: s.run(None, g))
        change = (
            torch.from_numpy(logits) - reference
        )  # o que muda igual em todos a softmax ignora, e o desvio também
        drift = float(change.std() / reference.std())
        print(f"{name:<12}{sizes[name]:8.1f}{1000 * latency[name]:16.0f}{drift:19.2%}")
    size = (folder / "adaptador.safetensors").stat().st_size / 2**20
    print(
        f"{'adaptador':<12}{size:8.2f}   {sizes['ONNX fp32'] / size:.0f} vezes menor que a base fp32, {sizes['ONNX int4'] / size:.0f} que a de 4 bits"
    )

# %% [markdown]
# **Leitura do resultado.** O grafo em fp32 dá os mesmos logits que o torch, com um adaptador que ele **não** tinha quando foi exportado: a prova de que a base pode ficar no aparelho. Em 8 bits o arquivo cai a cerca de um quarto: até os embeddings foram quantizados. Em 4 bits, só as matrizes dos blocos: os embeddings, que aqui são também a saída, continuam em fp32, e num modelo pequeno pesam tanto (aula 05) que o arquivo de 4 bits sai **maior** que o de 8. Num modelo de bilhões, não sairia. O desvio dos dois é da mesma ordem, com metade dos bits: os 8 bits usam uma escala por matriz inteira, os 4 bits uma por bloco de 32 pesos, como o NF4. Quanto do desvio importa só se sabe medindo a tarefa. A latência é a da **leitura** de um texto de 64 tokens, e depende da máquina: com instruções próprias para inteiros, 8 bits costumam ganhar; sem elas, desquantizar pode até custar tempo. E a última linha é a razão de tudo: a atualização é a do adaptador.

# %% [markdown]
# ## 2. O teto da borda
#
# Ler o texto de entrada usa muitas contas por peso lido; **gerar** usa poucas. A cada token novo, o processador precisa ler da memória todos os pesos, uma vez, e as chaves e valores (*KV cache*) de todos os tokens anteriores. As contas são rápidas; a leitura é que demora. Logo, com largura de banda $\beta$ (bytes por segundo),
#
# $$\text{tokens por segundo} \le \frac{\beta}{\text{bytes dos pesos} + \text{bytes do KV}}, \qquad \text{KV} = 2 \cdot \text{camadas} \cdot \text{cabeças}_{kv} \cdot \text{dim}_{cabeça} \cdot \text{tokens} \cdot \text{bytes}.$$
#
# ### Exercício 2: `decode_ceiling`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# `decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2)` devolve esse teto. De `config` (como as do transformers) use `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads` e `hidden_size`; a dimensão de uma cabeça é `hidden_size / num_attention_heads`. `kv_bytes` é o tamanho de um número do KV.


# %% nbgrader={"grade_id": "teto", "solution": true}
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    """Quantos tokens por segundo, no máximo, depois de `tokens` tokens, a `bandwidth` bytes por segundo."""
    ### BEGIN SOLUTION
    head = config.hidden_size // config.num_attention_heads
    cache = 2 * config.num_hidden_layers * config.num_key_value_heads * head * tokens * kv_bytes
    return bandwidth / (weight_bytes + cache)
    ### END SOLUTION


# %% nbgrader={"grade_id": "teto_teste", "points": 2}
sizes_only = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
found = decode_ceiling(sizes_only, 1_000_000, 0, 1e9)
assert math.isclose(found, 1000), f"Sem contexto, só os pesos são lidos: 10⁹ / 10⁶ = 1000; recebi {found}."
found = decode_ceiling(sizes_only, 1_000_000, 1000, 1e9)
assert math.isclose(found, 1e9 / 1_256_000), (
    f"KV: 2 · 2 camadas · 2 cabeças · 16 · 1000 tokens · 2 bytes = 256000; recebi {found}."
)
### BEGIN HIDDEN TESTS
import random

from transformers import DynamicCache

for _ in range(3):
    heads = random.choice([2, 4, 8])
    shape = LlamaConfig(
        vocab_size=32, hidden_size=heads * random.choice([8, 12]), intermediate_size=16,
        num_hidden_layers=random.randint(1, 3), num_attention_heads=heads, num_key_value_heads=random.choice([1, 2]),
    )  # fmt: skip
    length = random.randint(3, 20)
    cache = DynamicCache()
    with torch.no_grad():
        LlamaForCausalLM(shape)(
            input_ids=torch.randint(0, 32, (1, length)), past_key_values=cache, use_cache=True
        )
    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    for bytes_each in (1, 2, 4):
        expected = 3e10 / (5_000_000 + held * bytes_each)
        assert math.isclose(
            decode_ceiling(shape, 5_000_000, length, 3e10, bytes_each), expected, rel_tol=1e-9
        ), (
            "O teto falha em outro modelo: conte chaves e valores, nas cabeças de KV, com kv_bytes cada número."
        )
### END HIDDEN TESTS


# %%
def bandwidth_here():
    """Bytes por segundo que esta CPU lê da memória: o tempo de somar um tensor que não cabe no cache."""
    block = torch.ones(2**22 if reduced else 2**26)
    return block.numel() * 4 / seconds(lambda: block.sum())


with needs_exercise(2):
    from toolkit import Architecture

    here = bandwidth_here()
    llama = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8)
    parameters = 8.03e9
    print(f"esta máquina lê {here / 1e9:.1f} GB/s (medido); suponha 60 num celular; a T4 anuncia 320\n")
    print(
        f"{'Llama 3 de 8 bi':<18}"
        + "".join(f"{place:>18}" for place in ("esta máquina", "60 GB/s", "320 GB/s"))
    )
    for name, bits in (("16 bits", 16), ("8 bits", 8), ("4 bits (4,5)", 4.5)):
        row = [decode_ceiling(llama, parameters * bits / 8, 1024, b) for b in (here, 60e9, 320e9)]
        print(f"{name:<18}" + "".join(f"{value:12.1f} tok/s" for value in row))

# %% [markdown]
# **Leitura do resultado.** Com a mesma memória, de 16 para 4,5 bits o teto sobe quase na mesma proporção: na borda se quantiza pela velocidade, não só pelo espaço. O contexto pesa pouco aqui, porque o Llama 3 divide chaves e valores entre grupos de cabeças; com 32 cabeças de KV, o cache seria quatro vezes maior. É um teto, não uma previsão: um programa real fica abaixo dele. A banda medida é a de ler um tensor em sequência com os núcleos que o torch usa, e outros programas a disputam.

# %% [markdown]
# ## 3. Posto sob orçamento: AdaLoRA
#
# Por que todas as matrizes teriam o mesmo posto? O **AdaLoRA** ([Zhang et al., 2023](https://arxiv.org/abs/2303.10512)) começa com posto sobrando em todas, escreve a correção como uma SVD, $\Delta W = P\,\Lambda\,Q$, e durante o treino **zera** os valores de $\Lambda$ que menos importam. A importância de um trio (coluna de $P$, valor, linha de $Q$) é uma média móvel de $|w \cdot \partial L / \partial w|$: quanto a perda mudaria se ele sumisse.
#
# O orçamento total, a soma dos postos, desce devagar, por uma curva cúbica: começa em $b_0$, fica lá por `warmup` passos, e chega a $b_T$ a `final` passos do fim:
#
# $$b(t) = \begin{cases} b_0 & t \le t_i \\ \left\lfloor b_T + (b_0 - b_T)\left(1 - \frac{t - t_i}{T - t_f - t_i}\right)^{3} \right\rfloor & t_i < t \le T - t_f \\ b_T & t > T - t_f \end{cases}$$
#
# ### Exercício 3: `rank_budget`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 8 minutos · 2 pontos
#
# `rank_budget(step, total, start, end, warmup, final)` devolve o inteiro $b(t)$, com $t$ = `step`, $T$ = `total`, $b_0$ = `start`, $b_T$ = `end`, $t_i$ = `warmup`, $t_f$ = `final`.


# %% nbgrader={"grade_id": "orcamento", "solution": true}
def rank_budget(step, total, start, end, warmup, final):
    """O orçamento de posto do AdaLoRA no passo `step`."""
    ### BEGIN SOLUTION
    if step <= warmup:
        return start
    if step > total - final:
        return end
    left = 1 - (step - warmup) / (total - final - warmup)
    return int(end + (start - end) * left**3)
    ### END SOLUTION


# %% nbgrader={"grade_id": "orcamento_teste", "points": 2}
assert rank_budget(0, 100, 80, 40, 10, 30) == 80, "No aquecimento o orçamento é o inicial."
assert rank_budget(90, 100, 80, 40, 10, 30) == 40, "No fim o orçamento é o final."
found = rank_budget(40, 100, 80, 40, 10, 30)
assert found == 45, f"No meio da descida: 40 + 40 · (1/2)³ = 45; recebi {found}."
### BEGIN HIDDEN TESTS
from types import SimpleNamespace

from peft.tuners.adalora.layer import RankAllocator

for total, start, end, warmup, final in ((50, 96, 24, 5, 10), (200, 300, 299, 0, 0), (33, 64, 8, 12, 4)):
    allocator = RankAllocator.__new__(RankAllocator)
    allocator.init_bgt, allocator.target_bgt = start, end
    allocator.peft_config = SimpleNamespace(tinit=warmup, tfinal=final, total_step=total, deltaT=1)
    for step in range(total + 1):
        # a ordem das contas em ponto flutuante pode mudar o inteiro quando o valor cai em cima dele
        assert abs(
            rank_budget(step, total, start, end, warmup, final) - allocator.budget_schedule(step)[0]
        ) <= (0 if step <= warmup or step > total - final else 1), (
            "O orçamento não é o da peft em todos os passos."
        )
    middle = (warmup + total - final) // 2
    left = 1 - (middle - warmup) / (total - final - warmup)
    assert rank_budget(middle, total, start, end, warmup, final) == int(
        end + (start - end) * left**3 + 1e-9
    ), "A descida é cúbica e arredonda para baixo."
    assert isinstance(rank_budget(middle, total, start, end, warmup, final), int), "O orçamento é um inteiro."
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 4: `allocate`
#
# ★★★☆☆ · ◆◆◆◆◇ · 10 minutos · 3 pontos
#
# Dado o orçamento, quem fica? `allocate(scores, budget)` recebe, para cada matriz, um tensor com a importância de cada um dos seus trios (nome → tensor de uma dimensão, tamanhos podem diferir) e devolve o **posto** que sobra em cada uma (nome → inteiro): quantos dos seus trios estão entre os `budget` mais importantes **de todas as matrizes juntas**. Uma matriz pode ficar com zero. Se o orçamento passa do total de trios, todos ficam.


# %% nbgrader={"grade_id": "repartir", "solution": true}
def allocate(scores, budget):
    """O posto de cada matriz quando só os `budget` trios mais importantes sobrevivem."""
    ### BEGIN SOLUTION
    names = [name for name, values in scores.items() for _ in range(len(values))]
    together = torch.cat(list(scores.values()))
    kept = together.topk(min(budget, len(together))).indices.tolist()
    return {name: sum(names[place] == name for place in kept) for name in scores}
    ### END SOLUTION


# %% nbgrader={"grade_id": "repartir_teste", "points": 3}
scores = {
    "q": torch.tensor([0.9, 0.1, 0.2]),
    "v": torch.tensor([0.8, 0.7, 0.6]),
    "up": torch.tensor([0.05, 0.3, 0.01]),
}
found = allocate(scores, 4)
assert dict(found) == {"q": 1, "v": 3, "up": 0}, f"Os quatro maiores são 0,9, 0,8, 0,7 e 0,6; recebi {found}."
assert sum(allocate(scores, 7).values()) == 7, "A soma dos postos é o orçamento."
### BEGIN HIDDEN TESTS
for sizes_of, budget in (((8, 8, 8, 8), 11), ((3, 12, 1, 6), 6), ((5, 5), 10), ((4, 2), 50), ((6, 6, 6), 0)):
    values = torch.rand(sum(sizes_of))
    given = {f"m{i}": part for i, part in enumerate(values.split(list(sizes_of)))}
    limit = values.sort(descending=True).values[:budget][-1] if budget else 2.0
    expected = {name: int((part >= limit).sum()) for name, part in given.items()}
    found = allocate(given, budget)
    assert dict(found) == expected, (
        "A repartição falha: compare todas as matrizes juntas, e dê zero a quem não tem nenhum trio entre os maiores."
    )
### END HIDDEN TESTS

# %% [markdown]
# Na `peft`, o AdaLoRA faz isso a cada passo. O treino é um laço comum, com uma chamada a mais, `update_and_allocate`, depois do passo do otimizador. Usamos as candidaturas da aula 08, que são curtas.

# %%
from peft import AdaLoraConfig

from toolkit import read_examples
from toolkit.data import collate, encode_all

rows = DADOS / "recrutamento"
instruction = (rows / "instrucao.txt").read_text(encoding="utf-8").strip()
screening = read_examples(rows / "train.jsonl", "texto", "merece", instruction)
total, size = (8, 2) if reduced else (40, 4) if machine.profile == "cpu" else (120, 8)
start_rank, end_rank = 8, 3


def batch_of(examples):
    """Um lote de exemplos, no aparelho do modelo."""
    encoded = encode_all(base.tokenizer, examples, longest=512)
    return collate(encoded, base.tokenizer.pad_token_id)


torch.manual_seed(0)
config = AdaLoraConfig(
    task_type="CAUSAL_LM", init_r=start_rank, target_r=end_rank, lora_alpha=16, total_step=total,
    tinit=total // 8, tfinal=total // 4, deltaT=1, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"],
)  # fmt: skip
adaptive = get_peft_model(base.load().float(), config).train()
allocator = adaptive.base_model.rankallocator
trained = [p for p in adaptive.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0)
budgets, importance = [], {}
for step in range(1, total + 1):
    chunk = batch_of(screening[(step - 1) * size : step * size])
    loss = adaptive(**{key: value.to(adaptive.device) for key, value in chunk.items()}).loss
    loss.backward()
    optimizer.step()
    adaptive.base_model.update_and_allocate(step)
    optimizer.zero_grad()
    budgets.append(allocator.budget_schedule(step)[0])
    if step % max(1, total // 5) == 0:
        print(f"passo {step:3d}: perda {loss:.3f}, orçamento {budgets[-1]}")

# %% [markdown]
# Onde sobrou posto? `rank_pattern` diz, para cada matriz, quais trios ficaram.

# %%
pattern = adaptive.peft_config["default"].rank_pattern
kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]
depth = base.architecture.layers
ranks = torch.zeros(len(kinds), depth)
for name, kept in pattern.items():
    layer = int(name.split("layers.")[1].split(".")[0])
    ranks[next(i for i, kind in enumerate(kinds) if kind in name), layer] = sum(kept)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.6), width_ratios=[1, 2.2], layout="constrained")
left.plot(range(1, total + 1), budgets, color="#3b6ea5", linewidth=2, label="peft")
with needs_exercise(3):
    cells_count = len(kinds) * depth
    mine = [
        rank_budget(t, total, start_rank * cells_count, end_rank * cells_count, config.tinit, config.tfinal)
        for t in range(1, total + 1)
    ]
    left.plot(range(1, total + 1), mine, "o", color="#f4a259", markersize=3, label="a sua conta")
left.set(xlabel="passo", ylabel="soma dos postos")
left.legend(frameon=False)
image = right.imshow(ranks, aspect="auto", cmap="Blues", vmin=0, vmax=start_rank)
right.set(xlabel="camada", yticks=range(len(kinds)), yticklabels=kinds)
figure.colorbar(image, ax=right, label="posto que sobrou")
plt.show()
for i, kind in enumerate(kinds):
    print(
        f"{kind:<8} posto médio {float(ranks[i].mean()):.1f}   de {int(ranks[i].min())} a {int(ranks[i].max())}"
    )

# %% [markdown]
# **Leitura do resultado.** O orçamento desce como a curva que você escreveu, e no fim a mesma soma de postos está repartida de modo desigual: umas matrizes guardam quase tudo, outras perdem quase tudo. O mapa é **desta** tarefa e desta semente, com poucos passos; não é uma lei sobre camadas. Na `peft`, os trios zerados continuam na memória (a biblioteca os anula, não os remove): o ganho de tamanho só vem quando se guarda o adaptador compactado. Se todos os quadros têm a mesma cor, o treino foi curto demais para a importância se decidir.

# %% [markdown]
# ## 4. Combinar adaptadores
#
# Duas equipes treinaram, sobre a mesma base, um adaptador cada uma. Dá para juntar os dois **sem treinar**? As correções são matrizes: $\Delta W = w_1 s_1 B_1 A_1 + w_2 s_2 B_2 A_2$, com pesos $w_i$ e escalas $s_i = \alpha_i / r_i$. Só que guardamos fatores, não produtos. Somar fator com fator não serve:
#
# $$(B_1 + B_2)(A_1 + A_2) = B_1 A_1 + B_2 A_2 + \underbrace{B_1 A_2 + B_2 A_1}_{\text{termos cruzados, que ninguém treinou}}.$$
#
# A saída exata é **empilhar**: pôr os $A$ um sobre o outro e os $B$ lado a lado. O produto dá exatamente a soma, com posto $r_1 + r_2$.
#
# ### Exercício 5: `stack`
#
# ★★★☆☆ · ◆◆◆◆◆ · 10 minutos · 3 pontos
#
# `stack(adapters, weights)` recebe uma lista de triplas `(A, B, scaling)`, com $A$ de forma $r_i \times k$ e $B$ de forma $d \times r_i$ (os postos podem diferir), e um peso para cada uma, que pode ser negativo. Devolve um par `(A, B)` com $BA = \sum_i w_i s_i B_i A_i$ e posto $\sum_i r_i$, sem nenhuma escala por fora.


# %% nbgrader={"grade_id": "empilhar", "solution": true}
def stack(adapters, weights):
    """Um só par (A, B) cujo produto é a soma ponderada das correções."""
    ### BEGIN SOLUTION
    tall = torch.cat([w * scaling * a for (a, _, scaling), w in zip(adapters, weights, strict=True)], dim=0)
    return tall, torch.cat([b for _, b, _ in adapters], dim=1)
    ### END SOLUTION


# %% nbgrader={"grade_id": "empilhar_teste", "points": 3}
one = (torch.randn(2, 6), torch.randn(5, 2), 2.0)
two = (torch.randn(3, 6), torch.randn(5, 3), 0.5)
A, B = stack([one, two], [0.7, -1.0])
assert tuple(A.shape) == (5, 6) and tuple(B.shape) == (5, 5), (
    f"Os postos se somam: A é (2+3) x 6 e B é 5 x (2+3); recebi {tuple(A.shape)} e {tuple(B.shape)}."
)
expected = 0.7 * 2.0 * one[1] @ one[0] - 1.0 * 0.5 * two[1] @ two[0]
assert torch.allclose(B @ A, expected, atol=1e-4), "O produto B A deve ser a soma ponderada das correções."
### BEGIN HIDDEN TESTS
for d, k, seen_ranks in ((7, 4, (1, 2, 3)), (3, 9, (4,)), (12, 12, (2, 2, 2, 2))):
    parts = [(torch.randn(r, k), torch.randn(d, r), random.uniform(0.2, 4)) for r in seen_ranks]
    mix = [random.uniform(-2, 2) for _ in parts]
    A, B = stack(parts, mix)
    assert tuple(A.shape) == (sum(seen_ranks), k) and tuple(B.shape) == (d, sum(seen_ranks)), (
        "As formas falham."
    )
    whole = sum(w * s * b @ a for (a, b, s), w in zip(parts, mix, strict=False))
    assert torch.allclose(B @ A, whole, atol=1e-4), (
        "A soma falha com outro número de adaptadores ou pesos negativos."
    )
model = with_lora(tiny_llama(3), rank=2, name="um")
model.add_adapter("dois", LoraConfig(r=3, lora_alpha=9, target_modules=["q_proj", "v_proj"]))
layer = model.base_model.model.model.layers[1].self_attn.q_proj
with torch.no_grad():
    layer.lora_B["dois"].weight.normal_()
model.add_weighted_adapter(["um", "dois"], [0.4, -1.5], "juntos", combination_type="cat")
A, B = stack(
    [
        (layer.lora_A[n].weight.detach(), layer.lora_B[n].weight.detach(), layer.scaling[n])
        for n in ("um", "dois")
    ],
    [0.4, -1.5],
)
assert torch.allclose(B @ A, layer.get_delta_weight("juntos").detach(), atol=1e-4), (
    "O resultado não é o `cat` da peft."
)
### END HIDDEN TESTS

# %% [markdown]
# Empilhar tem um preço: com dez adaptadores o posto é a soma de dez. Para voltar a um posto pequeno usa-se a SVD, que dá a **melhor** aproximação de posto $r$ (Eckart-Young, aula 03).
#
# ### Exercício 6: `shrink`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# `shrink(A, B, rank)` devolve um par de posto `rank`, com formas `(rank, k)` e `(d, rank)`, cujo produto é a melhor aproximação de $BA$.


# %% nbgrader={"grade_id": "encolher", "solution": true}
def shrink(A, B, rank):
    """Os fatores (A, B) de posto `rank` mais próximos do produto B A."""
    ### BEGIN SOLUTION
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    return right[:rank], left[:, :rank] * values[:rank]
    ### END SOLUTION


# %% nbgrader={"grade_id": "encolher_teste", "points": 2}
A, B = torch.randn(5, 8), torch.randn(6, 5)
small_A, small_B = shrink(A, B, 2)
assert tuple(small_A.shape) == (2, 8) and tuple(small_B.shape) == (6, 2), (
    "As formas são (rank, k) e (d, rank)."
)
singular = torch.linalg.svdvals(B @ A)
error = float((small_B @ small_A - B @ A).norm())
assert math.isclose(error, float(singular[2:].norm()), rel_tol=1e-3), (
    f"O menor erro possível é {float(singular[2:].norm()):.3f} (o que sobra dos valores singulares); recebi {error:.3f}."
)
### BEGIN HIDDEN TESTS
for d, k, full, r in ((9, 7, 6, 1), (4, 20, 3, 2), (15, 15, 8, 5), (6, 6, 2, 2)):
    A, B = torch.randn(full, k), torch.randn(d, full)
    small_A, small_B = shrink(A, B, r)
    assert tuple(small_A.shape) == (r, k) and tuple(small_B.shape) == (d, r), (
        "As formas falham para outros tamanhos."
    )
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    best = left[:, :r] * values[:r] @ right[:r]
    assert torch.allclose(small_B @ small_A, best, atol=1e-3), (
        "O produto não é a melhor aproximação de posto r."
    )
### END HIDDEN TESTS

# %% [markdown]
# Agora de verdade. Treinamos dois adaptadores na mesma base: um faz a **triagem** da aula 08 (com a resposta justa), o outro responde no **atendimento** de uma loja. Depois medimos a perda de cada combinação nas duas tarefas.

# %%
from toolkit import load, save, train
from toolkit.evaluation import mean_loss

shop_rows = DADOS / "atendimento"
shop_instruction = (shop_rows / "instrucao.txt").read_text(encoding="utf-8").strip()
tasks = {
    "triagem": [
        read_examples(rows / f"{part}.jsonl", "texto", "merece", instruction) for part in ("train", "test")
    ],
    "atendimento": [
        read_examples(shop_rows / f"{part}.jsonl", "cliente", "atendente", shop_instruction)
        for part in ("train", "test")
    ],
}
steps = 2 if reduced else 30 if machine.profile == "cpu" else 150
plan = base.plan(LoRA(rank=8, alpha=16), batch=4, seq_len=512)
for name, (examples, _) in tasks.items():
    run = train(plan, examples, base, steps=steps, learning_rate=2e-3)
    save(run.model, f"runs/09_{name}")

# %%
held_out = {
    name: encode_all(base.tokenizer, test[: 2 if reduced else 16], 512) for name, (_, test) in tasks.items()
}
both = base.load(plan)
for name in tasks:
    both = load(both, f"runs/09_{name}", name)
for kind, options in (("linear", {}), ("cat", {}), ("svd", {"svd_rank": 8})):
    both.add_weighted_adapter(list(tasks), [1.0, 1.0], kind, combination_type=kind, **options)


def losses_of(adapter):
    """A perda nas duas tarefas com este adaptador ativo."""
    both.set_adapter(adapter)
    return {
        name: mean_loss(both, encoded, 4, base.tokenizer.pad_token_id) for name, encoded in held_out.items()
    }


with both.disable_adapter():
    measured = {
        "base": {name: mean_loss(both, e, 4, base.tokenizer.pad_token_id) for name, e in held_out.items()}
    }
measured |= {name: losses_of(name) for name in (*tasks, "linear", "cat", "svd")}
print(f"{'adaptador':<14}" + "".join(f"{name:>14}" for name in tasks))
for label, values in measured.items():
    print(f"{label:<14}" + "".join(f"{value:14.3f}" for value in values.values()))

with needs_exercise(5, 6):
    layer = next(m for m in both.modules() if hasattr(m, "lora_A") and "cat" in m.lora_A)
    parts = [
        (layer.lora_A[n].weight.detach(), layer.lora_B[n].weight.detach(), layer.scaling[n]) for n in tasks
    ]
    A, B = stack(parts, [1.0, 1.0])
    exact = float((B @ A - layer.get_delta_weight("cat")).abs().max())
    small_A, small_B = shrink(A, B, 8)
    print(f"\nmaior diferença entre o seu `stack` e o `cat` da peft: {exact:.1e}")
    for label, delta in (("linear", layer.get_delta_weight("linear")), ("svd, posto 8", small_B @ small_A)):
        print(
            f"{label:<13} erro relativo em uma matriz: {float((delta - B @ A).norm() / (B @ A).norm()):.1%}"
        )

# %% [markdown]
# **Leitura do resultado.** Cada adaptador baixa a perda da sua tarefa, e o da triagem, longe do que aprendeu, piora a da outra. O empilhado (`cat`) é a soma exata das correções, e fica **entre** os dois adaptadores em cada tarefa: as duas correções puxam as mesmas matrizes, e o que uma ganha a outra em parte desfaz. A SVD de posto 8 perde pouco na matriz e, por isso, fica perto do `cat`. A soma ingênua (`linear`) erra quase tudo na própria matriz, pelos termos cruzados: numa tarefa pode empatar por sorte, mas na outra a perda mostra o que isso faz. Nenhuma combinação foi treinada: é um atalho a **medir**, não uma garantia. Se o `cat` fica pior que a base nas duas, a soma inteira passa do ponto: tente pesos menores.

# %% [markdown]
# ## 5. Modelos que veem
#
# Um modelo como o **CLIP** ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)) tem duas torres: uma lê a imagem, cortada em quadradinhos que viram "tokens", a outra lê o texto. Cada uma termina num vetor, e os vetores de uma imagem e da sua legenda devem apontar para o mesmo lado. Num lote de $n$ pares há $n$ combinações certas e $n^2 - n$ erradas, e a perda é a entropia cruzada nos dois sentidos: dada a imagem, qual é o texto; dado o texto, qual é a imagem. Com vetores de norma 1 e uma escala $\tau$,
#
# $$S = \tau\, V T^\top, \qquad L = \tfrac12\bigl[\operatorname{CE}(S, \text{diagonal}) + \operatorname{CE}(S^\top, \text{diagonal})\bigr].$$
#
# ### Exercício 7: `contrastive_loss`
#
# ★★★☆☆ · ◆◆◆◇◇ · 10 minutos · 3 pontos
#
# `contrastive_loss(images, texts, scale)` recebe os vetores das torres, **ainda sem normalizar**, com forma `(n, dim)`, e a escala $\tau$, e devolve a perda $L$, um tensor com um número só.


# %% nbgrader={"grade_id": "contrastiva", "solution": true}
def contrastive_loss(images, texts, scale):
    """A perda do CLIP: cada imagem com a sua legenda, nos dois sentidos."""
    ### BEGIN SOLUTION
    similar = scale * nn.functional.normalize(images, dim=-1) @ nn.functional.normalize(texts, dim=-1).T
    right = torch.arange(len(images))
    return (nn.functional.cross_entropy(similar, right) + nn.functional.cross_entropy(similar.T, right)) / 2
    ### END SOLUTION


# %% nbgrader={"grade_id": "contrastiva_teste", "points": 3}
found = contrastive_loss(torch.eye(3), 5 * torch.eye(3), 2.0)
expected = math.log(math.exp(2) + 2) - 2
assert math.isclose(float(found), expected, rel_tol=1e-4), (
    f"Pares perfeitos e o resto perpendicular: ln(e² + 2) - 2 = {expected:.4f}; recebi {float(found):.4f}. Normalizou?"
)
found = contrastive_loss(torch.ones(4, 2), torch.ones(4, 2), 10.0)
assert math.isclose(float(found), math.log(4), rel_tol=1e-4), (
    f"Todos iguais: palpite entre quatro, ln 4; recebi {float(found):.4f}."
)
### BEGIN HIDDEN TESTS
from transformers import CLIPConfig as HiddenConfig
from transformers import CLIPModel as HiddenModel

for n, width, tau in ((2, 5, 1.0), (8, 3, 14.3), (17, 32, 0.5)):
    seen, read = torch.randn(n, width) * 3, torch.randn(n, width) - 1
    one, two = (x / x.norm(dim=1, keepdim=True) for x in (seen, read))
    table = tau * one @ two.T
    sides = [table.logsumexp(dim) - table.diagonal() for dim in (0, 1)]
    expected = float(torch.cat(sides).mean())
    assert math.isclose(float(contrastive_loss(seen, read, tau)), expected, rel_tol=1e-4), (
        "A perda falha: normalize, multiplique por scale e faça a média dos dois sentidos."
    )
    assert math.isclose(float(contrastive_loss(7 * seen, read, tau)), expected, rel_tol=1e-4), (
        "O tamanho dos vetores não conta."
    )
tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
towers = {
    "text_config": {
        **tower,
        "vocab_size": 9,
        "max_position_embeddings": 8,
        "bos_token_id": 0,
        "eos_token_id": 8,
    },
    "vision_config": {**tower, "image_size": 8, "patch_size": 4},
}
reference = HiddenModel(HiddenConfig(**towers, projection_dim=6)).eval()
with torch.no_grad():
    written = torch.cat([torch.randint(0, 8, (5, 4)), torch.full((5, 1), 8)], dim=1)
    out = reference(pixel_values=torch.randn(5, 3, 8, 8), input_ids=written, return_loss=True)
mine = contrastive_loss(3 * out.image_embeds, out.text_embeds, reference.logit_scale.exp().item())
assert math.isclose(float(mine), float(out.loss), rel_tol=1e-4), "A perda não é a do CLIP do transformers."
### END HIDDEN TESTS

# %% [markdown]
# Para ver LoRA nas duas torres sem baixar nada, montamos um CLIP pequeno a partir da configuração, com pesos **sorteados**, e um mundo pequeno: figuras coloridas e suas legendas. Não é um modelo útil; é um modelo inteiro, onde tudo pode ser contado e visto.

# %%
from transformers import CLIPConfig, CLIPModel

COLOURS = {"vermelho": (1, 0, 0), "verde": (0, 0.7, 0), "azul": (0, 0, 1), "amarelo": (1, 0.9, 0), "roxo": (0.6, 0, 0.8), "preto": (0, 0, 0)}  # fmt: skip
SHAPES = {
    "quadrado": lambda x, y: (x.abs() < 0.5) & (y.abs() < 0.5),
    "círculo": lambda x, y: x**2 + y**2 < 0.35,
    "triângulo": lambda x, y: (y > -0.5) & (y < 0.5 - 2 * x.abs()),
    "traço": lambda x, y: y.abs() < 0.2,
}
WORDS = ["<início>", "um", *SHAPES, *COLOURS, "<fim>"]
CAPTIONS = [(shape, colour) for shape in SHAPES for colour in COLOURS]


def draw(shape, colour, generator):
    """Uma imagem 32 x 32 da figura, com lugar, tamanho e ruído sorteados: tensor (3, 32, 32)."""
    lines = torch.linspace(-1, 1, 32)
    y, x = torch.meshgrid(lines, lines, indexing="ij")
    dx, dy, zoom = (torch.rand(3, generator=generator) - 0.5).tolist()
    mask = SHAPES[shape](*((c - 0.4 * d) / (1 + 0.5 * zoom) for c, d in ((x, dx), (-y, dy))))
    picture = torch.ones(3, 32, 32)
    picture[:, mask] = torch.tensor(COLOURS[colour])[:, None].float()
    return picture + 0.1 * torch.randn(3, 32, 32, generator=generator)


def tokens_of(shape, colour):
    """A legenda em índices de WORDS: <início> um círculo azul <fim>."""
    return [WORDS.index(word) for word in ("<início>", "um", shape, colour, "<fim>")]


def tiny_clip(seed=0):
    """Um CLIP de brinquedo: torres de 2 camadas, imagens de 16 quadradinhos."""
    torch.manual_seed(seed)
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": len(WORDS) - 1}
    text = {**tower, **ends, "vocab_size": len(WORDS), "max_position_embeddings": 8}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))


generator = torch.Generator().manual_seed(0)
_, axes = plt.subplots(1, 6, figsize=(9, 1.9))
for axis, (shape, colour) in zip(axes, CAPTIONS[::4], strict=True):
    axis.imshow(draw(shape, colour, generator).permute(1, 2, 0).clamp(0, 1))
    axis.set_title(f"{shape} {colour}", fontsize=8)
    axis.axis("off")
plt.show()

# %% [markdown]
# As camadas de atenção das duas torres têm os mesmos nomes, `q_proj` e `v_proj`: pedir esses módulos-alvo à `peft` põe LoRA **nas duas**. Para pôr só numa, o alvo é uma expressão regular. As duas projeções finais, que levam cada torre ao espaço comum, são pequenas e treinam por inteiro (`modules_to_save`).

# %%
TOWERS = {
    "só texto": r".*text_model.*\.(q_proj|v_proj|fc1|fc2)",
    "só imagem": r".*vision_model.*\.(q_proj|v_proj|fc1|fc2)",
    "as duas": r".*\.(q_proj|v_proj|fc1|fc2)",
}


def adapted_clip(targets):
    """O CLIP de brinquedo congelado, com LoRA de posto 8 nos alvos e as projeções treináveis."""
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules=targets, modules_to_save=["visual_projection", "text_projection"]
    )
    return get_peft_model(tiny_clip(), config)


print(f"{'LoRA em':<12}{'texto':>9}{'imagem':>9}{'projeções':>11}{'do total':>10}")
for name, targets in TOWERS.items():
    trainable = {n: p.numel() for n, p in adapted_clip(targets).named_parameters() if p.requires_grad}
    by_tower = [
        sum(size for n, size in trainable.items() if key in n)
        for key in ("text_model", "vision_model", "_projection")
    ]
    total_size = sum(p.numel() for p in tiny_clip().parameters())
    print(
        f"{name:<12}"
        + f"{by_tower[0]:9,d}{by_tower[1]:9,d}{by_tower[2]:11,d}{sum(by_tower) / total_size:10.1%}"
    )


# %%
def clip_batch(pairs, generator):
    """As imagens e legendas de uma lista de pares (figura, cor)."""
    return torch.stack([draw(*p, generator) for p in pairs]), torch.tensor([tokens_of(*p) for p in pairs])


def vectors(model, images, texts):
    """Os vetores das duas torres no espaço comum."""
    out = model(pixel_values=images, input_ids=texts)
    return out.image_embeds, out.text_embeds


def found_caption(model):
    """Em quantas figuras novas a legenda certa é a mais próxima, entre as 24."""
    images, texts = clip_batch(CAPTIONS, torch.Generator().manual_seed(99))
    with torch.no_grad():
        seen, read = vectors(model.eval(), images, texts)
    return float((seen @ read.T).argmax(dim=1).eq(torch.arange(len(CAPTIONS))).float().mean())


clip_losses = {}
with needs_exercise(7):
    print(f"{'LoRA em':<12}{'perda':>8}{'acerta a legenda':>18}   (ao acaso, {1 / len(CAPTIONS):.0%})")
    for name, targets in TOWERS.items():
        model, noise = adapted_clip(targets), torch.Generator().manual_seed(1)
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=5e-3, weight_decay=0
        )
        clip_losses[name] = []
        for _ in range(3 if reduced else 150):
            loss = contrastive_loss(*vectors(model, *clip_batch(CAPTIONS, noise)), scale=10.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            clip_losses[name].append(loss.item())
        print(
            f"{name:<12}{sum(clip_losses[name][-5:]) / len(clip_losses[name][-5:]):8.2f}{found_caption(model):18.0%}"
        )

# %%
if clip_losses:
    _, axes = plt.subplots(figsize=(6.5, 3))
    for name, values in clip_losses.items():
        axes.plot(range(1, len(values) + 1), values, label=name)
    axes.axhline(math.log(len(CAPTIONS)), color="#444", linestyle=":", linewidth=1)
    axes.text(len(values), math.log(len(CAPTIONS)) + 0.05, "ao acaso: ln 24", fontsize=9, ha="right")
    axes.set(xlabel="passo", ylabel="perda contrastiva")
    axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.65))
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** Mesmo uma só torre adaptada acerta muito mais que o acaso, porque a outra, ainda que sorteada, dá a cada entrada um vetor distinto. A da imagem ajuda mais: as legendas são só 24, sempre as mesmas, e as figuras mudam de lugar, tamanho e ruído; é a torre delas que precisa aprender a não ligar para isso. Adaptar também a do texto pouco acrescenta aqui. Na contagem, repare que cada torre tem os seus módulos, embora com os mesmos nomes: pedir `q_proj` sem dizer a torre põe LoRA nas duas, e muita gente o faz sem querer. Com pesos sorteados o resultado só vale neste mundo de 24 legendas; num CLIP treinado, o que se mede é o mesmo.

# %% [markdown]
# ### O que as imagens fazem com a memória
#
# Num modelo de linguagem que vê, cada imagem entra como centenas de tokens **antes** do texto: uma torre ViT-L/14 a 336 pontos corta a imagem em $24 \times 24 = 576$ quadradinhos. Os adaptadores não crescem com isso; as **ativações** e o KV, sim. A calculadora do curso mede: é como se o texto tivesse 576 tokens a mais por imagem (a torre da imagem, congelada e sem gradiente, fica de fora desta conta).

# %%
from toolkit import Architecture, Plan, QLoRA
from toolkit.vram import estimate
from toolkit.vram.memory import GIB

llama = Architecture.from_config("meta-llama/Llama-2-7b-hf")
print(f"{'imagens':>8}{'tokens':>8}{'pico (GiB)':>12}{'com recomputação':>18}{'KV ao gerar (MiB)':>19}")
for images in (0, 1, 2, 4):
    length = 512 + 576 * images
    plans = (
        Plan(llama, QLoRA(rank=16, alpha=32), seq_len=length, checkpointing=saving)
        for saving in (False, True)
    )
    peaks = [estimate(plan).allocated.value / GIB for plan in plans]
    cache = 2 * 32 * 32 * 128 * length * 2 / 2**20
    print(f"{images:8d}{length:8d}{peaks[0]:12.1f}{peaks[1]:18.1f}{cache:19.0f}")

# %% [markdown]
# **Leitura do resultado.** Cada imagem custa mais que um texto inteiro de 512 tokens: cerca de 3 GiB de ativações, em linha reta. Quatro imagens levam o pico de 6,4 a 18,6 GiB, e os pesos em 4 bits são só 3,5 deles; com recomputação de ativações, de 4,0 a 5,5. O adaptador é o mesmo nas quatro linhas. É por isso que, em modelos que veem, se discute tanto quantos tokens uma imagem merece: juntar quadradinhos economiza mais que baixar o posto.

# %% [markdown] nbgrader={"grade_id": "aberta_enunciado"}
# ## 6. Pergunta aberta
#
# ### Exercício 8: um produto na borda
#
# ★★★☆☆ · ◆◆◆◆◆ · 12 minutos · 2 pontos (corrigido por uma pessoa)
#
# Uma cooperativa quer, no celular de 3.000 produtores sem rede estável, um assistente que responda dúvidas e reconheça pragas em fotos. As pragas mudam a cada safra; três regiões têm vocabulário próprio. Em 10 a 15 linhas: que modelo e quantos bits, o que vai no aparelho e o que viaja a cada atualização (em MiB, para os 3.000), quais adaptadores, em que torre, combinados ou trocados, e o que medir antes de enviar. Apoie ao menos três escolhas em números desta aula e diga um risco que o seu desenho não resolve.
#
# ### BEGIN MARK SCHEME
# 1. (1 ponto) Base em 4 bits enviada uma vez e adaptador como entrada, com o tamanho da atualização calculado para 3.000 aparelhos a partir do medido na seção 1, e o teto de tokens por segundo da seção 2. (palavras: 4 bits, int4, quantiza; mib, mb; tokens por segundo, tok/s, teto, banda)
# 2. (1 ponto) Torre certa para cada mudança (imagem para pragas, texto para vocabulário), troca ou combinação justificada pela tabela da seção 4, uma medida antes de enviar (desvio dos logits, perda por tarefa, pares contrafactuais da aula 08) e um risco honesto: dados de outra região, segurança da atualização, memória com imagens. (palavras: torre, imagem, visual; troca, combina, empilh, cat; medir, medida, desvio, perda; risco)
# ### END MARK SCHEME

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 2}
# Espera-se: base quantizada enviada uma vez, adaptadores por região e por safra como entradas; só o adaptador viaja; LoRA na torre da imagem para pragas; combinação por empilhamento medida nas duas tarefas; desvio da quantização medido.

# %% [markdown]
# ## O que você leva daqui
#
# - Na borda a base vai uma vez, quantizada; o adaptador pode ser uma entrada do grafo, e a atualização é do tamanho dele.
# - Gerar texto é limitado pela leitura dos pesos: bits a menos são tokens por segundo a mais.
# - Posto é orçamento: o AdaLoRA o reparte pela importância medida.
# - Somar fatores não é somar correções. Empilhe para ser exato, e encolha por SVD sabendo o que perde. Meça sempre nas duas tarefas.
# - Em modelos que veem, o adaptador continua pequeno; o que cresce são os tokens.
#
# **Para ler mais:** [TIES](https://arxiv.org/abs/2306.01708) e [aritmética de tarefas](https://arxiv.org/abs/2212.04089), outras formas de combinar; [LLaVA](https://arxiv.org/abs/2304.08485), um modelo que vê, ajustado com dados de instruções; o [llama.cpp](https://github.com/ggml-org/llama.cpp), que roda modelos GGUF e adaptadores LoRA em quase qualquer aparelho.
