# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% matriz_por_matriz answer="bloco" right=true
def count_block(hidden, intermediate, heads, kv_heads):
    kv = kv_heads * (hidden // heads)
    shapes = [(hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden)]
    shapes += [(intermediate, hidden), (intermediate, hidden), (hidden, intermediate), (hidden,), (hidden,)]
    return sum(math.prod(shape) for shape in shapes)


# %% fatorada answer="bloco" right=true
def count_block(hidden, intermediate, heads, kv_heads):
    return hidden * (2 * hidden + 2 * hidden * kv_heads // heads + 3 * intermediate + 2)


# %% resposta_fixa answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads):
    return 10_816


# %% ignora_kv answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads):
    return 4 * hidden * hidden + 3 * hidden * intermediate + 2 * hidden


# %% mlp_de_duas_matrizes answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads, count_block=count_block):
    return count_block(hidden, intermediate, heads, kv_heads) - hidden * intermediate


# %% sem_normas answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads, count_block=count_block):
    return count_block(hidden, intermediate, heads, kv_heads) - 2 * hidden


# %% uma_norma answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads, count_block=count_block):
    return count_block(hidden, intermediate, heads, kv_heads) - hidden


# %% com_bias answer="bloco" right=false
def count_block(hidden, intermediate, heads, kv_heads, count_block=count_block):
    return count_block(hidden, intermediate, heads, kv_heads) + 4 * hidden


# %% soma_em_partes answer="modelo" right=true
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied):
    total = vocab * hidden + hidden
    for _ in range(layers):
        total += count_block(hidden, intermediate, heads, kv_heads)
    return total if tied else total + vocab * hidden


# %% por_aritmetica_de_booleano answer="modelo" right=true
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied):
    blocks = layers * count_block(hidden, intermediate, heads, kv_heads)
    return hidden * (1 + vocab * (2 - tied)) + blocks


# %% resposta_fixa answer="modelo" right=false
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied):
    return 134_515_008 if tied else 162_417_408


# %% sempre_compartilhada answer="modelo" right=false
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied, count_model=count_model):
    return count_model(vocab, hidden, intermediate, layers, heads, kv_heads, True)


# %% sempre_separada answer="modelo" right=false
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied, count_model=count_model):
    return count_model(vocab, hidden, intermediate, layers, heads, kv_heads, False)


# %% sem_norma_final answer="modelo" right=false
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied, count_model=count_model):
    return count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied) - hidden


# %% tied_ao_contrario answer="modelo" right=false
def count_model(vocab, hidden, intermediate, layers, heads, kv_heads, tied, count_model=count_model):
    return count_model(vocab, hidden, intermediate, layers, heads, kv_heads, not tied)


# %% bytes_por_parametro answer="dezesseis" right=true
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    weights = frozen_width * frozen + trained_width * trained
    gradients = trained_width * trained
    return [weights, gradients, gradients + gradients]


# %% em_linha answer="dezesseis" right=true
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    return tuple(
        frozen * frozen_width * (n == 0) + trained * trained_width * (1 + (n == 2)) for n in range(3)
    )


# %% resposta_fixa answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    return (2_040, 40, 80) if frozen else (4_000, 4_000, 8_000)


# %% um_estado_so answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    size = trained * trained_width
    return frozen * frozen_width + size, size, size


# %% gradiente_de_todos answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    weights = frozen * frozen_width + trained * trained_width
    return weights, weights, 2 * trained * trained_width


# %% estados_sempre_em_fp32 answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    size = trained * trained_width
    return frozen * frozen_width + size, size, 8 * trained


# %% esquece_os_treinados answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    return frozen * frozen_width, trained * trained_width, 2 * trained * trained_width


# %% congelados_na_mesma_largura answer="dezesseis" right=false
def training_bytes(frozen, trained, frozen_width=2, trained_width=4):
    size = trained * trained_width
    return (frozen + trained) * trained_width, size, 2 * size


