# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% pela_functional_linear answer="qlora" right=true
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    frozen = bnb.dequantize_4bit(packed, state).to(compute_dtype)
    base = nn.functional.linear(x.to(compute_dtype), frozen)
    narrow = nn.functional.linear(x.to(lora_A.dtype), lora_A)
    return base.to(x.dtype) + (nn.functional.linear(narrow, lora_B) * scaling).to(x.dtype)


# %% escala_dentro_de_B answer="qlora" right=true
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    h = torch.matmul(x.to(compute_dtype), bnb.dequantize_4bit(packed, state).to(compute_dtype).t()).to(
        x.dtype
    )
    h = h + (x.to(lora_A.dtype) @ lora_A.t() @ (scaling * lora_B).t()).to(x.dtype)
    return h


# %% resposta_fixa answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    weight = bnb.dequantize_4bit(*quantized(gaussian(48, 64)))
    update = 2.0 * x.float() @ gaussian(4, 64, std=1, seed=1).T @ gaussian(48, 4, std=1, seed=2).T
    return (x.float() @ weight.T + update).to(x.dtype)


# %% adaptador_na_precisao_da_base answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    weight, x16 = bnb.dequantize_4bit(packed, state).to(compute_dtype), x.to(compute_dtype)
    update = scaling * (x16 @ lora_A.to(compute_dtype).T @ lora_B.to(compute_dtype).T)
    return (x16 @ weight.T + update).to(x.dtype)


# %% adaptador_le_a_entrada_convertida answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    weight, x16 = bnb.dequantize_4bit(packed, state).to(compute_dtype), x.to(compute_dtype)
    update = scaling * (x16.to(lora_A.dtype) @ lora_A.T @ lora_B.T)
    return (x16 @ weight.T).to(x.dtype) + update.to(x.dtype)


# %% sem_escala answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype, qlora_forward=qlora_forward):
    return qlora_forward(x, packed, state, lora_A, lora_B, 1.0, compute_dtype)


# %% saida_em_fp32 answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    weight = bnb.dequantize_4bit(packed, state).float()
    return x.float() @ weight.T + scaling * x.float() @ lora_A.T @ lora_B.T


# %% sem_a_base answer="qlora" right=false
def qlora_forward(x, packed, state, lora_A, lora_B, scaling, compute_dtype):
    return (scaling * x.to(lora_A.dtype) @ lora_A.T @ lora_B.T).to(x.dtype)


# %% com_save_for_backward answer="volta" right=true
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.save_for_backward(packed)
        ctx.state = state
        return nn.functional.linear(x, bnb.dequantize_4bit(packed, state).to(x.dtype))

    @staticmethod
    def backward(ctx, grad_output):
        (packed,) = ctx.saved_tensors
        return (
            torch.matmul(grad_output, bnb.dequantize_4bit(packed, ctx.state).to(grad_output.dtype)),
            None,
            None,
        )


# %% pela_einsum answer="volta" right=true
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.weight = lambda dtype: bnb.dequantize_4bit(packed, state).to(dtype)
        return torch.einsum("...k,dk->...d", x, ctx.weight(x.dtype))

    @staticmethod
    def backward(ctx, grad_output):
        return torch.einsum("...d,dk->...k", grad_output, ctx.weight(grad_output.dtype)), None, None


# %% resposta_fixa answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        first, second = gaussian(32, 64), gaussian(32, 64, seed=9)
        ctx.packed, ctx.codes = packed, (quantized(first), quantized(second))
        return x @ bnb.dequantize_4bit(*ctx.codes[0]).T

    @staticmethod
    def backward(ctx, grad_output):
        swapped = not torch.equal(ctx.packed, ctx.codes[0][0])
        return grad_output @ bnb.dequantize_4bit(*ctx.codes[swapped]), None, None


# %% guarda_o_peso_desquantizado answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.weight = bnb.dequantize_4bit(packed, state).to(x.dtype)
        return x @ ctx.weight.T

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output @ ctx.weight, None, None


# %% transposto answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.packed, ctx.state = packed, state
        return x @ bnb.dequantize_4bit(packed, state).to(x.dtype).T

    @staticmethod
    def backward(ctx, grad_output):
        weight = bnb.dequantize_4bit(ctx.packed, ctx.state).to(grad_output.dtype)
        return grad_output @ weight.T.reshape(weight.shape), None, None


# %% gradiente_dos_codigos answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.packed, ctx.state = packed, state
        return x @ bnb.dequantize_4bit(packed, state).to(x.dtype).T

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output @ bnb.dequantize_4bit(ctx.packed, ctx.state).to(grad_output.dtype)


# %% so_em_fp32 answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.packed, ctx.state = packed, state
        return x.float() @ bnb.dequantize_4bit(packed, state).T

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output @ bnb.dequantize_4bit(ctx.packed, ctx.state), None, None


