"""The calculator's words and numbers, in Portuguese and in English."""

from __future__ import annotations

from typing import Literal

from toolkit.vram.memory import GIB

Language = Literal["pt", "en"]

WORDS: dict[str, tuple[str, str]] = {
    # title and fields
    "title": ("Calculadora de VRAM", "VRAM calculator"),
    "subtitle": (
        "Quanto de memória de GPU um ajuste fino pede, e o que fazer quando não cabe.",
        "How much GPU memory a fine-tune asks for, and what to do when it does not fit.",
    ),
    "model": ("Modelo", "Model"),
    "other_model": ("Outro modelo", "Another model"),
    "paste": ("cole o config.json", "paste its config.json"),
    "method": ("Método", "Method"),
    "gpu": ("GPU", "GPU"),
    "batch": ("Lote (sequências)", "Batch (sequences)"),
    "seq_len": ("Sequência (tokens)", "Sequence (tokens)"),
    "rank": ("Posto (r)", "Rank (r)"),
    "targets": ("Módulos-alvo", "Target modules"),
    "virtual_tokens": ("Tokens virtuais", "Virtual tokens"),
    "bottleneck": ("Gargalo", "Bottleneck"),
    "checkpointing": ("Recomputação de ativações", "Gradient checkpointing"),
    "advanced": ("Avançado", "Advanced"),
    "preset": ("Caminho pronto", "Preset path"),
    "optimizer": ("Otimizador", "Optimizer"),
    "dtype": ("Tipo dos pesos", "Weights dtype"),
    "compute_dtype": ("Tipo do cálculo", "Compute dtype"),
    "autocast": ("Precisão mista (autocast)", "Mixed precision (autocast)"),
    "adapter_dtype": ("Tipo do adaptador", "Adapter dtype"),
    "attention": ("Atenção", "Attention"),
    "loss": ("Cálculo da perda", "Loss path"),
    "kernels": ("Normas e MLP", "Norms and MLP"),
    "upcast": ("Passar a fp32", "Upcast to fp32"),
    "accumulation": ("Acumulação", "Accumulation"),
    "quant_type": ("Códigos de 4 bits", "4-bit codes"),
    "double_quant": ("Quantização dupla", "Double quantization"),
    "use_dora": ("DoRA", "DoRA"),
    "set_to_none": ("Gradientes liberados entre passos", "Gradients freed between steps"),
    "use_cache": ("Cache de atenção ligado", "KV cache left on"),
    "hold_output": ("Saída do modelo guardada", "Model output kept alive"),
    # options
    "Full": ("Ajuste fino completo", "Full fine-tuning"),
    "LoRA": ("LoRA", "LoRA"),
    "QLoRA": ("QLoRA (4 bits)", "QLoRA (4 bits)"),
    "PrefixTuning": ("Ajuste de prefixo", "Prefix tuning"),
    "PromptTuning": ("Ajuste de prompt", "Prompt tuning"),
    "IA3": ("IA3", "IA3"),
    "Adapter": ("Adaptador (gargalo)", "Bottleneck adapter"),
    "all-linear": ("todos os lineares", "all linear modules"),
    "upcast.none": ("nada", "nothing"),
    "upcast.norms": ("normas", "norms"),
    "upcast.all": ("tudo que não é 4 bits", "all that is not 4-bit"),
    "optimizer.adamw": ("AdamW (foreach)", "AdamW (foreach)"),
    "optimizer.adamw_fused": ("AdamW fundido", "AdamW fused"),
    "optimizer.adamw_loop": ("AdamW em laço", "AdamW for-loop"),
    "optimizer.adamw_8bit": ("AdamW de 8 bits", "AdamW 8-bit"),
    "optimizer.paged_adamw_8bit": ("AdamW de 8 bits paginado", "AdamW 8-bit, paged"),
    "optimizer.paged_adamw_32bit": ("AdamW paginado", "AdamW paged"),
    "optimizer.adafactor": ("Adafactor", "Adafactor"),
    "optimizer.sgd": ("SGD", "SGD"),
    "optimizer.sgd_momentum": ("SGD com momento", "SGD with momentum"),
    "loss.fp32": ("em fp32 (transformers)", "in fp32 (transformers)"),
    "loss.in_place": ("gradiente sobre os logits (Unsloth)", "gradient over the logits (Unsloth)"),
    "loss.no_upcast": ("sem passar a fp32", "without upcast"),
    "loss.chunked": ("em blocos (TRL 2026)", "chunked (TRL 2026)"),
    "loss.fused": ("fundida (Liger)", "fused (Liger)"),
    "kernels.torch": ("do transformers", "of transformers"),
    "kernels.norms": ("normas em Triton (Unsloth)", "norms in Triton (Unsloth)"),
    "kernels.liger": ("ambas em Triton (Liger)", "both in Triton (Liger)"),
    "kernels.lora": ("normas e LoRA em Triton (Unsloth)", "norms and LoRA in Triton (Unsloth)"),
    "hold_output.never": ("não", "no"),
    "hold_output.backward": ("até o fim da volta", "through the backward"),
    "hold_output.step": ("até o fim do passo", "through the step"),
    "hold_output.next": ("até a próxima ida", "until the next forward"),
    "padding": ("Lotes com preenchimento", "Padded batches"),
    "choose": ("escolha…", "choose…"),
    # parts of the memory
    "weights": ("Pesos do modelo", "Model weights"),
    "quant_constants": ("Constantes da quantização", "Quantization constants"),
    "adapters": ("Adaptadores", "Adapters"),
    "gradients": ("Gradientes", "Gradients"),
    "optimizer_states": ("Estados do otimizador", "Optimizer states"),
    "optimizer_temporaries": ("Temporários do otimizador", "Optimizer temporaries"),
    "activations": ("Ativações guardadas", "Activations kept"),
    "recompute": ("Trabalho de uma camada", "One layer's working memory"),
    "logits": ("Logits e perda", "Logits and loss"),
    "workspaces": ("Áreas do cuBLAS", "cuBLAS workspaces"),
    "batch_tensors": ("Lote de dados", "Batch tensors"),
    "allocator": ("Folga do alocador", "Allocator slack"),
    "context": ("Contexto CUDA", "CUDA context"),
    # moments
    "load": ("carga", "load"),
    "forward": ("ida", "forward"),
    "loss_moment": ("perda", "loss"),
    "backward": ("volta", "backward"),
    "step": ("otimizador", "optimizer"),
    # sentences
    "fits": ("Cabe na {gpu}, com folga de {margin}.", "It fits on the {gpu}, with {margin} to spare."),
    "tight": (
        "No limite na {gpu}: pode faltar até {missing}.",
        "On the edge on the {gpu}: up to {missing} may be missing.",
    ),
    "exceeds": (
        "Não cabe na {gpu}: faltam cerca de {missing}.",
        "Too large for the {gpu} by about {missing}.",
    ),
    "peak": (
        "Pico de {value} (entre {low} e {high}) de {memory}, no momento: {moment}.",
        "Peak of {value} (between {low} and {high}) of {memory}, at: {moment}.",
    ),
    "trained": (
        "Treina {trainable} de {total} parâmetros ({percent} %).",
        "Trains {trainable} of {total} parameters ({percent} %).",
    ),
    "no_bf16": (
        "A {gpu} não tem bf16: use fp16 com precisão mista; os bytes são os mesmos.",
        "The {gpu} has no bf16: use fp16 mixed precision; the bytes are the same.",
    ),
    "limits": ("Até onde cabe, mudando só isto", "How far it fits, changing only this"),
    "largest_model": ("maior modelo do catálogo", "largest model of the catalogue"),
    "smallest_gpu": ("menor GPU em que cabe", "smallest GPU that holds it"),
    "nothing": ("nenhum", "none"),
    "fixes": ("O que faz caber", "What makes it fit"),
    "helps": ("O que ajuda, mas não basta", "What helps, but is not enough"),
    "code": ("Código do plano", "The plan as code"),
    "copy": ("Copiar o código", "Copy the code"),
    "copied": ("Copiado", "Copied"),
    "part": ("Parte", "Part"),
    "total": ("Total (nvidia-smi)", "Total (nvidia-smi)"),
    "shared": (
        "Com {gpus} placas e {strategy}: {value} em cada uma (entre {low} e {high}).",
        "With {gpus} cards and {strategy}: {value} on each (between {low} and {high}).",
    ),
    "by_moment": ("Memória em cada momento do passo", "Memory at each moment of a step"),
    "at_peak": ("No pico", "At the peak"),
    "loading": ("Carregando o Python no navegador…", "Loading Python in the browser…"),
    "not_integer": (
        "{field} deve ser um número inteiro; recebi {value}.",
        "{field} must be an integer; got {value}.",
    ),
}


def say(key: str, language: Language, **values: str) -> str:
    """The text of `key` in the language, its braces filled in."""
    return WORDS[key][0 if language == "pt" else 1].format(**values)


def number(value: float, language: Language, decimals: int = 0) -> str:
    """1.234,5 in Portuguese, 1,234.5 in English."""
    text = f"{value:,.{decimals}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "pt" else text


def gib(size: float, language: Language) -> str:
    """Bytes as GiB with one decimal (two below 1), or as MiB below a tenth of a GiB."""
    if abs(size) < GIB / 10:
        return f"{number(size / 2**20, language)} MiB"
    return f"{number(size / GIB, language, 2 if abs(size) < GIB else 1)} GiB"
