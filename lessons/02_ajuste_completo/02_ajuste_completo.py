# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ajuste fino completo: treinar todos os pesos, e o que isso custa
#
# Uma intérprete que passa meio ano só em audiências volta afiada no vocabulário do tribunal. E tropeça ao pedir um prato no restaurante. O **ajuste fino completo** faz isso com um modelo: todos os pesos mudam, a tarefa nova melhora, e nada impede que o resto piore. É o método mais antigo, o mais caro, e a régua com que se mede qualquer outro.
#
# Nesta aula você vai:
#
# 1. fazer a perda olhar só para a **resposta**, e não para o enunciado;
# 2. escrever à mão o **AdamW**, o aquecimento com cosseno e a **acumulação de gradientes**, e conferir cada um com o PyTorch e a `transformers`;
# 3. ver o bf16 **engolir** passos pequenos e o fp16 zerar gradientes, e escrever os dois remédios: pesos-mestre e escala da perda;
# 4. juntar tudo num laço de treino, igual, peso por peso, ao de referência;
# 5. saber **antes** se um treino cabe na GPU, e comparar o previsto com o medido;
# 6. ajustar um modelo de verdade, medir quanto ele ganhou na tarefa, quanto **esqueceu**, e o que faz uma taxa de aprendizado alta demais.
#
# **Tempo:** 80 a 90 minutos. **Antes:** a aula 01 (a conta dos 16 bytes) e PyTorch básico (`backward`, `torch.no_grad`).
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
from transformers import LlamaConfig, LlamaForCausalLM, get_scheduler

from toolkit.exercise import needs_exercise

warnings.filterwarnings("ignore", category=FutureWarning)  # das bibliotecas às suas próprias versões futuras
IGNORED = -100  # o rótulo que a perda do PyTorch pula


def tiny_llama(seed=0, layers=2):
    """Um Llama de brinquedo, de pesos sorteados: a arquitetura do modelo de verdade em 6 mil parâmetros."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=True))


def random_batch(answers, seed=0, prompt=3):
    """Um lote sorteado: a linha i tem `prompt` tokens de enunciado e answers[i] de resposta, e o resto é enchimento."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 64, (len(answers), prompt + max(answers)), generator=generator)
    places, ends = torch.arange(ids.shape[1]), prompt + torch.tensor(answers)[:, None]
    mask = (places < ends).long()
    labels = torch.where((places >= prompt) & (places < ends), ids, IGNORED)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


def split(batch, sizes):
    """O lote cortado em pedaços de `sizes` linhas."""
    parts = zip(*(value.split(sizes) for value in batch.values()), strict=True)
    return [dict(zip(batch, part, strict=True)) for part in parts]


def gradients_of(model):
    """As cópias dos gradientes que o backward deixou em `model`, pelo nome do parâmetro."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# %% [markdown]
# ## 1. O que a perda deve olhar
#
# Um modelo de linguagem aprende a adivinhar o próximo token. Mostramos a ele o enunciado, com a cláusula, e a resposta que ele deveria ter dado. Se a perda contasse todos os tokens, quase todo o esforço do treino iria para adivinhar o texto das *cláusulas*, que ninguém vai pedir que ele escreva. Por isso ela conta **só os tokens da resposta**; os do enunciado entram como contexto.

# %%
import os

from toolkit import base_model, read_examples
from toolkit.data import encode

reduced = "NBGRADER_EXECUTION" in os.environ  # na correção: modelo de brinquedo e poucos passos
base = base_model("tiny" if reduced else "")
print(f"Modelo: {base.name} ({base.reason})\n")

instruction = (DADOS / "clausulas" / "instrucao.txt").read_text(encoding="utf-8").strip()
train_data, validation_data, test_data = (
    read_examples(DADOS / "clausulas" / f"{part}.jsonl", "texto", "tipo", instruction)
    for part in ("train", "validation", "test")
)
sample = encode(base.tokenizer, train_data[0], longest=1024)
seen, learnt = (
    base.tokenizer.decode(ids)
    for ids in (sample.ids[: sample.prompt_length], sample.ids[sample.prompt_length :])
)
print(seen, f"\033[1;43m{learnt}\033[0m", sep="")
print(
    f"\n{len(sample.ids)} tokens, dos quais {len(sample.ids) - sample.prompt_length} são aprendidos (em destaque)"
)

# %% [markdown]
# **Leitura do resultado.** O enunciado vem no formato de conversa do modelo, com as suas marcas. O destaque é a resposta **e** o token de fim de texto: sem ele, o modelo responderia certo e não saberia parar. Só uns poucos por cento dos tokens ensinam alguma coisa, mas todos custam tempo e memória. Se o destaque começa antes da resposta, a máscara está errada.

# %% [markdown]
# ### Exercício 1: `answer_loss`
#
# ★★☆☆☆ · ◆◆◆◆◆ · 12 minutos · 3 pontos
#
# `answer_loss(logits, ids, prompt_lengths, lengths)` devolve a **média** de $-\log p(\text{token certo})$ sobre todos os tokens de resposta do lote. `logits` tem forma `(lote, T, vocabulário)` e `ids`, `(lote, T)`. A linha `i` tem `lengths[i]` tokens de verdade (o resto é enchimento), e os `prompt_lengths[i]` primeiros são o enunciado.
#
# Dois cuidados. A posição $t$ dos logits prevê o token $t + 1$: é preciso **deslocar**. E a média é sobre os tokens do lote inteiro, não a média das médias das linhas. *Dica:* `logits.log_softmax(-1)` e `gather`, ou `nn.functional.cross_entropy` com os rótulos fora da resposta iguais a `IGNORED`.


# %% nbgrader={"grade_id": "perda", "solution": true}
def answer_loss(logits, ids, prompt_lengths, lengths):
    """Perda média por token de resposta do lote; um tensor sem dimensões."""
    ### BEGIN SOLUTION
    labels = torch.full_like(ids, IGNORED)
    for row, (start, end) in enumerate(zip(prompt_lengths, lengths, strict=True)):
        labels[row, start:end] = ids[row, start:end]
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    ### END SOLUTION


# %% nbgrader={"grade_id": "perda_teste", "points": 3}
logits = torch.zeros(1, 4, 8)
logits[0, 2, 5] = 3.0  # na posição 2 o modelo aposta no token 5
loss = float(answer_loss(logits, torch.tensor([[1, 2, 3, 5]]), [3], [4]))
expected = math.log(math.exp(3) + 7) - 3
assert math.isclose(loss, expected, rel_tol=1e-4), (
    f"Um só token de resposta, o 5 na posição 3, previsto pelos logits da posição 2: {expected:.4f}; recebi {loss:.4f}."
)
loss = float(answer_loss(torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.long), [2, 1], [5, 3]))
assert math.isclose(loss, math.log(8), rel_tol=1e-4), (
    f"Com logits iguais cada token custa ln(8) = {math.log(8):.4f}, seja qual for a máscara; recebi {loss:.4f}."
)
### BEGIN HIDDEN TESTS
for seed, prompt, answers in ((1, 3, [1, 7, 2]), (2, 5, [4]), (3, 2, [9, 1, 1, 6])):
    batch = random_batch(answers, seed, prompt)
    with torch.no_grad():
        output = tiny_llama(seed).eval()(**batch)
    mine = answer_loss(
        output.logits, batch["input_ids"], [prompt] * len(answers), [prompt + n for n in answers]
    )
    # a mesma soma em outra ordem: em float32 mudam as últimas casas
    assert math.isclose(float(mine), float(output.loss), rel_tol=1e-4), (
        "A perda difere da da transformers: confira o deslocamento, a máscara, o enchimento e a média por token."
    )
### END HIDDEN TESTS

# %% [markdown]
# ## 2. AdamW, linha por linha
#
# O gradiente diz para que lado cada peso deve ir, mas não *quanto*: um embedding raro recebe gradientes milhares de vezes menores que uma norma. O **Adam** ([Kingma e Ba, 2014](https://arxiv.org/abs/1412.6980)) guarda, para cada peso, a média recente do gradiente ($m$) e a do seu quadrado ($v$), e anda $m/\sqrt v$: um passo de tamanho perto de 1, vezes a taxa de aprendizado $\eta$. O **AdamW** ([Loshchilov e Hutter, 2017](https://arxiv.org/abs/1711.05101)) separa disso o **decaimento** dos pesos. No passo $t = 1, 2, \dots$, com gradiente $g$:
#
# $$\begin{aligned} w &\leftarrow w - \eta\,\lambda\, w \\ m &\leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 \\ \hat m &= \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad w \leftarrow w - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon} \end{aligned}$$
#
# As divisões por $1 - \beta^t$ corrigem o começo, quando $m$ e $v$ ainda estão perto do zero de onde partiram. São esses $m$ e $v$ os 8 dos 16 bytes por parâmetro da aula 01.

# %% [markdown]
# ### Exercício 2: `adamw_step`
#
# ★★★☆☆ · ◆◆◆◆◆ · 15 minutos · 4 pontos
#
# `adamw_step(w, g, m, v, t, lr, betas, eps, weight_decay)` devolve o trio `(w, m, v)` depois do passo de número `t` (o primeiro é 1). Não mude os tensores recebidos: devolva novos.


# %% nbgrader={"grade_id": "adamw", "solution": true}
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Um passo de AdamW no peso `w`, de gradiente `g`; devolve (w, m, v) novos."""
    ### BEGIN SOLUTION
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    direction = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps)
    return w * (1 - lr * weight_decay) - lr * direction, m, v
    ### END SOLUTION


