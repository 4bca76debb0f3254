"""What a model answers: the text before and after a fine-tune."""

from __future__ import annotations

from typing import Any

from toolkit.data import prompt_text


def answer(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 64) -> str:
    """The model's greedy answer to `prompt`, in its chat template, of at most `max_new_tokens`."""
    import torch

    tokens = tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False, return_tensors="pt")
    was_training = model.training
    model.eval()
    with torch.no_grad():
        written = model.generate(
            **tokens.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id,
        )
    model.train(was_training)
    new = written[0, tokens.input_ids.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()