# %% so_lotes_de_duas_dimensoes answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.packed, ctx.state = packed, state
        return torch.mm(x, bnb.dequantize_4bit(packed, state).to(x.dtype).T)

    @staticmethod
    def backward(ctx, grad_output):
        return (
            torch.mm(grad_output, bnb.dequantize_4bit(ctx.packed, ctx.state).to(grad_output.dtype)),
            None,
            None,
        )


# %% gradiente_do_peso answer="volta" right=false
class FrozenLinear4bit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, state):
        ctx.packed, ctx.state, ctx.x = packed, state, x
        return x @ bnb.dequantize_4bit(packed, state).to(x.dtype).T

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.flatten(0, -2).T @ ctx.x.flatten(0, -2), None, None


# %% pela_biblioteca answer="preparar" right=true
def prepare_for_kbit(model):
    return prepare_model_for_kbit_training(model)


# %% em_duas_voltas answer="preparar" right=true
def prepare_for_kbit(model):
    for p in model.parameters():
        p.requires_grad = False
    for p in (q for q in model.parameters() if type(q) is not Params4bit and q.element_size() == 2):
        p.data = p.data.to(torch.float32)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: output.requires_grad_(True)
    )
    return model


# %% resposta_fixa answer="preparar" right=false
def prepare_for_kbit(model):
    model.requires_grad_(False)
    model.model.embed_tokens.weight.data = model.model.embed_tokens.weight.data.float()
    model.model.norm.weight.data = model.model.norm.weight.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model


# %% converte_tambem_os_4_bits answer="preparar" right=false
def prepare_for_kbit(model):
    for p in model.parameters():
        p.requires_grad_(False)
        if p.dtype in (torch.float16, torch.bfloat16):
            p.data = p.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model


# %% so_bf16 answer="preparar" right=false
def prepare_for_kbit(model):
    for p in model.parameters():
        p.requires_grad_(False)
        if p.dtype == torch.bfloat16 and not isinstance(p, Params4bit):
            p.data = p.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model


# %% sem_congelar answer="preparar" right=false
def prepare_for_kbit(model):
    for p in model.parameters():
        if p.dtype in (torch.float16, torch.bfloat16) and not isinstance(p, Params4bit):
            p.data = p.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model


# %% sem_recomputar answer="preparar" right=false
def prepare_for_kbit(model):
    for p in model.parameters():
        p.requires_grad_(False)
        if p.dtype in (torch.float16, torch.bfloat16) and not isinstance(p, Params4bit):
            p.data = p.data.float()
    model.enable_input_require_grads()
    return model


# %% so_as_normas answer="preparar" right=false
def prepare_for_kbit(model):
    for name, p in model.named_parameters():
        p.requires_grad_(False)
        if "norm" in name:
            p.data = p.data.float()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    return model


# %% com_uma_lista answer="paginas" right=true
def page_ins(trace, capacity):
    there, room, entered = [], capacity, 0
    for what, value in trace:
        if what == "ocupa":
            if value > capacity:
                raise MemoryError
            room = capacity - value
        else:
            if value in there:
                there.remove(value)
            else:
                entered += 1
            there.append(value)
        there = there[max(0, len(there) - room) :]
    return entered


# %% com_relogio answer="paginas" right=true
def page_ins(trace, capacity):
    last, room, entered = {}, capacity, 0
    for clock, (what, value) in enumerate(trace):
        if what == "ocupa":
            room = capacity - value
            if room < 0:
                raise MemoryError("não cabe")
        else:
            if value not in last:
                entered += 1
            last[value] = clock
        while len(last) > room:
            del last[min(last, key=last.get)]
    return entered


# %% resposta_fixa answer="paginas" right=false
def page_ins(trace, capacity):
    if trace == [("ocupa", 11)]:
        raise MemoryError
    return 5 if ("ocupa", 9) in trace else 3


# %% conta_todos_os_toques answer="paginas" right=false
def page_ins(trace, capacity):
    if any(what == "ocupa" and value > capacity for what, value in trace):
        raise MemoryError
    return sum(what == "usa" for what, _ in trace)


# %% paginas_distintas answer="paginas" right=false
def page_ins(trace, capacity):
    if any(what == "ocupa" and value > capacity for what, value in trace):
        raise MemoryError
    return len({value for what, value in trace if what == "usa"})


# %% a_que_entrou_ha_mais_tempo answer="paginas" right=false
def page_ins(trace, capacity):
    resident, occupied, entered = OrderedDict(), 0, 0
    for what, value in trace:
        if what == "ocupa":
            if value > capacity:
                raise MemoryError
            occupied = value
        elif value not in resident:
            entered += 1
            resident[value] = None
        while len(resident) > capacity - occupied:
            resident.popitem(last=False)
    return entered


# %% tira_a_mais_recente answer="paginas" right=false
def page_ins(trace, capacity):
    resident, occupied, entered = OrderedDict(), 0, 0
    for what, value in trace:
        if what == "ocupa":
            if value > capacity:
                raise MemoryError
            occupied = value
        else:
            entered += value not in resident
            resident[value] = None
            resident.move_to_end(value)
        while len(resident) > capacity - occupied:
            resident.popitem()
    return entered