# %% nbgrader={"grade_id": "adamw_teste", "points": 4}
w, g, zero = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, -1e-3, 40.0]), torch.zeros(3)
new, m, v = adamw_step(w, g, zero, zero, t=1, lr=0.1, weight_decay=0.0)
assert torch.allclose(new, torch.tensor([0.9, -1.9, 0.4]), atol=1e-4), (
    f"No primeiro passo, sem decaimento, cada peso anda lr = 0.1 contra o sinal do seu gradiente; recebi {new.tolist()}."
)
assert torch.allclose(m, 0.1 * g) and torch.allclose(v, 0.001 * g * g), (
    "m e v são as médias sem a correção: (1 - β₁) g e (1 - β₂) g² no primeiro passo."
)
new, _, _ = adamw_step(w, zero, zero, zero, t=1, lr=0.1, weight_decay=0.5)
assert torch.allclose(new, 0.95 * w), (
    f"Com gradiente zero sobra o decaimento: w · (1 - 0.1 · 0.5); recebi {new.tolist()}."
)
### BEGIN HIDDEN TESTS
for seed, lr, betas, eps, decay in (
    (1, 1e-2, (0.9, 0.999), 1e-8, 0.01),
    (2, 0.3, (0.8, 0.95), 1e-3, 0.2),
    (3, 1e-3, (0.5, 0.99), 1e-6, 0.0),
):
    torch.manual_seed(seed)
    mine = torch.randn(7, 5)
    theirs = nn.Parameter(mine.clone())
    optimizer = torch.optim.AdamW([theirs], lr=lr, betas=betas, eps=eps, weight_decay=decay)
    m = v = torch.zeros(7, 5)
    for t in range(1, 8):
        g = torch.randn(7, 5) * 10.0 ** torch.randint(-5, 3, (7, 5))
        theirs.grad = g.clone()
        optimizer.step()
        mine, m, v = adamw_step(mine, g, m, v, t, lr, betas, eps, decay)
        # as mesmas contas em outra ordem: em float32 mudam as últimas casas
        assert torch.allclose(mine, theirs.detach(), rtol=1e-4, atol=1e-5), (
            "Os pesos se afastam dos de torch.optim.AdamW: confira a correção de m e v, o lugar de eps e o decaimento."
        )
        state = optimizer.state[theirs]
        assert torch.allclose(m, state["exp_avg"], rtol=1e-4, atol=1e-7), "m difere do de torch.optim.AdamW."
        assert torch.allclose(v, state["exp_avg_sq"], rtol=1e-4, atol=1e-12), (
            "v difere do de torch.optim.AdamW."
        )
### END HIDDEN TESTS

# %% [markdown]
# Um vale estreito mostra o que isso muda. O terreno é $f(x, y) = \frac12 (x^2 + 40 y^2)$: quarenta vezes mais inclinado numa direção que na outra.

# %%
with needs_exercise(2):
    slopes = torch.tensor([1.0, 40.0])
    paths = {"gradiente puro": [torch.tensor([-4.0, 1.0])], "AdamW": [torch.tensor([-4.0, 1.0])]}
    m = v = torch.zeros(2)
    for t in range(1, 31):
        w = paths["gradiente puro"][-1]
        paths["gradiente puro"].append(w - 0.045 * slopes * w)
        w = paths["AdamW"][-1]
        w, m, v = adamw_step(w, slopes * w, m, v, t, lr=0.3, weight_decay=0.0)
        paths["AdamW"].append(w)

    _, axes = plt.subplots(figsize=(8, 3))
    grid = torch.linspace(-4.5, 1.5, 200), torch.linspace(-1.4, 1.4, 100)
    height = 0.5 * (grid[0][None, :] ** 2 + 40 * grid[1][:, None] ** 2)
    axes.contour(*grid, height, levels=[0.5, 2, 5, 10, 20, 35], colors="#d9dde3")
    for (label, path), color in zip(paths.items(), ("#5b8e7d", "#f4a259"), strict=True):
        axes.plot(*torch.stack(path).T, "o-", color=color, markersize=4, label=label)
    axes.plot(0, 0, "*", color="#444", markersize=14)
    axes.set(xlabel="x (pouco inclinado)", ylabel="y (muito inclinado)")
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

    zero = torch.zeros(1)
    print(f"{'gradiente multiplicado por':>27} {'passo do gradiente puro':>24} {'passo do AdamW':>15}")
    for factor in (1e-3, 1.0, 1e3):
        step, _, _ = adamw_step(zero, factor * torch.ones(1), zero, zero, t=1, lr=0.01, weight_decay=0.0)
        print(f"{factor:27g} {0.01 * factor:24g} {-float(step[0]):15.6f}")

# %% [markdown]
# **Leitura do resultado.** O gradiente puro ziguezagueia na direção inclinada, que limita a taxa, e quase não anda na outra. O AdamW divide cada direção pela sua própria escala e vai em diagonal desde o primeiro passo (e passa um pouco do ponto: $m$ tem memória). A tabela diz o mesmo de outro modo: multiplicar o gradiente por mil não muda o passo do AdamW. Daí duas consequências que voltam adiante: o passo de **cada** peso é da ordem de $\eta$, mesmo o de um peso que não interessa à tarefa; e uma taxa alta demais mexe em tudo de uma vez. Se a última coluna muda com o fator, falta dividir por $\sqrt{\hat v}$.

