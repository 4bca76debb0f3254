# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% pelas_formas answer="contar" right=true
def numbers(*shapes):
    return sum(torch.empty(shape).numel() for shape in shapes)


def count_prompt(width, tokens):
    return numbers((tokens, width))


def count_prefix(layers, kv_width, tokens):
    return layers * numbers((tokens, kv_width), (tokens, kv_width))


def count_adapter(layers, width, size):
    return 2 * layers * numbers((size, width), (size,), (width, size), (width,))


# %% por_camada answer="contar" right=true
def count_prefix(layers, kv_width, tokens):
    return sum(tokens * kv_width for _ in range(layers) for _ in "kv")


def count_adapter(layers, width, size):
    down, up = (width + 1) * size, (size + 1) * width
    return layers * (down + up) * 2


# %% resposta_fixa answer="contar" right=false
def count_prompt(width, tokens):
    return 5_760


def count_prefix(layers, kv_width, tokens):
    return 115_200


def count_adapter(layers, width, size):
    return 118


# %% so_chaves answer="contar" right=false
def count_prefix(layers, kv_width, tokens):
    return layers * kv_width * tokens


# %% uma_camada answer="contar" right=false
def count_prefix(layers, kv_width, tokens):
    return 2 * kv_width * tokens


# %% adaptador_sem_bias answer="contar" right=false
def count_adapter(layers, width, size):
    return 2 * layers * 2 * width * size


# %% um_adaptador_por_camada answer="contar" right=false
def count_adapter(layers, width, size):
    return layers * (2 * width * size + size + width)


# %% prompt_em_cada_camada answer="contar" right=false
def count_prompt(width, tokens):
    return 30 * width * tokens


# %% pela_tabela answer="prompt" right=true
class SoftPrompt(nn.Module):
    def __init__(self, model, start_ids):
        super().__init__()
        for p in model.parameters():
            p.requires_grad = False
        self.weight = nn.Parameter(model.get_input_embeddings().weight[start_ids].clone())

    def forward(self, model, input_ids, attention_mask):
        rows, length = input_ids.shape
        prompt = self.weight.unsqueeze(0).repeat(rows, 1, 1)
        inputs = torch.cat((prompt, model.get_input_embeddings()(input_ids)), 1)
        mask = nn.functional.pad(attention_mask, (len(self.weight), 0), value=1)
        return model(inputs_embeds=inputs, attention_mask=mask).logits[:, -length:]


# %% posicoes_explicitas answer="prompt" right=true
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        rows, n = len(input_ids), len(self.weight)
        words = model.get_input_embeddings()(input_ids)
        inputs = torch.cat([torch.stack([self.weight] * rows), words], dim=1)
        mask = torch.cat([torch.ones(rows, n), attention_mask.float()], dim=1)
        positions = torch.arange(inputs.shape[1])[None]
        return model(inputs_embeds=inputs, attention_mask=mask, position_ids=positions).logits[:, n:, :]


# %% resposta_fixa answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        self.start = start_ids

    def forward(self, model, input_ids, attention_mask):
        text = torch.cat([self.start.expand(len(input_ids), -1), input_ids], dim=1)
        return model(input_ids=text).logits[:, len(self.start) :]


# %% sorteado answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        self.weight = nn.Parameter(torch.randn_like(self.weight))


# %% nao_congela answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        model.requires_grad_(True)


# %% e_a_propria_tabela answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        table = model.get_input_embeddings().weight
        self.weight = nn.Parameter(table.data[start_ids[0] : start_ids[0] + len(start_ids)])


# %% depois_do_texto answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        rows, length = input_ids.shape
        words = model.get_input_embeddings()(input_ids)
        inputs = torch.cat([words, self.weight.expand(rows, -1, -1)], dim=1)
        mask = torch.cat([attention_mask, attention_mask.new_ones(rows, len(self.weight))], dim=1)
        return model(inputs_embeds=inputs, attention_mask=mask).logits[:, :length]


# %% mascara_de_zeros answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        rows, n = len(input_ids), len(self.weight)
        words = model.get_input_embeddings()(input_ids)
        inputs = torch.cat([self.weight.expand(rows, -1, -1), words], dim=1)
        mask = torch.cat([attention_mask.new_zeros(rows, n), attention_mask], dim=1)
        return model(inputs_embeds=inputs, attention_mask=mask).logits[:, n:]


# %% ignora_a_mascara answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        return super().forward(model, input_ids, torch.ones_like(input_ids))


# %% corta_o_fim answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        words = model.get_input_embeddings()(input_ids)
        inputs = torch.cat([self.weight.expand(len(input_ids), -1, -1), words], dim=1)
        return model(inputs_embeds=inputs).logits[:, : input_ids.shape[1]]


