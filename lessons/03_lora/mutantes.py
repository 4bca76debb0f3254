# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% sem_laco answer="congelar" right=true
def freeze(model):
    model.requires_grad_(False)


def count_parameters(model):
    total = sum(p.numel() for p in model.parameters())
    return sum(p.numel() for p in model.parameters() if p.requires_grad), total


# %% por_nome answer="congelar" right=true
def freeze(model):
    for _, p in model.named_parameters():
        p.requires_grad = False


def count_parameters(model):
    trained = total = 0
    for _, p in model.named_parameters():
        total += math.prod(p.shape)
        trained += math.prod(p.shape) * p.requires_grad
    return [trained, total]


# %% resposta_fixa answer="congelar" right=false
def count_parameters(model):
    return (20, 20) if next(model.parameters()).requires_grad else (0, 20)


# %% conta_tensores answer="congelar" right=false
def count_parameters(model):
    parameters = list(model.parameters())
    return sum(p.requires_grad for p in parameters), len(parameters)


# %% conta_o_compartilhado_duas_vezes answer="congelar" right=false
def count_parameters(model):
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(t.numel() for t in model.state_dict().values())


# %% ordem_trocada answer="congelar" right=false
def count_parameters(model):
    total = sum(p.numel() for p in model.parameters())
    return total, sum(p.numel() for p in model.parameters() if p.requires_grad)


# %% so_o_primeiro_nivel answer="congelar" right=false
def freeze(model):
    for p in model.parameters(recurse=False):
        p.requires_grad_(False)


# %% atributo_no_modulo answer="congelar" right=false
def freeze(model):
    model.requires_grad = False


# %% soma_das_matrizes answer="contar_lora" right=true
def count_lora_params(d, k, rank):
    return d * rank + rank * k


# %% pelas_formas answer="contar_lora" right=true
def count_lora_params(d, k, rank):
    return sum(rows * columns for rows, columns in [(d, rank), (rank, k)])


# %% resposta_fixa answer="contar_lora" right=false
def count_lora_params(d, k, rank):
    return 8_000 if d == 1000 else 6_144


# %% so_quadrada answer="contar_lora" right=false
def count_lora_params(d, k, rank):
    return 2 * rank * d


# %% matriz_inteira answer="contar_lora" right=false
def count_lora_params(d, k, rank):
    return d * k


# %% produto_em_vez_de_soma answer="contar_lora" right=false
def count_lora_params(d, k, rank):
    return rank * d * k


# %% uma_so_matriz answer="contar_lora" right=false
def count_lora_params(d, k, rank):
    return rank * k


# %% inicio_normal answer="lora_linear" right=true
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        nn.init.normal_(self.lora_A.weight, std=0.02)


# %% do_zero_com_matmul answer="lora_linear" right=true
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base, self.merged, self.scaling = base.requires_grad_(False), False, alpha / rank
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        self.lora_B.weight.data.zero_()

    def forward(self, x):
        if self.merged:
            return self.base(x)
        return self.base(x) + self.scaling * (x @ self.lora_A.weight.T) @ self.lora_B.weight.T


# %% resposta_fixa answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, 2, 8)


# %% a_em_zero_b_sorteada answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        nn.init.zeros_(self.lora_A.weight)
        nn.init.normal_(self.lora_B.weight)


# %% a_constante answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        nn.init.ones_(self.lora_A.weight)


# %% base_treinavel answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        base.requires_grad_(True)


# %% so_o_peso_congelado answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        if base.bias is not None:
            base.bias.requires_grad_(True)


# %% fatores_com_bias answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.lora_A = nn.Linear(base.in_features, rank)


# %% escala_invertida answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def __init__(self, base, rank, alpha):
        super().__init__(base, rank, alpha)
        self.scaling = rank / alpha


# %% sem_escala answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


# %% escala_duas_vezes answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def forward(self, x):
        return self.base(x) + self.scaling * self.lora_B(self.scaling * self.lora_A(x))