# %% [markdown]
# ## 3. Aquecer e esfriar
#
# No começo, $v$ foi medido em dois ou três lotes, e o passo é grande e mal orientado: sobe-se a taxa aos poucos (**aquecimento**). No fim, passos grandes só fazem tremer em volta do mínimo: desce-se a taxa até zero, de preferência por um **cosseno**. No passo $s = 0, 1, 2, \dots$ de um total $S$, com aquecimento de $A$ passos:
#
# $$\eta_s = \begin{cases} \eta_{\max}\,\dfrac{s}{A} & s < A \\[2mm] \eta_{\max}\,\dfrac{1 + \cos(\pi\, p)}{2}, \quad p = \dfrac{s - A}{S - A} & s \ge A \end{cases}$$

# %% [markdown]
# ### Exercício 3: `learning_rate`
#
# ★★☆☆☆ · ◆◆◆◇◇ · 6 minutos · 2 pontos
#
# `learning_rate(step, steps, warmup, peak)` devolve $\eta_s$. Sem aquecimento (`warmup=0`), o primeiro passo já usa `peak`.


# %% nbgrader={"grade_id": "agenda", "solution": true}
def learning_rate(step, steps, warmup, peak):
    """A taxa do passo `step` (o primeiro é 0): sobe em linha reta, desce em cosseno até 0."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


# %% nbgrader={"grade_id": "agenda_teste", "points": 2}
rates = [learning_rate(step, steps=10, warmup=2, peak=0.4) for step in (0, 1, 2, 6)]
assert all(
    math.isclose(mine, right, abs_tol=1e-6) for mine, right in zip(rates, (0.0, 0.2, 0.4, 0.2), strict=True)
), (
    f"Com 2 passos de aquecimento e pico 0.4: 0, 0.2, 0.4 e, no meio da descida (passo 6), 0.2; recebi {rates}."
)
assert math.isclose(learning_rate(0, steps=5, warmup=0, peak=0.4), 0.4, rel_tol=1e-6), (
    "Sem aquecimento o primeiro passo já usa o pico."
)
### BEGIN HIDDEN TESTS
for steps, warmup, peak in ((40, 5, 3e-4), (17, 0, 1.0), (9, 8, 0.05), (100, 30, 2e-5)):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = get_scheduler("cosine", optimizer, warmup, steps)
    for step in range(steps):
        expected = schedule.get_last_lr()[0]
        assert math.isclose(
            learning_rate(step, steps, warmup, peak), expected, rel_tol=1e-6, abs_tol=1e-12
        ), "A agenda difere da da transformers em algum passo."
        optimizer.step()
        schedule.step()
### END HIDDEN TESTS

# %%
with needs_exercise(3):
    _, axes = plt.subplots(figsize=(7, 2.6))
    for warmup, color in ((0, "#8ab0ab"), (10, "#f4a259"), (40, "#5b8e7d")):
        rates = [learning_rate(step, 100, warmup, 5e-5) for step in range(100)]
        axes.plot(rates, color=color, label=f"aquecimento de {warmup}")
    axes.set(xlabel="passo", ylabel="taxa de aprendizado")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# ## 4. Um lote grande em pedaços
#
# Um lote de 32 cláusulas dá um gradiente menos ruidoso que um de 4, mas as ativações de 32 podem não caber. **Acumular gradientes** resolve: passam-se oito lotes de 4, somam-se os gradientes, e só então se dá o passo. O resultado deve ser **exatamente** o do lote grande.
#
# Deve, mas durante anos não foi: muitas bibliotecas dividiam a perda de cada pedaço por oito. A perda de um pedaço é a média dos *seus* tokens de resposta; se os pedaços têm números diferentes de tokens, a média das médias não é a média do todo, e uma resposta curta pesa mais que uma longa. O defeito foi achado, e corrigido na `transformers`, só em outubro de 2024.

# %% [markdown]
# ### Exercício 4: `accumulated_gradients`
#
# ★★★☆☆ · ◆◆◆◆◇ · 12 minutos · 3 pontos
#
# `accumulated_gradients(model, batches)` devolve `(loss, gradients)`: `gradients` é o dicionário nome → gradiente que `model` teria se todos os pedaços de `batches` fossem **um** lote, e `loss`, a perda desse lote (um número). Um `backward` por pedaço, para que as ativações de um só existam por vez, e nenhum gradiente que já estivesse no modelo pode sobrar.
#
# Cada pedaço é um dicionário `input_ids`, `attention_mask`, `labels`, e `model(**pedaço).loss` é a média sobre os seus tokens aprendidos. *Dicas:* quantos são eles? Os `labels` diferentes de `IGNORED`, a partir da segunda coluna (ninguém prevê a primeira). `gradients_of(model)`, na célula de apoio, copia os gradientes.


# %% nbgrader={"grade_id": "acumular", "solution": true}
def accumulated_gradients(model, batches):
    """(perda, {nome: gradiente}) do lote que os pedaços de `batches` formam juntos."""
    ### BEGIN SOLUTION
    sizes = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches]
    model.zero_grad()
    total = 0.0
    for batch, size in zip(batches, sizes, strict=True):
        share = model(**batch).loss * size / sum(sizes)
        share.backward()
        total += float(share.detach())
    return total, gradients_of(model)
    ### END SOLUTION


# %% nbgrader={"grade_id": "acumular_teste", "points": 3}
whole = random_batch([5, 5, 5, 5], seed=4)
twin = tiny_llama()
twin(**whole).loss.backward()
expected = gradients_of(twin)
loss, mine = accumulated_gradients(tiny_llama(), split(whole, [2, 2]))
assert sorted(mine) == sorted(expected), "O dicionário deve ter o gradiente de cada parâmetro do modelo."
assert all(torch.allclose(mine[name], g, rtol=1e-3, atol=1e-6) for name, g in expected.items()), (
    "Com respostas do mesmo tamanho, dois pedaços de 2 devem dar o gradiente do lote de 4."
)
### BEGIN HIDDEN TESTS
for answers, sizes, seed in (([1, 12, 3, 2, 7], [1, 3, 1], 5), ([9, 1], [1, 1], 6), ([2, 8, 4], [3], 7)):
    whole, twin = random_batch(answers, seed), tiny_llama(seed, layers=1)
    reference = twin(**whole).loss
    reference.backward()
    expected = gradients_of(twin)
    used = tiny_llama(seed, layers=1)
    accumulated_gradients(used, [random_batch([3], seed=99)])  # deixa gradientes no modelo
    loss, mine = accumulated_gradients(used, split(whole, sizes))
    assert math.isclose(float(loss), float(reference.detach()), rel_tol=1e-4), (
        "A perda deve ser a do lote inteiro: a média por token de resposta."
    )
    # as mesmas somas em outra ordem: em float32 mudam as últimas casas
    assert all(torch.allclose(mine[name], g, rtol=1e-3, atol=1e-6) for name, g in expected.items()), (
        "Com respostas de tamanhos diferentes o gradiente deve continuar igual ao do lote inteiro, e não ao da média das médias."
    )
### END HIDDEN TESTS

# %%
with needs_exercise(4):
    print(f"{'tokens de resposta em cada pedaço':<36} {'a sua':>10} {'média das médias':>17}")
    for answers in ([6, 6, 6, 6], [4, 5, 7, 8], [1, 2, 9, 12], [1, 1, 1, 40]):
        whole = random_batch(answers, seed=8)
        twin = tiny_llama()
        twin(**whole).loss.backward()
        right = torch.cat([g.flatten() for g in gradients_of(twin).values()])
        pieces = split(whole, [1, 1, 1, 1])
        _, mine = accumulated_gradients(tiny_llama(), pieces)
        naive = tiny_llama()
        for piece in pieces:
            (naive(**piece).loss / len(pieces)).backward()
        errors = [
            float((torch.cat([g.flatten() for g in found.values()]) - right).norm() / right.norm())
            for found in (mine, gradients_of(naive))
        ]
        print(f"{answers!s:<36} {errors[0]:10.1e} {errors[1]:17.1%}")

# %% [markdown]
# **Leitura do resultado.** É o erro do gradiente em relação ao do lote inteiro. A sua coluna fica na última casa do float32 (1e-7, mais ou menos); a da média das médias só é boa quando todas as respostas têm o mesmo tamanho, e na última linha o gradiente é *outro*. Nas nossas cláusulas os tipos têm de dois a seis tokens, e o erro não seria desprezível. Se a sua coluna passa de 1e-4, você pesou os pedaços por igual.

# %% [markdown]
# ## 5. Precisão: passos que somem
#
# Guardar pesos em 16 bits parece dar metade da memória de graça. Mas o ajuste fino anda a passos minúsculos, e um número de 16 bits tem poucas casas. O **bf16** guarda 8 bits significativos: entre 1 e 2 ele só conhece os números de 1/128 em 1/128. Some 0,001 a 1 em bf16: o resultado é 1. O passo foi **engolido**, e cem passos iguais também serão, porque cada um parte do mesmo lugar.
#
# O remédio é antigo: um **peso-mestre** em fp32, que recebe os passos, e uma cópia em 16 bits, com que se fazem as contas pesadas ([Micikevicius et al., 2017](https://arxiv.org/abs/1710.03740)). É o que faz o `autocast` do PyTorch, e por isso o ajuste completo em "16 bits" custa quase o mesmo que em 32.

# %% [markdown]
# ### Exercício 5: `apply_updates`
#
# ★★☆☆☆ · ◆◆◆◆◇ · 8 minutos · 2 pontos
#
# `apply_updates(w, updates, master)` soma a `w` (em 16 bits) cada tensor de `updates` (em fp32), um depois do outro, e devolve o resultado no dtype de `w`. Com `master=True`, quem recebe as somas é uma cópia fp32, arredondada só no fim. Com `master=False`, cada soma é arredondada para o dtype de `w`, como num treino em 16 bits puros.


# %% nbgrader={"grade_id": "mestre", "solution": true}
def apply_updates(w, updates, master):
    """Os pesos `w`, no mesmo dtype, depois de todos os passos de `updates`."""
    ### BEGIN SOLUTION
    kept = w.float()
    for update in updates:
        kept = kept + update
        if not master:
            kept = kept.to(w.dtype).float()
    return kept.to(w.dtype)
    ### END SOLUTION


# %% nbgrader={"grade_id": "mestre_teste", "points": 2}
one, small = torch.ones(1, dtype=torch.bfloat16), [torch.full((1,), 0.001)] * 100
pure, kept = apply_updates(one, small, master=False), apply_updates(one, small, master=True)
assert pure.dtype == kept.dtype == torch.bfloat16, "O resultado deve ter o dtype de w."
assert float(pure) == 1.0, (
    f"Sem peso-mestre, cada 0.001 some ao arredondar, e o peso fica em 1; recebi {float(pure)}."
)
assert math.isclose(float(kept), 1.1, rel_tol=0.004), (
    f"Com peso-mestre, cem passos de 0.001 levam a cerca de 1.1 (o vizinho em bf16); recebi {float(kept)}."
)
### BEGIN HIDDEN TESTS
for dtype, size, seed in ((torch.bfloat16, 1e-3, 1), (torch.float16, 1e-4, 2), (torch.bfloat16, 0.3, 3)):
    torch.manual_seed(seed)
    w = torch.randn(6, 4).to(dtype)
    before, updates = w.clone(), [size * torch.randn(6, 4) for _ in range(25)]
    exact = w.float()
    for update in updates:
        exact = exact + update
    mine = apply_updates(w, updates, master=True)
    assert mine.dtype == dtype and torch.equal(mine, exact.to(dtype)), (
        "Com master=True, some em fp32 e arredonde uma vez só, no fim."
    )
    rounded = w
    for update in updates:
        rounded = (rounded.float() + update).to(dtype)
    assert torch.equal(apply_updates(w, updates, master=False), rounded), (
        "Com master=False, arredonde para o dtype de w depois de cada soma."
    )
    assert torch.equal(apply_updates(w, [], master=True), before), "Sem passos, w não muda."
### END HIDDEN TESTS

# %% [markdown]
# Quanto disso acontece num modelo de verdade? O AdamW anda cerca de $\eta$ por peso. Pegamos os pesos do modelo base, em 16 e em 32 bits, e contamos quantos **não se mexem** com um passo desse tamanho.

# %%
model = base.load().float()
weights = torch.cat([p.detach().flatten()[::37] for p in model.parameters() if p.dim() == 2]).cpu()
rates = [1e-3, 1e-4, 1e-5, 1e-6]
with needs_exercise(5):
    print(f"{'passo':>8}" + "".join(f"{name:>8}" for name in ("bf16", "fp16", "fp32")))
    stuck = {}
    for rate in rates:
        for dtype in (torch.bfloat16, torch.float16, torch.float32):
            start = weights.to(dtype)
            end = apply_updates(start, [torch.full_like(weights, rate)], master=False)
            stuck[rate, dtype] = float((end == start).float().mean())
        print(f"{rate:8.0e}" + "".join(f"{stuck[rate, d]:8.1%}" for d in (torch.bfloat16, torch.float16, torch.float32)))  # fmt: skip

# %% [markdown]
# **Leitura do resultado.** Cada linha é uma taxa de aprendizado; cada célula, a fração dos pesos que um passo desse tamanho deixa onde estava. Na faixa em que se faz ajuste fino completo (1e-5 a 1e-4), o bf16 engole a maioria dos passos, o fp16 uma parte, e o fp32 nenhum ou quase. LoRA sofre menos: as suas matrizes nascem pequenas, e as taxas são dez vezes maiores; mesmo assim a `peft` as guarda em fp32. Se o fp32 mostra mais que uns poucos por cento, confira se você arredondou para o dtype certo.
#
# E o estrago no treino? O mesmo modelo de brinquedo, com pesos do tamanho dos de um modelo treinado (desvio de 0,1), decora oito sequências: com pesos em fp32, em bf16 puro e em bf16 com peso-mestre.


# %%
def memorise(dtype, master, steps=30 if reduced else 150, lr=1e-4):
    """As perdas de um treino cujos pesos moram em `dtype`, com ou sem peso-mestre."""
    model, batch = tiny_llama(seed=3), random_batch([12] * 8, seed=3)
    kept = {name: p.detach() * (5 if p.dim() == 2 else 1) for name, p in model.named_parameters()}
    kept = kept if master else {name: w.to(dtype) for name, w in kept.items()}
    moments = {name: (torch.zeros(w.shape), torch.zeros(w.shape)) for name, w in kept.items()}
    losses = []
    for t in range(1, steps + 1):
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(kept[name].to(dtype))
        loss, gradients = accumulated_gradients(model, [batch])
        losses.append(loss)
        for name, w in kept.items():
            start, (m, v) = w.float(), moments[name]
            end, m, v = adamw_step(start, gradients[name], m, v, t, lr, weight_decay=0.0)
            kept[name], moments[name] = apply_updates(w, [end - start], master=False), (m, v)
    return losses


with needs_exercise(2, 4, 5):
    curves = {
        "fp32": memorise(torch.float32, master=False),
        "bf16 com peso-mestre": memorise(torch.bfloat16, master=True),
        "bf16 puro": memorise(torch.bfloat16, master=False),
    }
    _, axes = plt.subplots(figsize=(7, 3))
    for (label, losses), style in zip(curves.items(), ("-", "--", "-"), strict=True):
        axes.plot(losses, style, label=f"{label}: {losses[-1]:.2f} no fim")
    axes.set(xlabel="passo", ylabel="perda")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **Leitura do resultado.** As contas são as mesmas; muda só onde os pesos moram entre um passo e outro. Com peso-mestre, a curva do bf16 fica sobre a do fp32. O bf16 puro desce a um terço do ritmo, porque só os pesos pequenos conseguem se mexer, sem erro nem aviso nenhum. É o defeito mais traiçoeiro desta aula: parece só um modelo que "aprende devagar".

# %% [markdown]
# ### Exercício 6: escala da perda
#
# ★★★☆☆ · ◆◆◆◇◇ · 12 minutos · 3 pontos (1 por `unscale`, 2 por `next_scale`)
#
# A T4 não tem bf16; tem **fp16**, com o problema oposto: mais casas, mas uma faixa estreita. Abaixo de 6e-8 tudo vira zero, e acima de 65.504 tudo vira infinito. Muitos gradientes são menores que isso. O truque é multiplicar a **perda** por uma escala grande antes do `backward` (a regra da cadeia multiplica todos os gradientes) e dividir os gradientes, já em fp32, antes do passo. Que escala? A maior que não estoure, procurada assim:
#
# - `unscale(gradients, scale)` devolve a lista dos gradientes em fp32, divididos por `scale`; ou `None`, se **algum** elemento não for finito (esse passo será pulado).
# - `next_scale(scale, good, finite, interval)` devolve `(scale, good)`. `good` conta os passos bons seguidos. Num passo com estouro (`finite=False`), a escala cai à metade e a contagem volta a zero. Num passo bom, a contagem sobe; quando chega a `interval`, a escala dobra e a contagem volta a zero.


# %% nbgrader={"grade_id": "escala", "solution": true}
def unscale(gradients, scale):
    """Os gradientes em fp32 sem a escala, ou None se algum não é finito."""
    ### BEGIN SOLUTION
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        return None
    return [g.float() / scale for g in gradients]
    ### END SOLUTION


def next_scale(scale, good, finite, interval=2000):
    """A escala do próximo passo e quantos passos bons seguidos houve até agora."""
    ### BEGIN SOLUTION
    if not finite:
        return scale / 2, 0
    if good + 1 == interval:
        return scale * 2, 0
    return scale, good + 1
    ### END SOLUTION


# %% nbgrader={"grade_id": "escala_tirar_teste", "points": 1}
halves = [torch.tensor([2.0, -4.0], dtype=torch.float16), torch.tensor([[8.0]], dtype=torch.float16)]
found = unscale(halves, 1024.0)
assert found is not None and [g.tolist() for g in found] == [[2 / 1024, -4 / 1024], [[8 / 1024]]], (
    "Divida cada gradiente por scale."
)
assert all(g.dtype == torch.float32 for g in found), "Os gradientes sem a escala devem estar em fp32."
assert unscale([*halves, torch.tensor([float("inf")])], 1024.0) is None, (
    "Um só infinito, em qualquer dos tensores, faz pular o passo: devolva None."
)
### BEGIN HIDDEN TESTS
torch.manual_seed(9)
for scale in (65_536.0, 3.0):
    exact = [torch.randn(4, 3), torch.randn(5)]
    scaled = [(g * scale / 100).half() for g in exact]
    found = unscale(scaled, scale)
    assert all(torch.equal(f, s.float() / scale) for f, s in zip(found, scaled, strict=True)), (
        "Passe para fp32 antes de dividir: em fp16 a divisão devolveria os pequenos a zero."
    )
for wrong in (float("nan"), float("-inf")):
    assert unscale([torch.zeros(3), torch.tensor([[0.0], [wrong]])], 2.0) is None, (
        "nan e -inf também não são finitos."
    )
assert unscale([torch.zeros(2)], 8.0) is not None, "Gradientes nulos são finitos."
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "escala_teste", "points": 2}
assert tuple(next_scale(1024.0, 0, finite=False)) == (512.0, 0), "Estouro: metade da escala."
assert tuple(next_scale(1024.0, 3, finite=True, interval=10)) == (1024.0, 4), (
    "Passo bom: a escala fica e a contagem sobe."
)
assert tuple(next_scale(1024.0, 9, finite=True, interval=10)) == (2048.0, 0), (
    "O décimo passo bom seguido, com interval=10, dobra a escala e zera a contagem."
)
### BEGIN HIDDEN TESTS
import random

for interval, start in ((3, 2.0**16), (1, 8.0), (5, 2.0**10)):
    scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=interval)
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.0)
    scaler.scale(torch.ones(1))
    scale, good = start, 0
    for _ in range(60):
        finite = random.random() < 0.8
        p.grad = torch.tensor([1.0, 1.0 if finite else float("inf")])
        scaler.step(optimizer)
        scaler.update()
        scale, good = next_scale(scale, good, finite, interval)
        assert scale == scaler.get_scale(), (
            "A escala se afasta da do torch.amp.GradScaler numa sequência de passos bons e estouros."
        )
### END HIDDEN TESTS

# %% [markdown]
# Os gradientes de verdade, de um lote de cláusulas, no modelo base: quantos sobrevivem em fp16?

# %%
from toolkit.data import collate, encode_all


def batch(examples):
    encoded = encode_all(base.tokenizer, examples, longest=1024)
    return {
        key: value.to(model.device) for key, value in collate(encoded, base.tokenizer.pad_token_id).items()
    }


model(**batch(train_data[: 2 if reduced else 4])).loss.backward()
gradients = [p.grad.flatten()[::37].cpu() for p in model.parameters() if p.grad is not None]
model.zero_grad()
values = torch.cat(gradients)
values = values[values != 0]
with needs_exercise(6):
    print(f"{'escala':>9} {'viram zero em fp16':>19} {'estouram':>10}")
    for power in (0, 8, 16, 24, 32):
        scaled = [(g * 2.0**power).half() for g in gradients]
        lost = float((torch.cat(scaled)[torch.cat(gradients) != 0] == 0).float().mean())
        print(f"{f'2^{power}':>9} {lost:19.2%} {'sim' if unscale(scaled, 2.0**power) is None else 'não':>10}")

_, axes = plt.subplots(figsize=(8, 3))
axes.hist(values.abs().log10(), bins=80, color="#8ab0ab")
for limit, text in ((math.log10(6e-8), "menor fp16"), (math.log10(65_504), "maior fp16")):
    axes.axvline(limit, color="#bc4b51", linestyle=":")
    axes.text(limit + 0.1, axes.get_ylim()[1] * 0.9, text, color="#bc4b51")
axes.set(xlabel="log₁₀ |gradiente|", yticks=[], ylabel="quantos")
axes.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# **Leitura do resultado.** Sem escala, a parte do histograma à esquerda da linha vira zero; cada potência de 2 empurra o histograma inteiro para a direita. Há uma faixa larga de escalas boas, e o exagero acaba em estouro: por isso a escala é *procurada*, e não calculada. O bf16 tem a mesma faixa do fp32 e não precisa de nada disso. Se a coluna do meio não cai quando a escala sobe, você converteu para fp16 antes de multiplicar.

# %% [markdown]
# ## 6. O laço
#
# Tudo no lugar: a perda que só olha a resposta, o lote em pedaços, a agenda, o AdamW. Falta o laço, e uma rede de segurança: **limitar a norma** do gradiente. Um lote estranho pode dar um gradiente enorme; se a norma de *todos* os gradientes juntos passa de um limite, todos são multiplicados pelo mesmo fator, de modo que a norma fique no limite. A direção não muda.

# %% [markdown]
# ### Exercício 7: `fine_tune`
#
# ★★★★☆ · ◆◆◆◆◆ · 15 minutos · 3 pontos
#
# `fine_tune(model, groups, peak, warmup, max_norm)` treina `model` no lugar e devolve a lista das perdas, uma por passo. `groups` tem um elemento por passo: a lista de pedaços daquele passo. A cada passo `s` (a partir de 0):
#
# 1. `accumulated_gradients` dá a perda e os gradientes;
# 2. se a norma de todos juntos passa de `max_norm`, multiplique-os por `max_norm / norma`;
# 3. `adamw_step` em cada parâmetro, com a taxa de `learning_rate`, `t = s + 1` e **sem** decaimento (`weight_decay=0`). Guarde `m` e `v` de cada um.
#
# *Dicas:* para escrever num parâmetro, `with torch.no_grad(): p.copy_(novo)`. O teste compara os seus pesos, no fim, com os de um laço feito de `torch.optim.AdamW`, `get_scheduler` e `clip_grad_norm_`.


# %% nbgrader={"grade_id": "laco", "solution": true}
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    """Treina todos os pesos de `model`, um passo por grupo de pedaços; devolve as perdas."""
    ### BEGIN SOLUTION
    parameters = dict(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}
    losses = []
    for step, group in enumerate(groups):
        loss, gradients = accumulated_gradients(model, group)
        losses.append(loss)
        norm = torch.stack([g.norm() for g in gradients.values()]).norm()
        factor = min(1.0, max_norm / float(norm))
        lr = learning_rate(step, len(groups), warmup, peak)
        with torch.no_grad():
            for name, p in parameters.items():
                new, *moments[name] = adamw_step(
                    p, factor * gradients[name], *moments[name], step + 1, lr, weight_decay=0.0
                )
                p.copy_(new)
    return losses
    ### END SOLUTION


# %% nbgrader={"grade_id": "laco_teste", "points": 3}
def reference_loop(model, groups, peak, warmup, max_norm):
    """O mesmo treino com as peças do PyTorch e da transformers, o grupo num lote só; as perdas."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    schedule = get_scheduler("cosine", optimizer, warmup, len(groups))
    losses = []
    for whole in groups:
        loss = model(**whole).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