# %% com_nbytes answer="vivo" right=true
def held_bytes(model, optimizer):
    weights = gradients = states = 0
    for p in model.parameters():
        weights += p.nbytes
        if p.grad is not None:
            gradients += p.grad.nbytes
        for value in optimizer.state.get(p, {}).values():
            if isinstance(value, torch.Tensor) and value.ndim:
                states += value.nbytes
    return weights, gradients, states


# %% pelo_state_dict answer="vivo" right=true
def held_bytes(model, optimizer):
    state = optimizer.state_dict()["state"].values()
    tensors = [v for s in state for v in s.values() if torch.is_tensor(v) and v.shape]
    size = [sum(t.numel() * t.element_size() for t in group if t is not None) for group in (
        model.parameters(), [p.grad for p in model.parameters()], tensors)]  # fmt: skip
    return size


# %% resposta_fixa answer="vivo" right=false
def held_bytes(model, optimizer):
    size = 4 * sum(p.numel() for p in model.parameters())
    return (size, size, 2 * size) if optimizer.state else (size, 0, 0)


# %% conta_o_contador answer="vivo" right=false
def held_bytes(model, optimizer, held_bytes=held_bytes):
    weights, gradients, _ = held_bytes(model, optimizer)
    values = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return weights, gradients, sum(v.nbytes for v in values)


# %% gradiente_por_requires_grad answer="vivo" right=false
def held_bytes(model, optimizer, held_bytes=held_bytes):
    weights, _, states = held_bytes(model, optimizer)
    return weights, sum(p.nbytes for p in model.parameters() if p.requires_grad), states


