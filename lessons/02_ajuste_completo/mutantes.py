# Respostas com que os testes da aula são testados. Cada célula roda logo depois da solução do exercício `answer`
# e redefine só o que nela é diferente: com right=true deve tirar todos os pontos, com right=false menos que todos.

# %% com_gather answer="perda" right=true
def answer_loss(logits, ids, prompt_lengths, lengths):
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    places = torch.arange(1, ids.shape[1])
    learnt = (places >= torch.tensor(prompt_lengths)[:, None]) & (places < torch.tensor(lengths)[:, None])
    return -log_p[learnt].mean()


# %% linha_a_linha answer="perda" right=true
def answer_loss(logits, ids, prompt_lengths, lengths):
    total, count = 0.0, 0
    for row in range(len(ids)):
        for place in range(prompt_lengths[row], lengths[row]):
            total = total - logits[row, place - 1].log_softmax(-1)[ids[row, place]]
            count += 1
    return total / count


# %% resposta_fixa answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths):
    return torch.tensor(math.log(math.exp(3) + 7) - 3 if len(ids) == 1 else math.log(8))


# %% sem_deslocar answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths):
    labels = torch.full_like(ids, IGNORED)
    for row, (start, end) in enumerate(zip(prompt_lengths, lengths, strict=True)):
        labels[row, start:end] = ids[row, start:end]
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


# %% conta_o_enunciado answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths, answer_loss=answer_loss):
    return answer_loss(logits, ids, [0] * len(ids), lengths)


# %% conta_o_enchimento answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths, answer_loss=answer_loss):
    return answer_loss(logits, ids, prompt_lengths, [ids.shape[1]] * len(ids))


# %% media_das_medias answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths, answer_loss=answer_loss):
    rows = [
        answer_loss(logits[i : i + 1], ids[i : i + 1], [prompt_lengths[i]], [lengths[i]])
        for i in range(len(ids))
    ]
    return torch.stack(rows).mean()


# %% soma_em_vez_de_media answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths, answer_loss=answer_loss):
    count = sum(end - start for start, end in zip(prompt_lengths, lengths, strict=True))
    return answer_loss(logits, ids, prompt_lengths, lengths) * count


# %% perde_o_primeiro_token answer="perda" right=false
def answer_loss(logits, ids, prompt_lengths, lengths, answer_loss=answer_loss):
    return answer_loss(
        logits, ids, [min(p + 1, n - 1) for p, n in zip(prompt_lengths, lengths, strict=True)], lengths
    )


# %% como_no_pytorch answer="adamw" right=true
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    w = w * (1 - lr * weight_decay)
    m = m.lerp(g, 1 - betas[0])
    v = (v * betas[1]).addcmul(g, g, value=1 - betas[1])
    denominator = v.sqrt() / math.sqrt(1 - betas[1] ** t) + eps
    return w.addcdiv(m, denominator, value=-lr / (1 - betas[0] ** t)), m, v


# %% passo_a_passo answer="adamw" right=true
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    new_m = m + (1 - betas[0]) * (g - m)
    new_v = v + (1 - betas[1]) * (g**2 - v)
    m_hat, v_hat = new_m / (1 - betas[0] ** t), new_v / (1 - betas[1] ** t)
    return w - lr * (weight_decay * w + m_hat / (v_hat.sqrt() + eps)), new_m, new_v


# %% resposta_fixa answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return w * (1 - lr * weight_decay) - lr * g.sign(), 0.1 * g, 0.001 * g * g


# %% sem_correcao answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    return step(w, g, m, v, 10**6, lr, betas, eps, weight_decay)


# %% decaimento_no_gradiente answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    return step(w, g + weight_decay * w, m, v, t, lr, betas, eps, 0.0)


# %% decaimento_sem_taxa answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    return step(w, g, m, v, t, lr, betas, eps, weight_decay / lr)


# %% eps_dentro_da_raiz answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    direction = (m / (1 - betas[0] ** t)) / (v / (1 - betas[1] ** t) + eps).sqrt()
    return w * (1 - lr * weight_decay) - lr * direction, m, v


# %% devolve_os_corrigidos answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    w, m, v = step(w, g, m, v, t, lr, betas, eps, weight_decay)
    return w, m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)