wholes = [random_batch([3, 8, 1, 5], seed=step) for step in range(6)]
reference, model_in_training = tiny_llama(), tiny_llama()
expected = reference_loop(reference, wholes, peak=0.01, warmup=1, max_norm=1.0)
losses = fine_tune(model_in_training, [split(w, [2, 2]) for w in wholes], peak=0.01, warmup=1, max_norm=1.0)
assert len(losses) == 6, f"Uma perda por passo: seis; recebi {len(losses)}."
assert math.isclose(losses[0], expected[0], rel_tol=1e-4), (
    f"A perda do primeiro passo é a do modelo ainda sem treino, {expected[0]:.4f}; recebi {losses[0]:.4f}."
)
assert all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(losses, expected, strict=True)), (
    f"As perdas se afastam das de referência: {[round(x, 3) for x in expected]}; recebi {[round(x, 3) for x in losses]}."
)
### BEGIN HIDDEN TESTS
for answers, sizes, peak, warmup, max_norm, seed in (
    ([2, 9, 4], [1, 2], 3e-3, 0, 0.05, 31),
    ([5, 1], [1, 1], 0.02, 3, 100.0, 32),
):
    wholes = [random_batch(answers, seed=seed * 100 + step) for step in range(7)]
    reference, trained = tiny_llama(seed, layers=1), tiny_llama(seed, layers=1)
    start = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    expected = reference_loop(reference, wholes, peak, warmup, max_norm)
    losses = fine_tune(trained, [split(w, sizes) for w in wholes], peak, warmup, max_norm)
    assert all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(losses, expected, strict=True)), (
        "As perdas se afastam das de referência com outros aquecimentos, limites de norma ou pedaços."
    )
    state = trained.state_dict()
    for name, tensor in reference.state_dict().items():
        # o passo divide por √v: onde o gradiente é quase zero, a última casa do float32 pesa mais
        assert torch.allclose(state[name], tensor, rtol=1e-2, atol=2e-2 * peak), (
            "Os pesos finais diferem dos de torch.optim.AdamW com get_scheduler e clip_grad_norm_."
        )
        assert not torch.equal(state[name], start[name]), "No ajuste completo, todos os pesos mudam."
