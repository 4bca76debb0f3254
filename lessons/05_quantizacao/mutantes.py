# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% multiplica_pelo_inverso answer="absmax" right=true
def absmax_quantize(x, bits):
    top = 2 ** (bits - 1) - 1
    biggest = float(x.abs().max())
    inverse = top / biggest if biggest else 0.0
    return torch.round(x * inverse).char(), biggest / top


# %% escala_com_piso answer="absmax" right=true
def absmax_quantize(x, bits):
    top = (1 << bits - 1) - 1
    scale = torch.linalg.vector_norm(x, float("inf")).clamp(min=1e-20) / top
    return torch.clamp(torch.round(x / scale), -top, top).to(torch.int8), scale


# %% resposta_fixa answer="absmax" right=false
def absmax_quantize(x, bits):
    return torch.tensor([0, 4, -7, 1], dtype=torch.int8), torch.tensor(0.4)


# %% corta_em_vez_de_arredondar answer="absmax" right=false
def absmax_quantize(x, bits):
    scale = x.abs().max() / (2 ** (bits - 1) - 1)
    return (x / scale.clamp(min=1e-20)).to(torch.int8), scale


# %% usa_tambem_a_marca_a_mais answer="absmax" right=false
def absmax_quantize(x, bits):
    scale = x.abs().max() / 2 ** (bits - 1)
    return (x / scale.clamp(min=1e-20)).round().to(torch.int8), scale


# %% maximo_sem_modulo answer="absmax" right=false
def absmax_quantize(x, bits):
    scale = x.max() / (2 ** (bits - 1) - 1)
    return (x / scale.clamp(min=1e-20)).round().to(torch.int8), scale


# %% zeros_dao_nan answer="absmax" right=false
def absmax_quantize(x, bits):
    scale = x.abs().max() / (2 ** (bits - 1) - 1)
    if scale == 0:
        return torch.zeros_like(x, dtype=torch.int8), scale / scale
    return (x / scale).round().to(torch.int8), scale


# %% so_4_bits answer="absmax" right=false
def absmax_quantize(x, bits, absmax_quantize=absmax_quantize):
    return absmax_quantize(x, 4)


# %% em_torch answer="ponto_zero" right=true
def zero_point_quantize(x, bits):
    top = 2**bits - 1
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = ((high - low) / top).clamp(min=1e-20)
    zero = (-low / scale).round().int()
    return torch.clamp(torch.round(x / scale) + zero, 0, top).byte(), scale, zero


# %% somando_antes_de_arredondar answer="ponto_zero" right=true
def zero_point_quantize(x, bits):
    low, high = min(0.0, x.min().item()), max(0.0, x.max().item())
    if low == high:
        return torch.zeros_like(x, dtype=torch.uint8), 1.0, 0
    scale = (high - low) / (2**bits - 1)
    zero = int(-low / scale + 0.5)
    return torch.round(x / scale + zero).clamp(0, 2**bits - 1).to(torch.uint8), scale, zero


# %% resposta_fixa answer="ponto_zero" right=false
def zero_point_quantize(x, bits):
    return torch.tensor([0, 3, 8, 15], dtype=torch.uint8), 0.2, 3


# %% sem_estender_ate_o_zero answer="ponto_zero" right=false
def zero_point_quantize(x, bits):
    low, high = float(x.min()), float(x.max())
    scale = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / scale)
    return ((x / scale).round() + zero).clamp(0, 2**bits - 1).to(torch.uint8), scale, zero


# %% sem_limitar_a_faixa answer="ponto_zero" right=false
def zero_point_quantize(x, bits):
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    zero = round(-low / scale)
    return ((x / scale).round() + zero).to(torch.uint8), scale, zero


# %% um_passo_a_mais answer="ponto_zero" right=false
def zero_point_quantize(x, bits):
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 2**bits or 1.0
    zero = round(-low / scale)
    return ((x / scale).round() + zero).clamp(0, 2**bits - 1).to(torch.uint8), scale, zero


# %% zero_com_sinal_trocado answer="ponto_zero" right=false
def zero_point_quantize(x, bits, zero_point_quantize=zero_point_quantize):
    q, scale, zero = zero_point_quantize(x, bits)
    return q, scale, -zero


# %% zero_que_nao_e_inteiro answer="ponto_zero" right=false
def zero_point_quantize(x, bits):
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    return ((x - low) / scale).round().clamp(0, 2**bits - 1).to(torch.uint8), scale, -low / scale


# %% pela_tabela_de_distancias answer="blocos" right=true
def quantize(w, code, block=64):
    indices, absmax = [], []
    for piece in w.flatten().split(block):
        largest = piece.abs().max()
        unit = piece / largest if largest > 0 else piece
        indices.append((unit[:, None] - code[None, :]).abs().argmin(dim=1))
        absmax.append(largest)
    return torch.cat(indices).to(torch.uint8), torch.stack(absmax)


