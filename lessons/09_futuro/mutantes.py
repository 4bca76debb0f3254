# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% numa_copia answer="adaptador_de_fora" right=true
def forward_with(model, ids, adapter):
    from copy import deepcopy

    twin = deepcopy(model)
    twin.load_state_dict(dict(adapter), strict=False)
    return twin(input_ids=ids, use_cache=False).logits[:, -1, :]


# %% com_todos_os_parametros answer="adaptador_de_fora" right=true
def forward_with(model, ids, adapter):
    everything = {**dict(model.named_parameters()), **adapter}
    out = torch.func.functional_call(model, everything, args=(), kwargs={"input_ids": ids})
    return out.logits[:, -1]


# %% resposta_fixa answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    with torch.no_grad():
        if not adapter:
            return model(input_ids=ids).logits[:, -1]
        with model.disable_adapter():
            return model(input_ids=ids).logits[:, -1]


# %% copia_por_cima answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    model.load_state_dict(dict(adapter), strict=False)
    return model(input_ids=ids, use_cache=False).logits[:, -1]


# %% todos_os_tokens answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    return torch.func.functional_call(model, adapter, (), {"input_ids": ids, "use_cache": False}).logits


# %% primeiro_token answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    return torch.func.functional_call(model, adapter, (), {"input_ids": ids, "use_cache": False}).logits[:, 0]


# %% ignora_o_adaptador answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    return model(input_ids=ids, use_cache=False).logits[:, -1]


# %% soma_em_vez_de_trocar answer="adaptador_de_fora" right=false
def forward_with(model, ids, adapter):
    own = dict(model.named_parameters())
    summed = {name: own[name] + tensor for name, tensor in adapter.items()}
    return torch.func.functional_call(model, summed, (), {"input_ids": ids}).logits[:, -1]


# %% por_partes answer="teto" right=true
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    width = config.hidden_size / config.num_attention_heads * config.num_key_value_heads
    per_token = 2 * width * config.num_hidden_layers * kv_bytes
    return 1 / (weight_bytes / bandwidth + per_token * tokens / bandwidth)


# %% somando_camadas answer="teto" right=true
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    total = weight_bytes
    for _ in range(config.num_hidden_layers):
        for _ in ("chaves", "valores"):
            head = config.hidden_size // config.num_attention_heads
            total += tokens * config.num_key_value_heads * head * kv_bytes
    return bandwidth / total


# %% resposta_fixa answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    return 1000.0 if tokens == 0 else 1e9 / 1_256_000


# %% todas_as_cabecas answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    cache = 2 * config.num_hidden_layers * config.hidden_size * tokens * kv_bytes
    return bandwidth / (weight_bytes + cache)


# %% so_as_chaves answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    head = config.hidden_size // config.num_attention_heads
    return bandwidth / (
        weight_bytes + config.num_hidden_layers * config.num_key_value_heads * head * tokens * kv_bytes
    )


# %% sem_kv answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    return bandwidth / weight_bytes


# %% sempre_dois_bytes answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2, straight=decode_ceiling):
    return straight(config, weight_bytes, tokens, bandwidth, 2)


# %% uma_camada_so answer="teto" right=false
def decode_ceiling(config, weight_bytes, tokens, bandwidth, kv_bytes=2):
    head = config.hidden_size // config.num_attention_heads
    return bandwidth / (weight_bytes + 2 * config.num_key_value_heads * head * tokens * kv_bytes)


# %% limitando_a_fracao answer="orcamento" right=true
def rank_budget(step, total, start, end, warmup, final):
    done = (step - warmup) / (total - final - warmup)
    left = 1 - min(1.0, max(0.0, done))
    return math.floor((start - end) * left**3 + end)


# %% com_numpy answer="orcamento" right=true
def rank_budget(step, total, start, end, warmup, final):
    import numpy as np

    left = np.clip((total - final - step) / (total - final - warmup), 0, 1)
    return int(end + (start - end) * left * left * left)


# %% resposta_fixa answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    return {0: 80, 90: 40}.get(step, 45)


# %% em_linha_reta answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    left = 1 - min(1.0, max(0.0, (step - warmup) / (total - final - warmup)))
    return int(end + (start - end) * left)


# %% cubo_ao_contrario answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    done = min(1.0, max(0.0, (step - warmup) / (total - final - warmup)))
    return int(start - (start - end) * done**3)