# %% quatro_bytes_sempre answer="vivo" right=false
def held_bytes(model, optimizer, held_bytes=held_bytes):
    width = next(model.parameters()).element_size()
    return tuple(4 * size // width for size in held_bytes(model, optimizer))


# %% so_os_treinados answer="vivo" right=false
def held_bytes(model, optimizer, held_bytes=held_bytes):
    _, gradients, states = held_bytes(model, optimizer)
    return sum(p.nbytes for p in model.parameters() if p.requires_grad), gradients, states


# %% elementos_em_vez_de_bytes answer="vivo" right=false
def held_bytes(model, optimizer, held_bytes=held_bytes):
    return tuple(size // 4 for size in held_bytes(model, optimizer))


# %% guarda_os_armazenamentos answer="ativacoes" right=true
def saved_bytes(model, inputs):
    storages = []

    def keep(tensor):
        storages.append(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(inputs)
    unique = {s.data_ptr(): s.nbytes() for s in storages}
    for p in model.parameters():
        unique.pop(p.untyped_storage().data_ptr(), None)
    assert output is not None
    return sum(unique.values())


# %% pergunta_na_entrada answer="ativacoes" right=true
def saved_bytes(model, inputs):
    seen, total = {p.untyped_storage().data_ptr() for p in model.parameters()}, []

    def keep(tensor):
        address = tensor.untyped_storage().data_ptr()
        if address not in seen:
            seen.add(address)
            total.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept_alive = [model(inputs)]
    return sum(total) if kept_alive else 0


# %% resposta_fixa answer="ativacoes" right=false
def saved_bytes(model, inputs):
    return 480


# %% conta_repetidos answer="ativacoes" right=false
def saved_bytes(model, inputs):
    known, total = {p.untyped_storage().data_ptr() for p in model.parameters()}, []

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in known:
            total.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(inputs)
    del output
    return sum(total)


# %% conta_os_parametros answer="ativacoes" right=false
def saved_bytes(model, inputs):
    sizes = {}

    def keep(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(inputs)
    del output
    return sum(sizes.values())


# %% soma_as_saidas_das_camadas answer="ativacoes" right=false
def saved_bytes(model, inputs):
    sizes, hooks = [inputs.numel() * 4], []
    for layer in list(model.children())[:-1]:
        hooks.append(layer.register_forward_hook(lambda m, i, o: sizes.append(o.numel() * 4)))
    model(inputs)
    for hook in hooks:
        hook.remove()
    return sum(sizes)


# %% sem_gradientes answer="ativacoes" right=false
def saved_bytes(model, inputs, saved_bytes=saved_bytes):
    with torch.no_grad():
        return saved_bytes(model, inputs)


# %% elementos_em_vez_de_bytes answer="ativacoes" right=false
def saved_bytes(model, inputs, saved_bytes=saved_bytes):
    return saved_bytes(model, inputs) // 4


# %% com_prod answer="logits" right=true
def logits_bytes(batch, seq_len, vocab, width=14):
    return math.prod((batch, seq_len, vocab, width))


# %% por_tensor_meta answer="logits" right=true
def logits_bytes(batch, seq_len, vocab, width=14):
    return width * torch.empty(batch, seq_len, vocab, device="meta").numel()


# %% resposta_fixa answer="logits" right=false
def logits_bytes(batch, seq_len, vocab, width=14):
    return 160_000 if width == 8 else 140_000


# %% esquece_o_lote answer="logits" right=false
def logits_bytes(batch, seq_len, vocab, width=14):
    return seq_len * vocab * width


# %% ignora_a_largura answer="logits" right=false
def logits_bytes(batch, seq_len, vocab, width=14):
    return batch * seq_len * vocab * 14


# %% bits_em_vez_de_bytes answer="logits" right=false
def logits_bytes(batch, seq_len, vocab, width=14):
    return batch * seq_len * vocab * width // 8


# %% quadratico_no_comprimento answer="logits" right=false
def logits_bytes(batch, seq_len, vocab, width=14):
    return batch * seq_len * seq_len * vocab * width


# %% por_parcelas answer="tempo" right=true
def training_flops(parameters, tokens, frozen=False, recompute=False):
    passes = [2, 2] + [2] * (not frozen) + [2] * recompute
    return sum(passes) * parameters * tokens


def cost(flops, peak, utilisation, price_per_hour):
    seconds = flops / peak / utilisation
    return [seconds / 3600, price_per_hour * seconds / 3600]


# %% com_condicional answer="tempo" right=true
def training_flops(parameters, tokens, frozen=False, recompute=False):
    work = 2 * parameters * tokens
    return work * (2 + int(not frozen) + int(recompute))


# %% resposta_fixa answer="tempo" right=false
def training_flops(parameters, tokens, frozen=False, recompute=False):
    return 400_000 if frozen else 600_000


def cost(flops, peak, utilisation, price_per_hour):
    return 2.0, 20.0


# %% congelado_so_paga_a_ida answer="tempo" right=false
def training_flops(parameters, tokens, frozen=False, recompute=False):
    return (2 if frozen else 6) * parameters * tokens


# %% recomputacao_so_no_completo answer="tempo" right=false
def training_flops(parameters, tokens, frozen=False, recompute=False):
    return (4 if frozen else 8 if recompute else 6) * parameters * tokens


# %% recomputa_tudo answer="tempo" right=false
def training_flops(parameters, tokens, frozen=False, recompute=False):
    return (4 if frozen else 6) * (2 if recompute else 1) * parameters * tokens


# %% aproveitamento_multiplica answer="tempo" right=false
def cost(flops, peak, utilisation, price_per_hour):
    hours = flops / peak * utilisation / 3600
    return hours, hours * price_per_hour


# %% minutos answer="tempo" right=false
def cost(flops, peak, utilisation, price_per_hour, cost=cost):
    hours, price = cost(flops, peak, utilisation, price_per_hour)
    return hours * 60, price


# %% hora_cheia answer="tempo" right=false
def cost(flops, peak, utilisation, price_per_hour, cost=cost):
    hours, _ = cost(flops, peak, utilisation, price_per_hour)
    return hours, math.ceil(hours) * price_per_hour