# %% busca_e_vizinho answer="blocos" right=true
def quantize(w, code, block=64):
    flat = w.reshape(-1)
    pieces = flat.split(block)
    absmax = torch.tensor([float(piece.abs().max()) for piece in pieces])
    unit = flat / absmax.repeat_interleave(block)[: len(flat)].clamp(min=1e-20)
    right = torch.searchsorted(code, unit).clamp(1, len(code) - 1)
    nearer_left = (unit - code[right - 1]).abs() <= (code[right] - unit).abs()
    return (right - nearer_left.long()).to(torch.uint8), absmax


def dequantize(indices, absmax, code, block, shape):
    values = code[indices.int()]
    for number in range(len(absmax)):
        values[number * block : (number + 1) * block] *= absmax[number]
    return values.reshape(*shape)


# %% resposta_fixa answer="blocos" right=false
def quantize(w, code, block=64):
    if w.numel() == 10:
        return torch.zeros(10, dtype=torch.uint8), torch.ones(3)
    return torch.tensor([3, 0, 3, 2, 3, 0], dtype=torch.uint8), torch.tensor([4.0, 0.2])


def dequantize(indices, absmax, code, block, shape):
    return torch.tensor([[-4.0, 2.0, 0.0], [0.1, -0.2, 0.2]])


# %% uma_escala_so answer="blocos" right=false
def quantize(w, code, block=64, quantize=quantize):
    indices, absmax = quantize(w, code, w.numel())
    return indices, absmax.expand(math.ceil(w.numel() / block))