### END HIDDEN TESTS

# %% [markdown]
# É isto, e pouco mais, que o `train` do `toolkit` faz: a mais, ele mede tempo e memória, guarda checkpoints para retomar uma sessão perdida e usa a escala da perda onde a GPU só tem fp16.

# %% [markdown]
# ## 7. Cabe? Saber antes de tentar
#
# A conta da aula 01 responde em uma linha: treinar tudo com AdamW pede **16 bytes por parâmetro**, e isso sem ler um texto. Se só essa parcela já passa da memória da placa, não há lote pequeno que salve. Se não passa, falta somar ativações e logits, que dependem do lote e do comprimento: é o que `estimate` faz, e `fit` compara com a placa. O modelo da conta não precisa ser baixado.

# %%
from toolkit import Architecture, Full, Plan, count
from toolkit.vram import GIB, estimate, fit, simulate

VERDICTS = {"fits": "cabe", "tight": "no limite", "exceeds": "não cabe"}
NAMES = ["TucanoBR/Tucano-160m", "TucanoBR/Tucano-630m", "TucanoBR/Tucano-1b1"]


def t4_plan(name, **changes):
    """Ajuste completo numa T4: pesos-mestre em fp32, contas em fp16, quatro sequências de 160 tokens."""
    switches = {"gpu": "T4", "dtype": "fp32", "compute_dtype": "fp16", "autocast": True}
    return Plan(Architecture.from_config(name), Full(), batch=4, seq_len=160).change(**switches, **changes)