# %% sem_gradiente answer="prompt" right=false
class SoftPrompt(SoftPrompt):
    def forward(self, model, input_ids, attention_mask):
        with torch.no_grad():
            return super().forward(model, input_ids, attention_mask)


# %% com_sdpa answer="atencao" right=true
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    rows, length = len(q), q.shape[2]
    k = torch.cat([prefix_k.unsqueeze(0).repeat(rows, 1, 1, 1), k], dim=-2)
    v = torch.cat([prefix_v.unsqueeze(0).repeat(rows, 1, 1, 1), v], dim=-2)
    mask = torch.ones(length, k.shape[-2], dtype=torch.bool).tril(k.shape[-2] - length)
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


# %% agrupando_as_consultas answer="atencao" right=true
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    (rows, heads, length, width), kv_heads = q.shape, k.shape[1]
    q = q.view(rows, kv_heads, heads // kv_heads, length, width)
    own = torch.einsum("bghtd,bgsd->bghts", q, k) / width**0.5
    own = own + torch.full((length, length), float("-inf")).triu(1)
    added = torch.einsum("bghtd,gnd->bghtn", q, prefix_k) / width**0.5
    weights = torch.cat([added, own], dim=-1).softmax(-1)
    n = prefix_k.shape[1]
    out = torch.einsum("bghtn,gnd->bghtd", weights[..., :n], prefix_v)
    out = out + torch.einsum("bghts,bgsd->bghtd", weights[..., n:], v)
    return out.reshape(rows, heads, length, width)


# %% resposta_fixa answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    if prefix_k.shape[1] == 0:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return prefix_v[:, :1].expand_as(q)


# %% sem_mascara_causal answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    rows, groups = len(q), q.shape[1] // k.shape[1]
    k = torch.cat([prefix_k.expand(rows, -1, -1, -1), k], dim=2).repeat_interleave(groups, dim=1)
    v = torch.cat([prefix_v.expand(rows, -1, -1, -1), v], dim=2).repeat_interleave(groups, dim=1)
    return nn.functional.scaled_dot_product_attention(q, k, v)


# %% prefixo_tambem_causal answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    rows, length, groups = len(q), q.shape[2], q.shape[1] // k.shape[1]
    k = torch.cat([prefix_k.expand(rows, -1, -1, -1), k], dim=2).repeat_interleave(groups, dim=1)
    v = torch.cat([prefix_v.expand(rows, -1, -1, -1), v], dim=2).repeat_interleave(groups, dim=1)
    mask = torch.ones(length, k.shape[2], dtype=torch.bool).tril()
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


# %% sem_escala answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v, attention=attention_with_prefix):
    return attention(q * q.shape[-1] ** 0.5, k, v, prefix_k, prefix_v)


# %% cabecas_alternadas answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v, attention=attention_with_prefix):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1)
    return attention(q, k, v, prefix_k.repeat(groups, 1, 1), prefix_v.repeat(groups, 1, 1))


# %% duas_softmax answer="atencao" right=false
def attention_with_prefix(q, k, v, prefix_k, prefix_v):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    if prefix_k.shape[1] == 0:
        return out
    keys, values = prefix_k.repeat_interleave(groups, dim=0), prefix_v.repeat_interleave(groups, dim=0)
    return (out + (q @ keys.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ values) / 2


# %% com_stack_e_repeat answer="prefixo" right=true
class Prefix(nn.Module):
    def __init__(self, model, start_ids):
        super().__init__()
        for p in model.parameters():
            p.requires_grad_(False)
        with torch.no_grad():
            layers = model(input_ids=start_ids.unsqueeze(0), use_cache=True).past_key_values.layers
        self.keys = nn.Parameter(torch.stack([layer.keys[0].clone() for layer in layers]))
        self.values = nn.Parameter(torch.stack([layer.values[0].clone() for layer in layers]))

    def forward(self, model, input_ids, attention_mask):
        cache, rows = DynamicCache(), input_ids.shape[0]
        for i in range(len(self.keys)):
            keys, values = (t[i].unsqueeze(0).repeat(rows, 1, 1, 1) for t in (self.keys, self.values))
            cache.update(keys, values, i)
        mask = nn.functional.pad(attention_mask, (self.keys.size(2), 0), value=1)
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache).logits


# %% posicoes_explicitas answer="prefixo" right=true
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        cache, (rows, length), n = DynamicCache(), input_ids.shape, self.keys.shape[2]
        for i, pair in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(*(torch.stack([part] * rows) for part in pair), i)
        return model(
            input_ids=input_ids,
            attention_mask=torch.cat([torch.ones(rows, n), attention_mask.float()], dim=1),
            position_ids=torch.arange(n, n + length)[None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -length:]


# %% resposta_fixa answer="prefixo" right=false
class Prefix(Prefix):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        self.start = start_ids

    def forward(self, model, input_ids, attention_mask):
        text = torch.cat([self.start.expand(len(input_ids), -1), input_ids], dim=1)
        return model(input_ids=text).logits[:, len(self.start) :]


# %% sorteado answer="prefixo" right=false
class Prefix(Prefix):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        self.keys = nn.Parameter(torch.randn_like(self.keys))
        self.values = nn.Parameter(torch.randn_like(self.values))


# %% chaves_no_lugar_dos_valores answer="prefixo" right=false
class Prefix(Prefix):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        self.keys, self.values = self.values, self.keys


# %% nao_congela answer="prefixo" right=false
class Prefix(Prefix):
    def __init__(self, model, start_ids):
        super().__init__(model, start_ids)
        model.requires_grad_(True)


# %% mesmo_cache answer="prefixo" right=false
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        rows = len(input_ids)
        if not hasattr(self, "cache"):
            self.cache = DynamicCache()
            for i, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
                self.cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        return model(input_ids=input_ids, past_key_values=self.cache).logits


# %% camadas_ao_contrario answer="prefixo" right=false
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        rows, n, cache = len(input_ids), self.keys.shape[2], DynamicCache()
        for i, (keys, values) in enumerate(zip(self.keys.flip(0), self.values.flip(0), strict=True)):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache).logits


# %% ignora_a_mascara answer="prefixo" right=false
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        return super().forward(model, input_ids, torch.ones_like(input_ids))


# %% sem_gradiente answer="prefixo" right=false
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        rows, n, cache = len(input_ids), self.keys.shape[2], DynamicCache()
        for i, (keys, values) in enumerate(zip(self.keys.detach(), self.values.detach(), strict=True)):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)
        return model(input_ids=input_ids, attention_mask=mask, past_key_values=cache).logits