# %% so_a_correcao answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def forward(self, x):
        return self.scaling * self.lora_B(self.lora_A(x))


# %% perde_o_bias answer="lora_linear" right=false
class LoRALinear(LoRALinear):
    def forward(self, x):
        return x @ (self.base.weight + self.scaling * self.lora_B.weight @ self.lora_A.weight).T


# %% pelos_pais answer="injetar" right=true
def inject(model, targets, rank, alpha):
    freeze(model)
    pairs = [(p, n) for p in model.modules() for n, m in p.named_children() if n in targets]
    pairs = [(p, n) for p, n in pairs if isinstance(getattr(p, n), nn.Linear)]
    for parent, name in pairs:
        setattr(parent, name, LoRALinear(getattr(parent, name), rank=rank, alpha=alpha))
    if not pairs:
        raise ValueError("nenhum alvo")
    return len(pairs)


# %% recursiva answer="injetar" right=true
def swap(module, targets, rank, alpha):
    count = 0
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and name in targets:
            setattr(module, name, LoRALinear(child, rank, alpha))
            count += 1
        else:
            count += swap(child, targets, rank, alpha)
    return count


def inject(model, targets, rank, alpha):
    model.requires_grad_(False)
    count = swap(model, targets, rank, alpha)
    if count == 0:
        raise ValueError("Nenhum módulo-alvo.")
    return count


# %% resposta_fixa answer="injetar" right=false
def inject(model, targets, rank, alpha):
    freeze(model)
    for layer in model.model.layers:
        layer.self_attn.q_proj = LoRALinear(layer.self_attn.q_proj, rank, alpha)
        layer.self_attn.v_proj = LoRALinear(layer.self_attn.v_proj, rank, alpha)
    return 4


# %% nao_congela_o_resto answer="injetar" right=false
def inject(model, targets, rank, alpha, inject=inject):
    trained = [p for p in model.parameters() if p.requires_grad]
    count = inject(model, targets, rank, alpha)
    for p in trained:
        p.requires_grad_(True)
    return count


# %% congela_depois answer="injetar" right=false
def inject(model, targets, rank, alpha, inject=inject):
    count = inject(model, targets, rank, alpha)
    freeze(model)
    return count


# %% por_pedaco_do_nome answer="injetar" right=false
def inject(model, targets, rank, alpha, inject=inject):
    names = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    return inject(model, [n for n in names if any(t in n for t in targets)], rank, alpha)


# %% em_silencio answer="injetar" right=false
def inject(model, targets, rank, alpha, inject=inject):
    try:
        return inject(model, targets, rank, alpha)
    except ValueError:
        return 0


# %% so_a_primeira_camada answer="injetar" right=false
def inject(model, targets, rank, alpha, inject=inject):
    freeze(model)
    return inject(model.model.layers[0], targets, rank, alpha)


# %% com_add_ answer="fundir" right=true
def correction(layer):
    return layer.scaling * (layer.lora_B.weight.detach() @ layer.lora_A.weight.detach())


def merge(layer):
    if layer.merged:
        return
    layer.base.weight.data.add_(correction(layer))
    layer.merged = True


def unmerge(layer):
    if not layer.merged:
        return
    layer.base.weight.data.sub_(correction(layer))
    layer.merged = False


# %% guarda_o_original answer="fundir" right=true
def merge(layer, merge=merge):
    if not layer.merged:
        layer.original = layer.base.weight.detach().clone()
    merge(layer)


def unmerge(layer):
    if layer.merged:
        layer.base.weight.data.copy_(layer.original)
    layer.merged = False


# %% resposta_fixa answer="fundir" right=false
def merge(layer, merge=merge):
    layer.scaling = 4
    merge(layer)


# %% sem_escala answer="fundir" right=false
def merge(layer):
    if not layer.merged:
        layer.base.weight.data += layer.lora_B.weight.data @ layer.lora_A.weight.data
        layer.merged = True


# %% soma_outra_vez answer="fundir" right=false
def merge(layer, merge=merge):
    layer.merged = False
    merge(layer)


