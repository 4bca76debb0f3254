"""How good a model is: which of given options it holds most likely, macro-F1, loss and perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolkit.data import Encoded, collate, prompt_text
from toolkit.generation import check_context, evaluating

Metric = Callable[[Any], Mapping[str, float]]  # a model's figures by name, as `train(..., metric=)` takes it


def choose(model: Any, tokenizer: Any, prompts: Sequence[str], options: Sequence[str]) -> list[str]:
    """For each prompt the option that the model holds most likely as its whole answer."""
    scores = [option_scores(model, tokenizer, prompt, options) for prompt in prompts]
    return [options[row.index(max(row))] for row in scores]


def option_scores(model: Any, tokenizer: Any, prompt: str, options: Sequence[str]) -> list[float]:
    """log p(option, end of text | prompt) of each option, in nats.

    The prompt is computed once; all options go on from its key-value cache in one batch. Padding stands
    behind the options, where a causal model does not see it. Raises DataError for a prompt that is too long.
    """
    import torch

    asked = tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False).input_ids
    written = tokenizer([option + tokenizer.eos_token for option in options], add_special_tokens=False)
    ends = collate([Encoded(tuple(ids), 0) for ids in written.input_ids], tokenizer.pad_token_id)
    check_context(model, len(asked) + ends["input_ids"].shape[1])
    ids, mask = (ends[name].to(model.device) for name in ("input_ids", "attention_mask"))
    with evaluating(model):
        start = model(input_ids=torch.tensor([asked], device=model.device), use_cache=True, logits_to_keep=1)
        start.past_key_values.batch_repeat_interleave(len(options))
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        rest = inner(input_ids=ids[:, :-1], past_key_values=start.past_key_values, use_cache=True)
    first = start.logits.expand(len(options), 1, -1)
    chances = torch.cat([first, rest.logits], dim=1).float().log_softmax(-1)
    of_each = chances.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return list((of_each * mask).sum(1).tolist())


def macro_f1(truth: Sequence[str], guesses: Sequence[str]) -> float:
    """The mean of the F1 of every kind in `truth`, each with the same weight (scikit-learn's)."""
    from sklearn.metrics import f1_score

    kinds = sorted(set(truth))
    return float(f1_score(truth, guesses, labels=kinds, average="macro", zero_division=0))


def mean_loss(model: Any, encoded: Sequence[Encoded], batch: int, pad: int) -> float:
    """Mean cross entropy, in nats a token, over what is learnt of every example, `batch` at a time."""
    learnt = sum(len(e.ids) - e.prompt_length for e in encoded)
    total = 0.0
    with evaluating(model):
        for start in range(0, len(encoded), batch):
            tensors = collate(encoded[start : start + batch], pad)
            tensors = {key: value.to(model.device) for key, value in tensors.items()}
            total += float(model(**tensors, num_items_in_batch=learnt).loss)
    return total


def perplexity(model: Any, tokenizer: Any, texts: Sequence[str], longest: int = 512, batch: int = 4) -> float:
    """exp(mean cross entropy a token) of plain texts, without a chat template: what a model has forgotten.

    Each text is cut after `longest` tokens; its first token is given. Comparable between models with the
    same tokenizer only.
    """
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=longest).input_ids
    encoded = [Encoded(tuple(text), 1) for text in ids if len(text) > 1]
    return math.exp(mean_loss(model, encoded, batch, tokenizer.pad_token_id))