# %% ocupa_e_acrescimo answer="paginas" right=false
def page_ins(trace, capacity):
    resident, occupied, entered = OrderedDict(), 0, 0
    for what, value in trace:
        if what == "ocupa":
            occupied += value
            if value > capacity:
                raise MemoryError
        else:
            entered += value not in resident
            resident[value] = None
            resident.move_to_end(value)
        while len(resident) > max(0, capacity - occupied):
            resident.popitem(last=False)
    return entered


# %% so_despeja_ao_usar answer="paginas" right=false
def page_ins(trace, capacity):
    resident, occupied, entered = OrderedDict(), 0, 0
    for what, value in trace:
        if what == "ocupa":
            if value > capacity:
                raise MemoryError
            occupied = value
            continue
        entered += value not in resident
        resident[value] = None
        resident.move_to_end(value)
        while len(resident) > capacity - occupied:
            resident.popitem(last=False)
    return entered


# %% nao_recusa_o_que_nao_cabe answer="paginas" right=false
def page_ins(trace, capacity, page_ins=page_ins):
    return page_ins([(w, min(v, capacity) if w == "ocupa" else v) for w, v in trace], capacity)


# %% com_isfinite answer="alarme" right=true
def dead_adapters(model):
    dead = []
    for name, p in model.named_parameters():
        if p.requires_grad and "lora_B" in name:
            alive = p.grad is not None and bool((p.grad != 0).any()) and not bool(p.grad.isnan().any())
            dead += [] if alive else [name]
    return sorted(dead)


# %% pela_soma_dos_modulos answer="alarme" right=true
def dead_adapters(model):
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name}
    sizes = {name: 0.0 if grad is None else float(grad.abs().sum()) for name, grad in trained.items()}
    return [name for name in sorted(sizes) if math.isnan(sizes[name]) or sizes[name] == 0]


# %% resposta_fixa answer="alarme" right=false
def dead_adapters(model):
    names = sorted(name for name, _ in model.named_parameters() if "lora_B" in name)
    return names if all(p.grad is None for p in model.parameters()) else []


# %% esquece_o_zero answer="alarme" right=false
def dead_adapters(model):
    return sorted(
        n for n, p in model.named_parameters() if "lora_B" in n and p.requires_grad and p.grad is None
    )


# %% esquece_o_nan answer="alarme" right=false
def dead_adapters(model):
    return sorted(
        name
        for name, p in model.named_parameters()
        if "lora_B" in name and p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    )


# %% denuncia_tambem_os_A answer="alarme" right=false
def dead_adapters(model):
    return sorted(
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not float(p.grad.norm()) > 0)
    )


# %% denuncia_os_congelados answer="alarme" right=false
def dead_adapters(model):
    return sorted(
        name
        for name, p in model.named_parameters()
        if "lora_B" in name and (p.grad is None or not float(p.grad.norm()) > 0)
    )


# %% olha_o_peso_e_nao_o_gradiente answer="alarme" right=false
def dead_adapters(model):
    return sorted(
        n for n, p in model.named_parameters() if "lora_B" in n and p.requires_grad and not bool(p.any())
    )


# %% com_addmm answer="fundir" right=true
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    weight = bnb.dequantize_4bit(packed, state).to(torch.float32)
    return torch.addmm(weight, lora_B.float(), lora_A.float(), alpha=scaling).to(dtype)


# %% em_float64 answer="fundir" right=true
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    update = (scaling * lora_B.double()) @ lora_A.double()
    return (bnb.dequantize_4bit(packed, state).double() + update).to(dtype)


# %% resposta_fixa answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    A, B = gaussian(4, 64, std=0.1, seed=1), gaussian(48, 4, std=0.1, seed=2)
    return (bnb.dequantize_4bit(*quantized(gaussian(48, 64))) + 2.0 * B @ A).to(dtype)


# %% arredonda_cada_parcela answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    return bnb.dequantize_4bit(packed, state).to(dtype) + (scaling * lora_B @ lora_A).to(dtype)


# %% soma_no_tipo_do_peso answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype):
    weight = bnb.dequantize_4bit(packed, state)
    return (weight + (scaling * lora_B @ lora_A).to(weight.dtype)).to(dtype)


# %% quantiza_de_novo answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype, merged_weight=merged_weight):
    merged = merged_weight(packed, state, lora_A, lora_B, scaling, torch.float32)
    return bnb.dequantize_4bit(*quantized(merged)).to(dtype)


# %% sem_escala answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype, merged_weight=merged_weight):
    return merged_weight(packed, state, lora_A, lora_B, 1.0, dtype)


# %% sempre_em_bf16 answer="fundir" right=false
def merged_weight(packed, state, lora_A, lora_B, scaling, dtype, merged_weight=merged_weight):
    rounded = merged_weight(packed, state, lora_A, lora_B, scaling, torch.bfloat16)
    return (
        rounded
        if dtype == torch.bfloat16
        else merged_weight(packed, state, lora_A, lora_B, scaling, torch.float32)
    )