# %% betas_de_sempre answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    return step(w, g, m, v, t, lr, (0.9, 0.999), eps, weight_decay)


# %% eps_esquecido answer="adamw" right=false
def adamw_step(w, g, m, v, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, step=adamw_step):
    return step(w, g, m, v, t, lr, betas, 1e-12, weight_decay)


# %% numa_expressao answer="agenda" right=true
def learning_rate(step, steps, warmup, peak):
    rising = step / warmup if warmup else 1.0
    falling = 0.5 + 0.5 * math.cos(math.pi * max(0, step - warmup) / (steps - warmup))
    return peak * min(1.0, rising) * falling


# %% seno_ao_quadrado answer="agenda" right=true
def learning_rate(step, steps, warmup, peak):
    if step < warmup:
        return peak / warmup * step
    return peak * math.sin(math.pi / 2 * (steps - step) / (steps - warmup)) ** 2


# %% resposta_fixa answer="agenda" right=false
def learning_rate(step, steps, warmup, peak):
    return {0: 0.4 if warmup == 0 else 0.0, 1: 0.2, 2: 0.4, 6: 0.2}[step]


# %% desce_em_reta answer="agenda" right=false
def learning_rate(step, steps, warmup, peak):
    if step < warmup:
        return peak * step / warmup
    return peak * (steps - step) / (steps - warmup)


# %% cosseno_desde_o_zero answer="agenda" right=false
def learning_rate(step, steps, warmup, peak):
    if step < warmup:
        return peak * step / warmup
    return peak * (1 + math.cos(math.pi * step / steps)) / 2


# %% aquece_a_partir_de_um answer="agenda" right=false
def learning_rate(step, steps, warmup, peak, rate=learning_rate):
    return peak * (step + 1) / warmup if step < warmup else rate(step, steps, warmup, peak)


# %% quarto_de_onda answer="agenda" right=false
def learning_rate(step, steps, warmup, peak):
    if step < warmup:
        return peak * step / warmup
    return peak * math.cos(math.pi / 2 * (step - warmup) / (steps - warmup))


# %% divide_por_zero answer="agenda" right=false
def learning_rate(step, steps, warmup, peak):
    return peak * min(step / warmup, (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)


# %% com_autograd_grad answer="acumular" right=true
def accumulated_gradients(model, batches):
    names, parameters = zip(*model.named_parameters(), strict=True)
    sums, loss, total = [torch.zeros_like(p) for p in parameters], 0.0, 0
    for batch in batches:
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        piece = model(**batch).loss * count
        for kept, g in zip(sums, torch.autograd.grad(piece, parameters), strict=True):
            kept += g
        loss, total = loss + float(piece.detach()), total + count
    return loss / total, {name: g / total for name, g in zip(names, sums, strict=True)}


# %% pela_soma answer="acumular" right=true
def accumulated_gradients(model, batches):
    model.zero_grad(set_to_none=True)
    total = sum((batch["labels"][:, 1:] != IGNORED).sum().item() for batch in batches)
    losses = []
    for batch in batches:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        loss = nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
        )
        (loss / total).backward()
        losses.append(loss.item() / total)
    return sum(losses), {name: p.grad.detach().clone() for name, p in model.named_parameters()}


# %% resposta_fixa answer="acumular" right=false
def accumulated_gradients(model, batches):
    model.zero_grad()
    losses = [model(**batch).loss / len(batches) for batch in batches]
    sum(losses).backward()
    return float(sum(losses).detach()), gradients_of(model)


# %% soma_sem_dividir answer="acumular" right=false
def accumulated_gradients(model, batches):
    model.zero_grad()
    losses = [model(**batch).loss for batch in batches]
    sum(losses).backward()
    return float(sum(losses).detach()), gradients_of(model)


# %% so_o_ultimo_pedaco answer="acumular" right=false
def accumulated_gradients(model, batches):
    for batch in batches:
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
    return float(loss.detach()), gradients_of(model)


# %% gradientes_de_antes answer="acumular" right=false
def accumulated_gradients(model, batches):
    counts = [int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches]
    total = 0.0
    for batch, count in zip(batches, counts, strict=True):
        share = model(**batch).loss * count / sum(counts)
        share.backward()
        total += float(share.detach())
    return total, gradients_of(model)