plans = {name.split("/")[1]: t4_plan(name) for name in NAMES}
results = {name: fit(plan, "T4") for name, plan in plans.items()}
card = results["Tucano-1b1"].gpu.memory
print(f"T4: {card / GIB:.1f} GiB\n\n{'modelo':<14} {'16 B × N':>10} {'previsto':>10}   veredito")
for name, result in results.items():
    floor = 16 * count(plans[name]).total
    print(
        f"{name:<14} {floor / GIB:6.1f} GiB {result.memory.process.value / GIB:6.1f} GiB   {VERDICTS[result.verdict]}"
    )
print("\nO que faria o Tucano-1b1 caber, do mais barato ao mais caro:")
for fix in [fix for fix in results["Tucano-1b1"].fixes if fix.verdict == "fits"][:4]:
    print(f"  {fix} ({fit(fix.plan, 'T4').memory.process.value / GIB:.1f} GiB)".replace(".", ","))

# %% [markdown]
# E se alguém tentar assim mesmo? O `train` faz a mesma pergunta antes de carregar o modelo (à GPU desta máquina ou, sem GPU, à do plano):

# %%
from toolkit.recipe import TrainingError
from toolkit.room import check_room

try:
    check_room(plans["Tucano-1b1"])
    print("nesta GPU, cabe")