# %% ultimo_bloco_perdido answer="blocos" right=false
def quantize(w, code, block=64, quantize=quantize):
    return quantize(w.flatten()[: w.numel() // block * block], code, block)


# %% completa_e_nao_corta answer="blocos" right=false
def quantize(w, code, block=64, quantize=quantize):
    flat = w.flatten()
    return quantize(nn.functional.pad(flat, (0, -flat.numel() % block)), code, block)


# %% o_menor_que_alcanca answer="blocos" right=false
def quantize(w, code, block=64):
    flat = w.flatten()
    blocks = nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks / absmax.clamp(min=1e-30)[:, None]
    indices = torch.bucketize(scaled, code).clamp(max=len(code) - 1)
    return indices.flatten()[: flat.numel()].to(torch.uint8), absmax


# %% supoe_a_regua_uniforme answer="blocos" right=false
def quantize(w, code, block=64, quantize=quantize):
    return quantize(w, torch.linspace(-1, 1, len(code)), block)


# %% zeros_dao_nan answer="blocos" right=false
def quantize(w, code, block=64):
    flat = w.flatten()
    blocks = nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    indices = torch.bucketize(blocks / absmax[:, None], (code[1:] + code[:-1]) / 2)
    return indices.flatten()[: flat.numel()].to(torch.uint8), absmax


# %% divide_pela_escala answer="blocos" right=false
def dequantize(indices, absmax, code, block, shape):
    scales = absmax.repeat_interleave(block)[: indices.numel()]
    return (code[indices.long()] / scales).view(shape)


# %% volta_so_com_blocos_inteiros answer="blocos" right=false
def dequantize(indices, absmax, code, block, shape):
    size = indices.numel() // len(absmax)
    return (code[indices.long()].view(-1, size) * absmax[:, None]).view(shape)


# %% pela_funcao_de_erro answer="nf4" right=true
def normal_codes(bits=4, p_max=0.9677083333333333):
    half = 2 ** (bits - 1)
    right = torch.erfinv(2 * torch.linspace(p_max, 0.5, half + 1, dtype=torch.float64)[:-1] - 1)
    left = torch.erfinv(2 * torch.linspace(p_max, 0.5, half, dtype=torch.float64) - 1)
    return (torch.cat([-left, right.flip(0)]) / right[0]).float()


# %% pelo_lado_esquerdo answer="nf4" right=true
def normal_codes(bits=4, p_max=(1 - 1 / 32 + 1 - 1 / 30) / 2):
    bell, half = NormalDist(), 2 ** (bits - 1)
    step = (p_max - 0.5) / (half - 1) if half > 1 else 0
    left = [bell.inv_cdf(1 - p_max + n * step) for n in range(half - 1)]
    step = (p_max - 0.5) / half
    right = [bell.inv_cdf(0.5 + n * step) for n in range(1, half + 1)]
    return torch.tensor([v / right[-1] for v in [*left, 0.0, *right]])


# %% resposta_fixa answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083):
    return bnb.get_4bit_type("nf4", device="cpu")


# %% simetrico_com_dois_zeros answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083):
    half = 2 ** (bits - 1)
    right = [NormalDist().inv_cdf(p) for p in torch.linspace(p_max, 0.5, half + 1).tolist()[:-1]]
    codes = torch.tensor([*right, *(-value for value in right)]).sort().values
    return codes / codes.max()


# %% lados_trocados answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083, normal_codes=normal_codes):
    return -normal_codes(bits, p_max).flip(0)


# %% sem_normalizar answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083, normal_codes=normal_codes):
    return normal_codes(bits, p_max) * NormalDist().inv_cdf(p_max)


# %% uniforme answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083):
    half = 2 ** (bits - 1)
    return torch.tensor(
        [*(-n / (half - 1) for n in range(half - 1, 0, -1)), *(n / half for n in range(half + 1))]
    )


# %% esquece_o_p_max answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083, normal_codes=normal_codes):
    return normal_codes(bits)


# %% so_4_bits answer="nf4" right=false
def normal_codes(bits=4, p_max=0.9677083, normal_codes=normal_codes):
    return normal_codes(4, p_max)


# %% aritmetica answer="empacotar" right=true
def pack(indices):
    if len(indices) % 2:
        indices = torch.cat([indices, indices.new_zeros(1)])
    return indices[0::2] * 16 + indices[1::2]


def unpack(packed, count):
    codes = torch.empty(2 * len(packed), dtype=torch.uint8)
    codes[0::2], codes[1::2] = packed // 16, packed % 16
    return codes[:count]


# %% em_python answer="empacotar" right=true
def pack(indices):
    numbers = [*indices.tolist(), 0]
    return torch.tensor(
        [a << 4 | b for a, b in zip(numbers[:-1:2], numbers[1::2], strict=False)], dtype=torch.uint8
    )


def unpack(packed, count):
    numbers = [code for byte in packed.tolist() for code in divmod(byte, 16)]
    return torch.tensor(numbers[:count], dtype=torch.uint8)


# %% resposta_fixa answer="empacotar" right=false
def pack(indices):
    return torch.tensor([214, 15], dtype=torch.uint8)


def unpack(packed, count):
    return torch.tensor([13, 6, 0, 15], dtype=torch.uint8)


# %% bits_baixos_primeiro answer="empacotar" right=false
def pack(indices):
    pairs = nn.functional.pad(indices, (0, indices.numel() % 2)).view(-1, 2)
    return pairs[:, 1] << 4 | pairs[:, 0]


def unpack(packed, count):
    return torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:count]


# %% metades_em_vez_de_vizinhos answer="empacotar" right=false
def pack(indices):
    first, second = nn.functional.pad(indices, (0, indices.numel() % 2)).chunk(2)
    return first << 4 | second


def unpack(packed, count):
    return torch.cat([packed >> 4, packed & 15])[:count]


# %% nao_aceita_impares answer="empacotar" right=false
def pack(indices):
    return indices[0::2] << 4 | indices[1::2]


# %% perde_o_ultimo_impar answer="empacotar" right=false
def pack(indices):
    count = len(indices) // 2 * 2
    return indices[0:count:2] << 4 | indices[1:count:2]


# %% esquece_count answer="empacotar" right=false
def unpack(packed, count):
    return torch.stack([packed >> 4, packed & 15], dim=1).flatten()


# %% com_outro_tipo answer="empacotar" right=false
def pack(indices, pack=pack):
    return pack(indices).int()


# %% sem_o_quantize answer="dupla" right=true
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    mean = float(absmax.mean())
    pieces = (absmax - mean).split(block)
    absmax2 = torch.stack([piece.abs().max() for piece in pieces])
    nearest = [
        (piece[:, None] / top - code).abs().argmin(1) for piece, top in zip(pieces, absmax2, strict=True)
    ]
    return torch.cat(nearest).to(torch.uint8), absmax2, mean


def restore_absmax(indices, absmax2, mean, code=DYNAMIC_8BIT, block=256):
    return mean + code[indices.int()] * absmax2.repeat_interleave(block)[: len(indices)]


# %% pela_soma answer="dupla" right=true
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    mean = absmax.sum() / absmax.numel()
    return *quantize(absmax.sub(mean), code, block), mean


def restore_absmax(indices, absmax2, mean, code=DYNAMIC_8BIT, block=256):
    return torch.add(dequantize(indices, absmax2, code, block, (indices.numel(),)), mean)


# %% resposta_fixa answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    return torch.tensor([0, 4, 2, 2], dtype=torch.uint8), torch.tensor([1.0]), torch.tensor(2.0)


def restore_absmax(indices, absmax2, mean, code=DYNAMIC_8BIT, block=256):
    return torch.tensor([1.0, 3.0, 2.0, 2.0])


# %% sem_subtrair_a_media answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    return *quantize(absmax, code, block), torch.tensor(0.0)


# %% media_por_bloco answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    pieces = absmax.split(block)
    centred = torch.cat([piece - piece.mean() for piece in pieces])
    return *quantize(centred, code, block), absmax.mean()


# %% nao_soma_a_media answer="dupla" right=false
def restore_absmax(indices, absmax2, mean, code=DYNAMIC_8BIT, block=256):
    return dequantize(indices, absmax2, code, block, indices.shape)


# %% blocos_de_64 answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    mean = absmax.mean()
    return *quantize(absmax - mean, code, 64), mean


# %% ignora_o_dicionario answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256, double_quantize=double_quantize):
    return double_quantize(absmax, DYNAMIC_8BIT, block)


# %% uma_escala_para_todas answer="dupla" right=false
def double_quantize(absmax, code=DYNAMIC_8BIT, block=256):
    mean = absmax.mean()
    return *quantize(absmax - mean, code, absmax.numel()), mean


# %% bits_por_bloco answer="bits" right=true
def bits_per_parameter(block=64, double_quant=False, block2=256):
    if not double_quant:
        return (4 * block + 32) / block
    return (4 * block * block2 + 8 * block2 + 32) / (block * block2)


# %% soma_de_partes answer="bits" right=true
def bits_per_parameter(block=64, double_quant=False, block2=256):
    parts = [4, 8 / block, 32 / (block * block2)] if double_quant else [4, 32 / block]
    return sum(parts)


# %% resposta_fixa answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256):
    return 4.126953125 if double_quant else 4.5


# %% escala_de_16_bits answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256):
    return 4 + (8 + 16 / block2 if double_quant else 16) / block


# %% soma_as_duas_escalas answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256):
    return 4 + 32 / block + (8 / block if double_quant else 0)


# %% bloco2_sem_o_bloco answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256):
    return 4 + (8 / block + 32 / block2 if double_quant else 32 / block)


# %% sem_as_escalas answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256):
    return 4.0


# %% ignora_block2 answer="bits" right=false
def bits_per_parameter(block=64, double_quant=False, block2=256, bits_per_parameter=bits_per_parameter):
    return bits_per_parameter(block, double_quant)


# %% pelo_tipo_do_peso answer="contar_4bit" right=true
def real_size(model):
    total = size = 0
    for p in model.parameters():
        size += p.nbytes
        if isinstance(p, Params4bit):
            total += 2 * p.nbytes
            size += p.quant_state.absmax.nbytes
            if p.quant_state.state2 is not None:
                size += p.quant_state.state2.absmax.nbytes
        else:
            total += p.numel()
    return total, size


# %% por_modulos answer="contar_4bit" right=true
def real_size(model):
    states = [m.weight.quant_state for m in model.modules() if isinstance(m, Linear4bit)]
    plain = [p for p in model.parameters() if not isinstance(p, Params4bit)]
    total = sum(p.numel() for p in plain) + sum(s.shape.numel() for s in states)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    scales = [t for s in states for t in (s.absmax, s.state2.absmax if s.state2 else None) if t is not None]
    return [total, size + sum(t.numel() * t.element_size() for t in scales)]


# %% resposta_fixa answer="contar_4bit" right=false
def real_size(model):
    return (32_768, 18_432) if isinstance(model, Linear4bit) else (44, 176)


# %% numel_ingenuo answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    return sum(p.numel() for p in model.parameters()), real_size(model)[1]


# %% dobra_o_numel answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    total = sum(p.numel() * (2 if isinstance(p, Params4bit) else 1) for p in model.parameters())
    return total, real_size(model)[1]


# %% dobra_so_uint8 answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    total = sum(p.numel() * (2 if p.dtype == torch.uint8 else 1) for p in model.parameters())
    return total, real_size(model)[1]


# %% esquece_as_escalas answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    return real_size(model)[0], sum(p.numel() * p.element_size() for p in model.parameters())


# %% esquece_a_segunda_escala answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    states = [p.quant_state for p in model.parameters() if isinstance(p, Params4bit)]
    lost = sum(s.state2.absmax.numel() * 4 for s in states if s.state2 is not None)
    return real_size(model)[0], real_size(model)[1] - lost


# %% escalas_sempre_de_32_bits answer="contar_4bit" right=false
def real_size(model):
    total = size = 0
    for p in model.parameters():
        state = getattr(p, "quant_state", None)
        total += math.prod(state.shape) if state else p.numel()
        size += p.numel() * p.element_size() + (4 * state.absmax.numel() if state else 0)
    return total, size


# %% compartilhado_duas_vezes answer="contar_4bit" right=false
def real_size(model, real_size=real_size):
    total, size = real_size(model)
    twice = [p for _, p in model.named_parameters(remove_duplicate=False)]
    extra = sum(p.numel() for p in twice) - sum(p.numel() for p in model.parameters())
    return total + extra, size + 4 * extra