# %% sem_aquecimento answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    left = 1 - min(1.0, step / (total - final))
    return int(end + (start - end) * left**3)


# %% sem_o_fim answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    left = 1 - max(0.0, (step - warmup) / (total - warmup))
    return int(end + (start - end) * left**3)


# %% nao_inteiro answer="orcamento" right=false
def rank_budget(step, total, start, end, warmup, final):
    left = 1 - min(1.0, max(0.0, (step - warmup) / (total - final - warmup)))
    return end + (start - end) * left**3


# %% pelo_limiar answer="repartir" right=true
def allocate(scores, budget):
    values = sorted((float(v) for part in scores.values() for v in part), reverse=True)
    limit = values[min(budget, len(values)) - 1] if budget else float("inf")
    return {name: int((part >= limit).sum()) for name, part in scores.items()}


# %% por_lista answer="repartir" right=true
def allocate(scores, budget):
    triplets = sorted(((float(v), name) for name, part in scores.items() for v in part), reverse=True)
    ranks = dict.fromkeys(scores, 0)
    for _, name in triplets[:budget]:
        ranks[name] += 1
    return ranks


# %% resposta_fixa answer="repartir" right=false
def allocate(scores, budget):
    return {"q": 1, "v": 3, "up": 0} if budget == 4 else {"q": 3, "v": 3, "up": 1}


# %% por_igual answer="repartir" right=false
def allocate(scores, budget):
    share, extra = divmod(budget, len(scores))
    return {name: min(len(part), share + (i < extra)) for i, (name, part) in enumerate(scores.items())}


# %% pela_media answer="repartir" right=false
def allocate(scores, budget):
    total = sum(float(part.mean()) for part in scores.values())
    return {name: round(budget * float(part.mean()) / total) for name, part in scores.items()}


# %% os_menores answer="repartir" right=false
def allocate(scores, budget, largest=allocate):
    return largest({name: -part for name, part in scores.items()}, budget)


# %% ao_menos_um answer="repartir" right=false
def allocate(scores, budget, straight=allocate):
    return {name: max(1, rank) for name, rank in straight(scores, budget).items()}


# %% sem_limite_de_total answer="repartir" right=false
def allocate(scores, budget):
    together = torch.cat(list(scores.values()))
    limit = together.topk(budget).values.min() if budget else 2.0
    return {name: int((part >= limit).sum()) for name, part in scores.items()}


# %% um_a_mais answer="repartir" right=false
def allocate(scores, budget, straight=allocate):
    return straight(scores, budget + 1)


# %% peso_em_b answer="empilhar" right=true
def stack(adapters, weights):
    tall = torch.vstack([a for a, _, _ in adapters])
    wide = torch.hstack([w * s * b for (_, b, s), w in zip(adapters, weights, strict=False)])
    return tall, wide


# %% raiz_nos_dois answer="empilhar" right=true
def stack(adapters, weights):
    tall, wide = [], []
    for (a, b, scaling), w in zip(adapters, weights, strict=False):
        factor = w * scaling
        tall.append(abs(factor) ** 0.5 * a)
        wide.append(math.copysign(abs(factor) ** 0.5, factor) * b)
    return torch.cat(tall), torch.cat(wide, dim=1)


# %% resposta_fixa answer="empilhar" right=false
def stack(adapters, weights):
    (a1, b1, _), (a2, b2, _) = adapters[:2]
    return torch.cat([0.7 * 2.0 * a1, -0.5 * a2]), torch.cat([b1, b2], dim=1)


# %% soma_os_fatores answer="empilhar" right=false
def stack(adapters, weights):
    rank = max(a.shape[0] for a, _, _ in adapters)
    tall = sum(
        w * s * nn.functional.pad(a, (0, 0, 0, rank - len(a)))
        for (a, _, s), w in zip(adapters, weights, strict=False)
    )
    wide = sum(nn.functional.pad(b, (0, rank - b.shape[1])) for _, b, _ in adapters)
    return tall, wide


# %% sem_escala answer="empilhar" right=false
def stack(adapters, weights):
    return torch.cat([w * a for (a, _, _), w in zip(adapters, weights, strict=False)]), torch.cat(
        [b for _, b, _ in adapters], dim=1
    )


# %% sem_peso answer="empilhar" right=false
def stack(adapters, weights):
    return torch.cat([s * a for a, _, s in adapters]), torch.cat([b for _, b, _ in adapters], dim=1)