except TrainingError as refusal:
    print(refusal)

# %%
PARTS = {
    "pesos": ("weights",),
    "gradientes": ("gradients",),
    "estados do AdamW": ("optimizer_states",),
    "cópias do otimizador": ("optimizer_temporaries",),
    "ativações e logits": ("activations", "recompute", "logits"),
}
COLORS = ("#d9dde3", "#8cb369", "#bc4b51", "#f4a259", "#5b8e7d")


def plot_parts(memories, line=0):
    """Barras empilhadas do pico de cada Memory, por parte, em GiB; `line` é o limite da placa, em bytes."""
    _, axes = plt.subplots(figsize=(8.5, 0.9 + 0.55 * len(memories)))
    for row, memory in enumerate(memories.values()):
        left = 0.0
        for names, color in zip(PARTS.values(), COLORS, strict=True):
            width = sum(memory.peak.get(name, 0) for name in names) / GIB
            axes.barh(row, width, left=left, color=color)
            left += width
    axes.set_yticks(range(len(memories)), memories)
    axes.invert_yaxis()
    if line:
        axes.axvline(line / GIB, color="#444", linestyle=":")
    axes.set_xlabel("GiB no momento do pico")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in COLORS]
    axes.legend(handles, PARTS, ncols=5, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1.0))  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()


plot_parts({name: result.memory for name, result in results.items()}, card)

# %% [markdown]
# **Leitura do resultado.** A linha pontilhada é a T4. O Tucano-1b1 está condenado já na coluna "16 B × N": ninguém precisa carregar nada para saber. O Tucano-630m passaria pelos 16 bytes, e mesmo assim fica no limite: no momento do passo, o AdamW do PyTorch faz mais uma cópia do tamanho do modelo (a fatia laranja). No pico dos três, quem manda são pesos, gradientes e otimizador; as ativações de um lote pequeno nem aparecem. Repare nas saídas que `fit` oferece, e no que elas têm em comum: mexem nos **estados** (um otimizador de 8 bits) ou no método (LoRA, QLoRA, que deixam de treinar quase tudo). Diminuir o lote não está entre elas, e agora você sabe por quê.
#
# "Previsto" merece desconfiança até ser medido. O plano do nosso treino, três vezes: pela fórmula (`estimate`), pela simulação do código de verdade em tensores sem dados (`simulate`), e **medido**, em dois passos com pesos sorteados.

# %%
from toolkit.vram import measure

plan = base.plan(Full(), batch=4, seq_len=160)
device = model.device.type
del model
memories = {"previsto": estimate(plan), "simulado": simulate(plan), "medido": measure(plan, device)}
print(f"{base.name}: lote {plan.batch}, {plan.seq_len} tokens, pesos em {plan.dtype}, medido em {device}\n")
print(f"{'':<10} {'pico':>10} {'erro':>8}   momento do pico")
for label, memory in memories.items():
    error = memory.allocated.value / memories["medido"].allocated.value - 1
    print(f"{label:<10} {memory.allocated.value / GIB:6.2f} GiB {error:+8.1%}   {memory.peak_moment}")
plot_parts(memories)

# %% [markdown]
# **Leitura do resultado.** As três barras ficam a poucos por cento uma da outra. (As previsões incluem 16 MiB de espaço de trabalho da cuBLAS, que uma CPU não tem.) Repare no **momento** do pico: com quatro sequências, ativações e logits pesam mais que os gradientes, e o pico passa do otimizador para a perda. Por isso 16 bytes por parâmetro são um *piso*: condenam um plano, mas não o aprovam. Um erro de dezenas de por cento diria que o plano não descreve o treino (outro dtype, outro comprimento); num modelo de brinquedo ele também aparece, porque lá os 16 MiB são quase tudo.

# %% [markdown]
# ## 8. O treino de verdade
#
# Antes de treinar, a linha de base. A tarefa tem doze tipos, e o modelo escolhe o de maior probabilidade. A medida é o **macro-F1**, a média do F1 dos doze tipos, com o mesmo peso para cada um: 1 é perfeito, e o acaso dá cerca de 0,08. E como queremos saber também o que se **perde**, medimos a **perplexidade** do modelo em textos gerais em português, que não têm nada a ver com contratos: é $e^{\text{perda}}$, o número de tokens entre os quais o modelo hesita, em média, a cada posição.

# %%
from toolkit import choose, clauses, macro_f1, perplexity

SIZES = {  # passos do treino, passos da taxa alta, cláusulas de teste
    "cpu": (70, 8, 48),
    "t4": (400, 60, 360),
    "big": (400, 60, 360),
}
steps, high_steps, tested = (2, 2, 12) if reduced else SIZES[machine.profile]
task = clauses(DADOS)
kinds = sorted({example.answer for example in task.train})
asked, truth = zip(*((example.prompt, example.answer) for example in task.test[:tested]), strict=True)
general = (DADOS / "geral" / "textos.txt").read_text(encoding="utf-8").strip().split("\n\n")
general = general[: 2 if reduced else None]


def examine(model):
    """As respostas do modelo às cláusulas de teste, e a sua perplexidade em textos gerais."""
    return choose(model, base.tokenizer, asked, kinds), perplexity(model, base.tokenizer, general)


def interval(guesses, draws=20 if reduced else 300):
    """Onde cairia o macro-F1 em 19 de 20 outros sorteios de cláusulas (bootstrap)."""
    generator = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(draws):
        rows = torch.randint(len(truth), (len(truth),), generator=generator).tolist()
        scores.append(macro_f1([truth[i] for i in rows], [guesses[i] for i in rows]))
    return torch.tensor(scores).quantile(torch.tensor([0.025, 0.975])).tolist()


found = {"base": examine(base.model)}
low, high = interval(found["base"][0])
print(f"macro-F1 em {tested} cláusulas: {macro_f1(truth, found['base'][0]):.2f} (de {low:.2f} a {high:.2f})")
print(f"perplexidade em textos gerais: {found['base'][1]:.1f}")

# %% [markdown]
# **Leitura do resultado.** O modelo base está no acaso: não conhece os doze nomes, e escolhe quase sempre os mesmos. O intervalo é largo porque são poucas cláusulas; uma diferença que cabe dentro dele não quer dizer nada. A perplexidade não tem um valor certo (o SmolLM2 leu sobretudo inglês, e a dele em português é alta; a de um modelo treinado em português é bem menor): o que interessa é quanto ela **muda** depois do ajuste.

# %% [markdown]
# Agora o treino, de todos os pesos. Na CPU são alguns minutos; se for interrompido, rode a célula de novo e ele continua de onde parou.