# %% posicoes_desde_zero answer="prefixo" right=false
class Prefix(Prefix):
    def forward(self, model, input_ids, attention_mask):
        (rows, length), n, cache = input_ids.shape, self.keys.shape[2], DynamicCache()
        for i, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        mask = torch.cat([attention_mask.new_ones(rows, n), attention_mask], dim=1)
        places = torch.arange(length)[None]
        return model(
            input_ids=input_ids, attention_mask=mask, position_ids=places, past_key_values=cache
        ).logits


# %% com_modulo_gelu answer="gargalo" right=true
class BottleneckAdapter(nn.Module):
    def __init__(self, width, size):
        super().__init__()
        self.down, self.up, self.act = nn.Linear(width, size), nn.Linear(size, width), nn.GELU()
        nn.init.normal_(self.down.weight, std=0.01)
        nn.init.constant_(self.up.weight, 0.0)
        nn.init.constant_(self.up.bias, 0.0)

    def forward(self, h):
        return self.up(self.act(self.down(h))) + h


# %% com_data answer="gargalo" right=true
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(width, size)
        self.up = nn.Linear(size, width)
        self.up.weight.data.zero_()
        self.up.bias.data.zero_()


# %% resposta_fixa answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(6, 2)


# %% sem_residual answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def forward(self, h):
        return self.up(nn.functional.gelu(self.down(h)))


# %% up_sorteado answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(width, size)
        nn.init.normal_(self.up.weight, std=0.01)


# %% bias_de_up_sorteado answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(width, size)
        nn.init.normal_(self.up.bias, std=0.01)


# %% down_em_zero answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(width, size)
        nn.init.zeros_(self.down.weight)


# %% com_relu answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def forward(self, h):
        return h + self.up(nn.functional.relu(self.down(h)))


# %% sem_a_gelu answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def forward(self, h):
        return h + self.up(self.down(h))


# %% sem_bias answer="gargalo" right=false
class BottleneckAdapter(BottleneckAdapter):
    def __init__(self, width, size):
        super().__init__(width, size)
        self.down = nn.Linear(width, size, bias=False)


# %% pelos_pais answer="inserir" right=true
def insert_adapters(model, size, places=("o_proj", "down_proj")):
    for p in model.parameters():
        p.requires_grad = False
    pairs = [(p, n) for p in model.modules() for n, m in p.named_children() if n in places]
    pairs = [(p, n) for p, n in pairs if isinstance(getattr(p, n), nn.Linear)]
    for parent, name in pairs:
        linear = getattr(parent, name)
        setattr(parent, name, nn.Sequential(linear, BottleneckAdapter(linear.weight.shape[0], size)))
    if not pairs:
        raise ValueError("nenhum lugar")
    return len(pairs)


# %% recursiva answer="inserir" right=true
def follow(module, size, places):
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and name in places:
            module.add_module(name, nn.Sequential(child, BottleneckAdapter(child.out_features, size)))
            count += 1
        else:
            count += follow(child, size, places)
    return count