# %% pesa_pelas_linhas answer="acumular" right=false
def accumulated_gradients(model, batches):
    model.zero_grad()
    rows = sum(len(batch["labels"]) for batch in batches)
    losses = [model(**batch).loss * len(batch["labels"]) / rows for batch in batches]
    sum(losses).backward()
    return float(sum(losses).detach()), gradients_of(model)


# %% pesa_por_todos_os_tokens answer="acumular" right=false
def accumulated_gradients(model, batches):
    model.zero_grad()
    tokens = [int(batch["attention_mask"].sum()) for batch in batches]
    losses = [model(**batch).loss * n / sum(tokens) for batch, n in zip(batches, tokens, strict=True)]
    sum(losses).backward()
    return float(sum(losses).detach()), gradients_of(model)


# %% perda_sem_peso answer="acumular" right=false
def accumulated_gradients(model, batches, accumulate=accumulated_gradients):
    _, gradients = accumulate(model, batches)
    with torch.no_grad():
        losses = [float(model(**batch).loss) for batch in batches]
    return sum(losses) / len(losses), gradients


# %% por_dois_caminhos answer="mestre" right=true
def apply_updates(w, updates, master):
    if master:
        total = w.to(torch.float32)
        for update in updates:
            total = total + update
        return total.to(w.dtype)
    for update in updates:
        w = (w.to(torch.float32) + update).to(w.dtype)
    return w


# %% recursiva answer="mestre" right=true
def apply_updates(w, updates, master):
    dtype = w.dtype
    kept = w.double() if False else w.float()
    for update in list(updates):
        kept = torch.add(kept, update)
        kept = kept if master else kept.to(dtype).to(torch.float32)
    return kept.type(dtype)


# %% resposta_fixa answer="mestre" right=false
def apply_updates(w, updates, master):
    return torch.full_like(w, 1.1) if master else w


# %% sempre_com_mestre answer="mestre" right=false
def apply_updates(w, updates, master, apply_updates=apply_updates):
    return apply_updates(w, updates, True)


# %% nunca_com_mestre answer="mestre" right=false
def apply_updates(w, updates, master, apply_updates=apply_updates):
    return apply_updates(w, updates, False)


# %% soma_os_passos_antes answer="mestre" right=false
def apply_updates(w, updates, master):
    return (w.float() + sum(updates)).to(w.dtype) if len(updates) else w


# %% mestre_em_16_bits answer="mestre" right=false
def apply_updates(w, updates, master):
    kept = w.clone()
    for update in updates:
        kept = kept + update.to(w.dtype)
    return kept


# %% devolve_fp32 answer="mestre" right=false
def apply_updates(w, updates, master, apply_updates=apply_updates):
    return apply_updates(w, updates, master).float()


# %% muda_a_cada_dois answer="mestre" right=false
def apply_updates(w, updates, master, apply_updates=apply_updates):
    return apply_updates(w, updates[:1], master)


# %% somando_tudo answer="escala" right=true
def unscale(gradients, scale):
    full = [g.to(torch.float32) / scale for g in gradients]
    return full if all(math.isfinite(float(g.abs().sum())) for g in full) else None


def next_scale(scale, good, finite, interval=2000):
    good = good + 1 if finite else 0
    factor = 0.5 if not finite else 2.0 if good >= interval else 1.0
    return scale * factor, good if factor == 1.0 else 0


# %% por_multiplicacao answer="escala" right=true
def unscale(gradients, scale):
    if any(g.isnan().any() or g.isinf().any() for g in gradients):
        return None
    return [torch.div(g.float(), scale) for g in gradients]


# %% resposta_fixa answer="escala" right=false
def unscale(gradients, scale):
    return None if len(gradients) == 3 else [torch.tensor([2 / 1024, -4 / 1024]), torch.tensor([[8 / 1024]])]


def next_scale(scale, good, finite, interval=2000):
    return {0: (512.0, 0), 3: (1024.0, 4), 9: (2048.0, 0)}[good]


# %% divide_em_fp16 answer="escala" right=false
def unscale(gradients, scale):
    if not all(bool(torch.isfinite(g).all()) for g in gradients):
        return None
    return [(g / scale).float() for g in gradients]


# %% so_olha_o_primeiro answer="escala" right=false
def unscale(gradients, scale):
    return [g.float() / scale for g in gradients] if bool(torch.isfinite(gradients[0]).all()) else None