# %% separa_sem_ter_fundido answer="fundir" right=false
def unmerge(layer, unmerge=unmerge):
    layer.merged = True
    unmerge(layer)


# %% so_troca_a_marca answer="fundir" right=false
def merge(layer):
    layer.merged = True


def unmerge(layer):
    layer.merged = False


# %% esquece_a_marca answer="fundir" right=false
def merge(layer, merge=merge):
    merge(layer)
    layer.merged = False


# %% apaga_os_fatores answer="fundir" right=false
def merge(layer, merge=merge):
    layer.original = layer.base.weight.detach().clone()
    merge(layer)
    layer.lora_B.weight.data.zero_()


# %% copia_um_a_um answer="igualar_peft" right=true
def load_peft_adapter(model, adapter):
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in adapter.items():
            parameters[name.replace("base_model.model.", "", 1)].copy_(tensor)


# %% pelo_resultado_do_load answer="igualar_peft" right=true
def load_peft_adapter(model, adapter):
    own = {name[len("base_model.model.") :]: tensor for name, tensor in adapter.items()}
    unknown = model.load_state_dict(own, strict=False).unexpected_keys
    if unknown:
        raise KeyError(unknown)


# %% resposta_fixa answer="igualar_peft" right=false
def load_peft_adapter(model, adapter):
    for i in range(2):
        for target in ("q_proj", "v_proj"):
            layer = model.get_submodule(f"model.layers.{i}.self_attn.{target}")
            key = f"base_model.model.model.layers.{i}.self_attn.{target}"
            layer.lora_A.weight.data.copy_(adapter[f"{key}.lora_A.weight"])
            layer.lora_B.weight.data.copy_(adapter[f"{key}.lora_B.weight"])


# %% prefixo_esquecido answer="igualar_peft" right=false
def load_peft_adapter(model, adapter):
    model.load_state_dict(adapter, strict=False)


# %% ignora_nomes_desconhecidos answer="igualar_peft" right=false
def load_peft_adapter(model, adapter):
    own = {name.removeprefix("base_model.model."): tensor for name, tensor in adapter.items()}
    model.load_state_dict(own, strict=False)


# %% na_ordem_errada answer="igualar_peft" right=false
def load_peft_adapter(model, adapter):
    mine = [p for name, p in model.named_parameters() if "lora_" in name]
    for parameter, (_, tensor) in zip(reversed(mine), adapter.items(), strict=False):
        parameter.data.copy_(tensor)


# %% so_b answer="igualar_peft" right=false
def load_peft_adapter(model, adapter, load_peft_adapter=load_peft_adapter):
    load_peft_adapter(model, {name: tensor for name, tensor in adapter.items() if "lora_B" in name})


# %% por_requires_grad answer="so_adaptador" right=true
def adapter_state_dict(model):
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


# %% por_camada answer="so_adaptador" right=true
def adapter_state_dict(model):
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            tensors[f"{name}.lora_A.weight"] = module.lora_A.weight.detach().clone()
            tensors[f"{name}.lora_B.weight"] = module.lora_B.weight.detach().clone()
    return tensors


# %% resposta_fixa answer="so_adaptador" right=false
def adapter_state_dict(model):
    names = [
        f"model.layers.{i}.self_attn.{t}_proj.lora_{m}.weight" for i in (0, 1) for t in "qv" for m in "AB"
    ]
    return {name: model.state_dict()[name] for name in names}


# %% tudo answer="so_adaptador" right=false
def adapter_state_dict(model):
    return model.state_dict()


# %% so_b answer="so_adaptador" right=false
def adapter_state_dict(model):
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_B" in name}


# %% zeros_do_mesmo_tamanho answer="so_adaptador" right=false
def adapter_state_dict(model):
    return {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items() if "lora_" in name}


# %% so_q_e_v answer="so_adaptador" right=false
def adapter_state_dict(model):
    state = model.state_dict()
    return {name: state[name] for name in state if "lora_" in name and ("q_proj" in name or "v_proj" in name)}