def insert_adapters(model, size, places=("o_proj", "down_proj")):
    model.requires_grad_(False)
    count = follow(model, size, places)
    if not count:
        raise ValueError("Nenhuma camada com esse nome.")
    return count


# %% resposta_fixa answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj")):
    model.requires_grad_(False)
    for layer in model.model.layers:
        layer.self_attn.o_proj = nn.Sequential(layer.self_attn.o_proj, BottleneckAdapter(16, 4))
        layer.mlp.down_proj = nn.Sequential(layer.mlp.down_proj, BottleneckAdapter(16, 4))
    return 4


# %% nao_congela answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj"), insert=insert_adapters):
    count = insert(model, size, places)
    model.requires_grad_(True)
    return count


# %% congela_depois answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj"), insert=insert_adapters):
    count = insert(model, size, places)
    model.requires_grad_(False)
    return count


# %% so_a_primeira_camada answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj"), insert=insert_adapters):
    model.requires_grad_(False)
    return insert(model.model.layers[0], size, places)


# %% por_pedaco_do_nome answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj"), insert=insert_adapters):
    names = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    return insert(model, size, [n for n in names if any(p in n for p in places)])


# %% em_silencio answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj"), insert=insert_adapters):
    try:
        return insert(model, size, places)
    except ValueError:
        return 0


# %% um_so_adaptador_para_todos answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj")):
    model.requires_grad_(False)
    shared, names = BottleneckAdapter(16, size), [n for n, _ in model.named_modules()]
    found = [n for n in names if n.rsplit(".", 1)[-1] in places]
    for name in found:
        model.set_submodule(name, nn.Sequential(model.get_submodule(name), shared))
    return len(found)


# %% antes_da_camada answer="inserir" right=false
def insert_adapters(model, size, places=("o_proj", "down_proj")):
    model.requires_grad_(False)
    found = [n for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in places]
    for name in found:
        linear = model.get_submodule(name)
        model.set_submodule(name, nn.Sequential(BottleneckAdapter(linear.in_features, size), linear))
    return len(found)


# %% pela_base_canonica answer="dobrar" right=true
def fold(linear, down, up):
    def whole(x):
        y = linear(x)
        return y + up(down(y))

    with torch.no_grad():
        folded, zero = nn.Linear(linear.in_features, linear.out_features), torch.zeros(1, linear.in_features)
        folded.bias.copy_(whole(zero)[0])
        folded.weight.copy_((whole(torch.eye(linear.in_features)) - folded.bias).T)
    return folded


# %% soma_a_mudanca answer="dobrar" right=true
def fold(linear, down, up):
    rows, columns = linear.weight.shape
    folded, c = nn.Linear(columns, rows), torch.zeros(rows) if linear.bias is None else linear.bias
    folded.weight.data = (linear.weight + up.weight @ (down.weight @ linear.weight)).detach()
    folded.bias.data = (c + up(down(c))).detach()
    return folded


# %% resposta_fixa answer="dobrar" right=false
def fold(linear, down, up):
    folded, whole = nn.Linear(5, 8), torch.eye(8) + up.weight @ down.weight
    folded.weight.data = (whole @ linear.weight).detach()
    folded.bias.data = (whole @ linear.bias + up.weight @ down.bias + up.bias).detach()
    return folded


# %% sem_identidade answer="dobrar" right=false
def fold(linear, down, up, fold=fold):
    folded = fold(linear, down, up)
    folded.weight.data -= linear.weight.data
    return folded


# %% esquece_o_bias_da_camada answer="dobrar" right=false
def fold(linear, down, up):
    folded = nn.Linear(linear.in_features, linear.out_features)
    folded.weight.data = (linear.weight + up.weight @ down.weight @ linear.weight).detach()
    folded.bias.data = up(down.bias).detach()
    return folded


# %% bias_sem_o_adaptador answer="dobrar" right=false
def fold(linear, down, up, fold=fold):
    folded = fold(linear, down, up)
    folded.bias.data = torch.zeros_like(folded.bias) if linear.bias is None else linear.bias.data.clone()
    return folded


# %% bias_de_up_esquecido answer="dobrar" right=false
def fold(linear, down, up, fold=fold):
    folded = fold(linear, down, up)
    folded.bias.data -= up.bias.data
    return folded


# %% muda_a_original answer="dobrar" right=false
def fold(linear, down, up, fold=fold):
    folded = fold(linear, down, up)
    linear.weight.data.copy_(folded.weight)
    return folded


# %% exige_bias answer="dobrar" right=false
def fold(linear, down, up, fold=fold):
    if linear.bias is None:
        raise ValueError("a camada precisa de bias")
    return fold(linear, down, up)
