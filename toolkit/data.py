"""From a JSONL file of examples to padded batches of tokens, with the loss on the answers only."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IGNORED = -100  # the label that torch's cross entropy leaves out


class DataError(ValueError):
    """Data that cannot be trained on; the message names the file, the line and the field."""


@dataclass(frozen=True)
class Example:
    """What the model is asked and what it should answer."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Encoded:
    """One example as token ids; the first `prompt_length` of them are not learnt."""

    ids: tuple[int, ...]
    prompt_length: int


def read_examples(
    path: str | Path, prompt: str = "prompt", answer: str = "answer", instruction: str = ""
) -> list[Example]:
    """Read a JSONL file: one object a line, its fields named by `prompt` and `answer`.

    `instruction` is what the model is asked, with the prompt field's name in braces where its text goes.
    Raises DataError for a missing or empty file, one that is not UTF-8, a line that is not an object, a field
    that is not text.
    """
    path = Path(path)
    if instruction and f"{{{prompt}}}" not in instruction:
        raise DataError(f"instruction deve ter {{{prompt}}} onde entra o texto; recebi {instruction!r}.")
    examples = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # splitlines() would cut at U+2028
        if line.strip():
            asked, answered = _fields(f"{path}, linha {number}", line, prompt, answer)
            examples.append(Example(instruction.replace(f"{{{prompt}}}", asked) or asked, answered))
    if not examples:
        raise DataError(f"{path} não tem nenhum exemplo: esperava um objeto JSON por linha.")
    return examples


def read_text(path: Path) -> str:
    """The file's text. Raises DataError where it is missing, or not UTF-8 (with or without a mark)."""
    if not path.is_file():
        raise DataError(f"não encontrei {path}: confira o caminho do arquivo.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} não está em UTF-8 ({error.reason}, byte {error.start}): salve-o nessa codificação."
        ) from None


def _fields(where: str, line: str, *names: str) -> list[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: não é JSON válido ({error}).") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: esperava um objeto JSON, com os campos {', '.join(map(repr, names))}.")
    for name in names:
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(
                f"{where}: o campo {name!r} deve ser um texto não vazio; a linha tem {', '.join(row)}."
            )
    return [row[name] for name in names]


def prompt_text(tokenizer: Any, prompt: str) -> str:
    """The prompt in the model's chat template, or followed by a line break where it has none."""
    if not tokenizer.chat_template:
        return (tokenizer.bos_token or "") + prompt + "\n"
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def encode(tokenizer: Any, example: Example, longest: int) -> Encoded:
    """Tokenise one example: prompt, answer, end of text. Raises DataError above `longest` tokens.

    Prompt and answer are tokenised apart, as they are when the model generates.
    """
    if not all(isinstance(getattr(example, name, None), str) for name in ("prompt", "answer")):
        raise DataError(
            f"os dados devem ser uma lista de Example, com prompt e answer em texto, como read_examples "
            f"a devolve; nela há {str(example)[:60]}."
        )
    asked = tokenizer(prompt_text(tokenizer, example.prompt), add_special_tokens=False).input_ids
    answered = tokenizer(example.answer + tokenizer.eos_token, add_special_tokens=False).input_ids
    if len(asked) + len(answered) > longest:
        raise DataError(
            f"o exemplo que começa com {example.prompt[:40]!r} tem {len(asked) + len(answered)} tokens "
            f"e o plano aceita {longest}: encurte-o ou aumente seq_len."
        )
    return Encoded((*asked, *answered), len(asked))


def encode_all(tokenizer: Any, examples: Sequence[Example], longest: int) -> list[Encoded]:
    """Tokenise every example. Raises DataError when there is none, or as `encode` does."""
    if not examples:
        raise DataError("o conjunto de dados está vazio: passe ao menos um exemplo.")
    return [encode(tokenizer, example, longest) for example in examples]


def order(examples: int, seed: int) -> Iterator[int]:
    """Indices without end, a new order each epoch: a function of the seed, so that a run can resume."""
    import torch

    for epoch in itertools.count():
        yield from torch.randperm(examples, generator=torch.Generator().manual_seed(seed + epoch)).tolist()


def collate(batch: Sequence[Encoded], pad: int) -> dict[str, Any]:
    """Tensors (batch, longest in the batch): input_ids, attention_mask, labels (IGNORED where not learnt)."""
    import torch

    longest = max(len(encoded.ids) for encoded in batch)
    ids = torch.full((len(batch), longest), pad)
    labels = torch.full((len(batch), longest), IGNORED)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, encoded in enumerate(batch):
        length, learnt = len(encoded.ids), encoded.ids[encoded.prompt_length :]
        ids[row, :length] = torch.tensor(encoded.ids)
        labels[row, encoded.prompt_length : length] = torch.tensor(learnt)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def pack(batch: Sequence[Encoded]) -> dict[str, Any]:
    """The examples end to end, tensors (1, tokens): input_ids, labels, position_ids that restart at each.

    transformers sees from the positions where an example begins, and lets none attend to another
    (`masking_utils.find_packed_sequence_indices`).
    """
    import torch

    learnt = [[IGNORED] * max(1, e.prompt_length) + [*e.ids[max(1, e.prompt_length) :]] for e in batch]
    return {
        "input_ids": torch.tensor([[token for e in batch for token in e.ids]]),
        "position_ids": torch.tensor([[position for e in batch for position in range(len(e.ids))]]),
        "labels": torch.tensor([[label for labels in learnt for label in labels]]),
    }


def padding_share(examples: Sequence[Encoded], batch: int) -> float:
    """The share of the tokens of a batch that is padding, on average over `examples` in their order."""
    groups = [examples[start : start + batch] for start in range(0, len(examples), batch)]
    padded = sum(len(group) * max(len(e.ids) for e in group) for group in groups)
    return 1 - sum(len(e.ids) for e in examples) / padded