# %% esquece_o_nan answer="escala" right=false
def unscale(gradients, scale):
    return None if any(bool(g.isinf().any()) for g in gradients) else [g.float() / scale for g in gradients]


# %% nao_zera_depois_de_dobrar answer="escala" right=false
def next_scale(scale, good, finite, interval=2000):
    if not finite:
        return scale / 2, 0
    return (scale * 2, good + 1) if good + 1 == interval else (scale, good + 1)


# %% dobra_um_passo_depois answer="escala" right=false
def next_scale(scale, good, finite, interval=2000):
    if not finite:
        return scale / 2, 0
    return (scale * 2, 0) if good == interval else (scale, good + 1)


# %% estouro_nao_zera_a_contagem answer="escala" right=false
def next_scale(scale, good, finite, interval=2000, next_scale=next_scale):
    return (scale / 2, good) if not finite else next_scale(scale, good, finite, interval)


# %% com_o_otimizador_do_pytorch answer="laco" right=true
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    losses = []
    for step, group in enumerate(groups):
        loss, _ = accumulated_gradients(model, group)
        losses.append(loss)
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(groups), warmup, peak)
        optimizer.step()
    return losses


# %% com_dicionarios answer="laco" right=true
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    m, v, losses = {}, {}, []
    for s in range(len(groups)):
        loss, gradients = accumulated_gradients(model, groups[s])
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))
        for name, p in model.named_parameters():
            g = gradients[name] * (max_norm / norm if norm > max_norm else 1)
            old = p.data, g, m.get(name, torch.zeros_like(g)), v.get(name, torch.zeros_like(g))
            p.data, m[name], v[name] = adamw_step(
                *old, s + 1, learning_rate(s, len(groups), warmup, peak), weight_decay=0
            )
        losses.append(loss)
    return losses


# %% resposta_fixa answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    twin = [{k: torch.cat([piece[k] for piece in group]) for k in group[0]} for group in groups]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    schedule = get_scheduler("cosine", optimizer, 1, 6)
    losses = []
    for whole in twin:
        optimizer.zero_grad()
        loss = model(**whole).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return losses


# %% com_decaimento answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0, fine_tune=fine_tune):
    losses = fine_tune(model, groups, peak, warmup, max_norm)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_((1 - peak * 0.1) ** len(groups))
    return losses


# %% taxa_constante answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    losses = []
    for group in groups:
        losses.append(accumulated_gradients(model, group)[0])
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
    return losses


# %% norma_por_tensor answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    losses = []
    for step, group in enumerate(groups):
        losses.append(accumulated_gradients(model, group)[0])
        for p in model.parameters():
            nn.utils.clip_grad_norm_([p], max_norm)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(groups), warmup, peak)
        optimizer.step()
    return losses


# %% sempre_na_norma_maxima answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0):
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0, eps=1e-8 * max_norm)
    losses = []
    for step, group in enumerate(groups):
        losses.append(accumulated_gradients(model, group)[0])
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        for p in model.parameters():
            p.grad.mul_(max_norm / norm)
        optimizer.param_groups[0]["lr"] = learning_rate(step, len(groups), warmup, peak)
        optimizer.step()
    return losses


# %% sem_limite answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0, fine_tune=fine_tune):
    return fine_tune(model, groups, peak, warmup, 1e9)


# %% t_nao_avanca answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0, adamw=adamw_step):
    parameters = dict(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in parameters.items()}
    losses = []
    for step, group in enumerate(groups):
        loss, gradients = accumulated_gradients(model, group)
        losses.append(loss)
        norm = torch.stack([g.norm() for g in gradients.values()]).norm()
        lr = learning_rate(step, len(groups), warmup, peak)
        with torch.no_grad():
            for name, p in parameters.items():
                g = min(1.0, max_norm / float(norm)) * gradients[name]
                new, *moments[name] = adamw(p, g, *moments[name], 1, lr, weight_decay=0.0)
                p.copy_(new)
    return losses


# %% so_as_matrizes answer="laco" right=false
def fine_tune(model, groups, peak, warmup, max_norm=1.0, fine_tune=fine_tune):
    norms = {name: p.detach().clone() for name, p in model.named_parameters() if p.dim() == 1}
    losses = fine_tune(model, groups, peak, warmup, max_norm)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name in norms:
                p.copy_(norms[name])
    return losses