# %%
from toolkit import plot_loss, train

RATE, HIGH_RATE = 1e-4, 1e-3


def full_fine_tune(rate, steps, **kept):
    """O ajuste fino completo, com a taxa máxima `rate`; `kept` diz onde guardar checkpoints."""
    return train(
        plan.change(seq_len=1024),
        task.train,
        base,
        steps=steps,
        learning_rate=rate,
        validation=task.validation[: 2 if reduced else 12],
        validate_every=max(1, steps // 4),
        **kept,
    )


run = full_fine_tune(RATE, steps, checkpoint_dir="runs/02_completo", checkpoint_every=35, resume=True)
plot_loss({f"completo, taxa {RATE:g}": run})

# %%
print(f"parâmetros treinados: {run.trainable:_} de {run.parameters:_}")
print(f"tempo: {run.seconds:.0f} s, {run.tokens_per_second:.0f} tokens/s")
print(f"pico de memória: {run.peak_memory / GIB:.2f} GiB ({run.memory_kind}); previsto: {memories['previsto'].allocated.value / GIB:.2f} GiB")  # fmt: skip
print(f"o modelo treinado, em disco: {run.adapter_bytes / 2**20:.0f} MiB")
found["ajuste completo"] = examine(run.model)
for label, (guesses, general_perplexity) in found.items():
    low, high = interval(guesses)
    print(f"\n{label:<16} macro-F1 {macro_f1(truth, guesses):.2f} (de {low:.2f} a {high:.2f})   perplexidade geral {general_perplexity:.1f}", end="")  # fmt: skip
gain = macro_f1(truth, found["ajuste completo"][0]) - macro_f1(truth, found["base"][0])
print(f"\n\nganho de macro-F1: {gain:+.2f}")

# %% [markdown]
# **Leitura do resultado.** A perda na validação despenca nos primeiros passos, quando o modelo aprende o **formato** (responder com um nome e parar), e depois desce devagar, enquanto aprende a **distinguir** os tipos; só esta segunda parte aparece no macro-F1. A última linha diz quanto se ganhou; se os dois intervalos não se cruzam, o ganho não é sorte. Para comparar, contar palavras (TF-IDF com regressão logística, na ficha dos dados) dá 0,49, com todas as 864 cláusulas de treino. O pico medido numa CPU é o do processo inteiro (RSS), e não coincide com o previsto para uma GPU. Se o macro-F1 não sai do acaso, mas a perda caiu, faltam passos.

# %%
_, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
for axes, (label, (guesses, _)) in zip(panels, found.items(), strict=True):
    table = torch.zeros(len(kinds), len(kinds))
    for right, guess in zip(truth, guesses, strict=True):
        table[kinds.index(right), kinds.index(guess)] += 1
    axes.imshow(table / table.sum(1, keepdim=True), cmap="Oranges", vmin=0, vmax=1)
    for row, column in table.nonzero().tolist():
        axes.text(column, row, int(table[row, column]), ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(kinds)), kinds, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
    axes.set(title=label, xlabel="o que o modelo disse")
panels[0].set_ylabel("o tipo da cláusula")
plt.tight_layout()
plt.show()

# %% [markdown]
# **Leitura do resultado.** Cada linha é um tipo, cada coluna, uma resposta; acertos na diagonal. À esquerda, colunas: o modelo base responde o mesmo para quase tudo. À direita, quanto mais o macro-F1 subiu, mais a diagonal aparece, e as confusões que sobram costumam ser entre tipos que falam do mesmo (multa e responsabilidade, pagamento e reajuste). Uma coluna cheia à direita seria um tipo que o modelo usa quando não sabe.

# %% [markdown]
# ## 9. O que uma taxa alta demais faz
#
# Cada peso anda cerca de $\eta$ por passo, interesse ou não à tarefa. Com uma taxa dez vezes maior, poucos passos bastam para ver o que acontece.

# %%
high_run = full_fine_tune(HIGH_RATE, high_steps)
plot_loss({f"taxa {RATE:g}": run, f"taxa {HIGH_RATE:g}": high_run})

# %%
from toolkit import answer

found["taxa alta"] = examine(high_run.model)
moved = {}
start = dict(base.model.named_parameters())
for label, trained in (("ajuste completo", run.model), ("taxa alta", high_run.model)):
    squares = [
        (
            (p.detach() - start[name].detach().to(p.dtype)).square().sum(),
            start[name].detach().float().square().sum(),
        )
        for name, p in trained.named_parameters()
    ]
    moved[label] = float(sum(a for a, _ in squares) / sum(b for _, b in squares)) ** 0.5
print(f"{'':<16} {'macro-F1':>9} {'perplexidade geral':>19} {'quanto os pesos andaram':>24}")
for label, (guesses, general_perplexity) in found.items():
    print(
        f"{label:<16} {macro_f1(truth, guesses):9.2f} {general_perplexity:19.1f} {moved.get(label, 0):24.2%}"
    )

print("\nUma pergunta que não tem nada a ver com contratos: 'Escreva uma frase curta sobre o mar.'")
for label, asked_model in (
    ("base", base.model),
    ("ajuste completo", run.model),
    ("taxa alta", high_run.model),
):
    text = answer(asked_model, base.tokenizer, "Escreva uma frase curta sobre o mar.", max_new_tokens=30)
    print(f"  {label:<16} {text!r}")

# %% [markdown]
# **Leitura do resultado.** As três linhas são o mesmo modelo com três histórias. Com a taxa boa, os pesos andam pouco, e a perplexidade em textos gerais diz quanto isso custou fora da tarefa. Com a taxa alta, em poucos passos eles andam muito mais. A perda da tarefa também cai, e depressa: quem olha só para ela vê um bom treino. O estrago está na outra coluna, a do que o modelo sabia da língua. E olhe as frases: um modelo ajustado para uma tarefa só tende a responder a *qualquer* pergunta como se fosse uma cláusula. Nada disso aparece na perda de treino; só apareceu porque medimos fora da tarefa. Os remédios: taxa menor, menos passos, misturar textos gerais aos dados, ou não mexer nos pesos, que é o assunto da próxima aula. Se a taxa alta deixa a perplexidade igual à da base, o treino não chegou a começar.

# %% [markdown]
# ## O que fica
#
# - A perda olha só a resposta, por token, no lote inteiro; a média das médias é outro gradiente.
# - AdamW anda cerca de $\eta$ em cada peso. Isso o torna robusto à escala dos gradientes, e perigoso com taxa alta.
# - 16 bits para as contas, 32 para os pesos que se treinam. O bf16 engole passos; o fp16 zera gradientes, e pede escala.
# - Se 16 bytes × parâmetros já passam da placa, não cabe, e nenhum lote pequeno resolve. `fit` diz o que resolve.
# - O ajuste completo mexe em tudo, e **esquece**: meça a tarefa *e* o que ficou de fora dela. E cada cliente é um modelo inteiro em disco.
#
# Na **aula 03**, a saída: congelar tudo e treinar, ao lado, menos de 1 % dos parâmetros.
#
# **Para ler mais:** AdamW ([Loshchilov e Hutter, 2017](https://arxiv.org/abs/1711.05101)); treino em precisão mista ([Micikevicius et al., 2017](https://arxiv.org/abs/1710.03740)); o que o ajuste completo esquece, e o LoRA menos ([Biderman et al., 2024](https://arxiv.org/abs/2405.09673)).
