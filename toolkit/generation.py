"""What a model answers: greedy text, one prompt or many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from toolkit.data import DataError, prompt_text


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode (no dropout) without gradients for the length of the block."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def answer(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 64) -> str:
    """The model's greedy answer to `prompt`, in its chat template, of at most `max_new_tokens`."""
    return answers(model, tokenizer, [prompt], max_new_tokens)[0]


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int = 64, batch: int = 16
) -> list[str]:
    """The greedy answer to each of `prompts`, in their order; `batch` of them are written at a time.

    Prompts of like length go together. Prefixes and soft prompts stand in front of the padding, which would
    come between them and the text: there every prompt goes alone.
    """
    texts = [prompt_text(tokenizer, prompt) for prompt in prompts]
    by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batch = 1 if virtual_tokens(model) else batch
    written: dict[int, str] = {}
    with evaluating(model):
        for start in range(0, len(texts), batch):
            group = by_length[start : start + batch]
            new = _continue(model, tokenizer, [texts[index] for index in group], max_new_tokens)
            written |= zip(group, new, strict=True)
    return [written[index] for index in range(len(texts))]


def virtual_tokens(model: Any) -> int:
    """Positions that the active adapter puts in front of every sequence."""
    config = getattr(model, "peft_config", {}).get(getattr(model, "active_adapter", None))
    return getattr(config, "num_virtual_tokens", 0) or 0


def check_context(model: Any, tokens: int) -> None:
    """Raise DataError for a text that, with what is written after it, the model has no positions for."""
    longest = model.config.max_position_embeddings - virtual_tokens(model)
    if tokens > longest:
        raise DataError(
            f"o texto com a resposta ocupa {tokens} tokens e o modelo só tem posições para {longest}: "
            f"encurte-o ou peça uma resposta menor."
        )


def _continue(model: Any, tokenizer: Any, texts: Sequence[str], max_new_tokens: int) -> list[str]:
    tokens = tokenizer(
        list(texts), add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
    )
    check_context(model, tokens.input_ids.shape[1] + max_new_tokens)
    ids = model.generate(
        input_ids=tokens.input_ids.to(model.device),
        attention_mask=tokens.attention_mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = tokenizer.batch_decode(ids[:, tokens.input_ids.shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in new]
