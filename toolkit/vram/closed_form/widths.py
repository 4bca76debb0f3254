"""How many elements the closed form's tensors have in a plan, by the names of their widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from toolkit.methods import Adapter, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import BYTES, Plan
from toolkit.vram.closed_form.route import CHUNK, EXPERTS
from toolkit.vram.closed_form.tape import Key
from toolkit.vram.static import BLOCK

DEQUANTIZED = 512  # rows above which a 4-bit product makes the whole weight first (see toolkit.vram.kernels)
WIDTHS = {**BYTES, "byte": 1}
ROTARY = {"phi": 0.5, "stablelm": 0.25, "gpt_neox": 0.25}  # the part of a head that is rotated, by default


def sizes(plan: Plan, keys: Sequence[Key]) -> list[int]:
    """Bytes of each key."""
    known, modules = _elements(plan), _modules(plan.model)
    rank = plan.method.rank if isinstance(plan.method, LoRA) else 0
    whole = known["row"] > DEQUANTIZED  # a product of more rows makes the 4-bit weight first
    nested = isinstance(plan.method, QLoRA) and plan.method.double_quant
    found = []
    for width, dtype in keys:
        number = known.get(width)
        if number is None:
            kind, name = _split(width)
            if kind in OF_WIDTH:
                number = OF_WIDTH[kind](known[name] if name in known else _nested(name, known, plan), plan)
            else:
                inputs, outputs = modules[name]
                number = OF_MODULE[kind](inputs, outputs, rank, known["row"], whole, nested)
            known[width] = number
        found.append(number * WIDTHS[dtype])
    return found


@cache
def _split(width: str) -> tuple[str, str]:
    kind, _, name = width.partition(":")
    return kind, name


def _nested(name: str, known: dict[str, int], plan: Plan) -> int:
    """A width of a width, as the half of what is rotated."""
    kind, inner = _split(name)
    return OF_WIDTH[kind](known[inner], plan)


OF_WIDTH: dict[str, Callable[[int, Plan], int]] = {
    "half": lambda number, _: number // 2,
    "rotary": lambda number, plan: int(number * ROTARY.get(plan.model.family, 1.0)),
    "each": lambda number, _: number // EXPERTS,
    "rest": lambda number, plan: number * (plan.model.layers - 1),
}
OF_MODULE: dict[str, Callable[[int, int, int, int, bool, bool], int]] = {
    "W": lambda inputs, outputs, *_: inputs * outputs,
    "dequantized": lambda inputs, outputs, _rank, _rows, whole, _nested: inputs * outputs * whole,
    "blocks": lambda inputs, outputs, _rank, _rows, _whole, nested: inputs * outputs // BLOCK * nested,
    "scales": lambda inputs, outputs, _rank, _rows, whole, nested: inputs * outputs // BLOCK * whole * nested,
    "A": lambda inputs, _, rank, *__: rank * inputs,
    "B": lambda _, outputs, rank, *__: rank * outputs,
    "rank": lambda _, __, rank, rows, *___: rows * rank,
    "eye": lambda inputs, *_: inputs**2,
    "eyerank": lambda inputs, _, rank, *__: inputs * rank,
    "magnitude": lambda _, outputs, *__: outputs,
}


@lru_cache(maxsize=256)
def _modules(model: Architecture) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each module by name: those of a layer, the head, and an expert's."""
    return {
        **{linear.name: (linear.inputs, linear.outputs) for linear in model.linears()},
        "lm_head": (model.hidden, model.vocab),
        "expert.in": (model.hidden, model.intermediate),
        "expert.out": (model.intermediate, model.hidden),
    }


def _elements(plan: Plan) -> dict[str, int]:
    model, method = plan.model, plan.method
    words = plan.batch * plan.seq_len
    tokens = words + (plan.batch * plan.virtual_tokens if isinstance(method, PromptTuning) else 0)
    keys = tokens + (plan.batch * plan.virtual_tokens if isinstance(method, PrefixTuning) else 0)
    length = tokens // plan.batch
    each, chosen = model.hidden, max(1, model.experts_per_token)
    inner = model.intermediate * chosen if model.experts else model.intermediate
    pieces = -(-model.vocab // model.hidden)
    piece = min(1 << (-(-tokens // pieces) - 1).bit_length(), tokens)
    chunk, embedding = min(CHUNK, tokens), model.embedding or model.hidden
    square = length * keys // plan.batch
    rank = method.rank if isinstance(method, LoRA) else 0
    virtual, bottleneck = plan.virtual_tokens, method.bottleneck if isinstance(method, Adapter) else 0
    return {
        "none": 0,
        "row": tokens,
        "hidden": tokens * each,
        "words": words * embedding,
        "q": tokens * model.q_width,
        "kv": tokens * model.kv_width,
        "qkv": tokens * (model.q_width + 2 * model.kv_width),
        "qkeys": keys * model.q_width,
        "keys": keys * model.kv_width,
        "inner": tokens * inner,
        "twice": 2 * tokens * inner,
        "shared": tokens * model.shared_intermediate,
        "moved": tokens * chosen * each,
        "routes": tokens * model.experts,
        "choices": tokens * chosen,
        "scores": tokens * model.heads * keys // plan.batch,
        "square": square,
        "mask": (plan.batch if plan.padding else 1) * square,
        "bias": plan.batch * square,
        "heads": tokens * model.heads,
        "flash": plan.batch * -(-length // 128) * 128 * model.heads * -(-model.head_dim // 32) * 32,
        "efficient": (1 if model.head_dim <= 64 else 3) * tokens * model.q_width,
        "angles": length * model.head_dim,
        "places": plan.seq_len * each,
        "logits": tokens * model.vocab,
        "chunk": chunk * model.vocab,
        "rows": chunk * each,
        "others": (tokens - chunk) * each,
        "piece": piece * model.vocab,
        "pieces": piece * model.vocab if piece < tokens else 0,
        "piecerows": piece * each,
        "prefix": plan.batch * virtual * model.kv_width,
        "prefixes": plan.batch * virtual * 2 * model.layers * model.kv_width,
        "prefixtable": virtual * 2 * model.layers * model.kv_width,
        "prompt": plan.batch * virtual * embedding,
        "prompttable": virtual * embedding,
        "bottleneck": tokens * bottleneck,
        "down": each * bottleneck,
        "up": each * bottleneck,
        "norm": each,
        "scale": each,
        "W:embedding": model.vocab * embedding,
        "W:places": model.max_positions * each,
        "W:project": embedding * each,
        "W:router": model.experts * each,
        "W:up": model.experts * each * 2 * model.intermediate,
        "W:down": model.experts * each * model.intermediate,
        "L:up": rank * model.experts * (2 * each + 4 * model.intermediate),
        "L:down": rank * model.experts * (each + model.intermediate),
    }