# %% peso_duas_vezes answer="empilhar" right=false
def stack(adapters, weights):
    tall = torch.cat([w * s * a for (a, _, s), w in zip(adapters, weights, strict=False)])
    return tall, torch.cat([w * b for (_, b, _), w in zip(adapters, weights, strict=False)], dim=1)


# %% fora_de_ordem answer="empilhar" right=false
def stack(adapters, weights):
    tall = torch.cat([w * s * a for (a, _, s), w in zip(adapters, weights, strict=False)])
    return tall, torch.cat([b for _, b, _ in reversed(adapters)], dim=1)


# %% peso_sem_sinal answer="empilhar" right=false
def stack(adapters, weights, straight=stack):
    return straight(adapters, [abs(w) for w in weights])


# %% raiz_dos_valores answer="encolher" right=true
def shrink(A, B, rank):
    left, values, right = torch.linalg.svd(B @ A)
    root = values[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


# %% sem_montar_o_produto answer="encolher" right=true
def shrink(A, B, rank):
    q_b, r_b = torch.linalg.qr(B)
    q_a, r_a = torch.linalg.qr(A.T)
    left, values, right = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return right[:rank] @ q_a.T, q_b @ left[:, :rank] * values[:rank]


# %% resposta_fixa answer="encolher" right=false
def shrink(A, B, rank):
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    return right[:2], left[:, :2] * values[:2]


# %% corta_os_fatores answer="encolher" right=false
def shrink(A, B, rank):
    return A[:rank], B[:, :rank]


# %% os_mais_fracos answer="encolher" right=false
def shrink(A, B, rank):
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    return right[-rank:], left[:, -rank:] * values[-rank:]


# %% valores_ao_quadrado answer="encolher" right=false
def shrink(A, B, rank):
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    return values[:rank, None] * right[:rank], left[:, :rank] * values[:rank]


# %% sem_os_valores answer="encolher" right=false
def shrink(A, B, rank):
    left, _, right = torch.linalg.svd(B @ A, full_matrices=False)
    return right[:rank], left[:, :rank]


# %% svd_de_cada_fator answer="encolher" right=false
def shrink(A, B, rank):
    u, s, v = torch.linalg.svd(A, full_matrices=False)
    return s[:rank, None] * v[:rank], B @ u[:, :rank] * 1.0001 ** torch.arange(rank)


# %% com_logsumexp answer="contrastiva" right=true
def contrastive_loss(images, texts, scale):
    one, two = images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)
    table = one @ two.T * scale
    right = table.diagonal()
    return ((table.logsumexp(0) - right) + (table.logsumexp(1) - right)).mean() / 2


# %% com_log_softmax answer="contrastiva" right=true
def contrastive_loss(images, texts, scale):
    table = nn.functional.cosine_similarity(images[:, None], texts[None], dim=-1) * scale
    both = table.log_softmax(0).diagonal() + table.log_softmax(1).diagonal()
    return -both.mean() / 2


# %% resposta_fixa answer="contrastiva" right=false
def contrastive_loss(images, texts, scale):
    return torch.tensor(math.log(math.exp(2) + 2) - 2 if scale == 2.0 else math.log(4))


# %% sem_normalizar answer="contrastiva" right=false
def contrastive_loss(images, texts, scale):
    table, right = scale * images @ texts.T, torch.arange(len(images))
    return (nn.functional.cross_entropy(table, right) + nn.functional.cross_entropy(table.T, right)) / 2


# %% so_num_sentido answer="contrastiva" right=false
def contrastive_loss(images, texts, scale):
    table = scale * nn.functional.normalize(images) @ nn.functional.normalize(texts).T
    return nn.functional.cross_entropy(table, torch.arange(len(images)))


# %% sem_escala answer="contrastiva" right=false
def contrastive_loss(images, texts, scale, straight=contrastive_loss):
    return straight(images, texts, 1.0)


# %% soma_em_vez_de_media answer="contrastiva" right=false
def contrastive_loss(images, texts, scale, straight=contrastive_loss):
    return 2 * straight(images, texts, scale)


# %% normaliza_a_coluna answer="contrastiva" right=false
def contrastive_loss(images, texts, scale):
    table = scale * nn.functional.normalize(images, dim=0) @ nn.functional.normalize(texts, dim=0).T
    right = torch.arange(len(images))
    return (nn.functional.cross_entropy(table, right) + nn.functional.cross_entropy(table.T, right)) / 2
