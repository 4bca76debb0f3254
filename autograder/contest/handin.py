"""A handed-in adapter, read within limits: configuration, tensors, and the base that it names."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError

from autograder import Refusal
from autograder.contest.rules import Contest
from autograder.intake.archives import Upload

CONFIG, WEIGHTS, BASE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "base.json",
)  # as toolkit.save names them
MAX_JSON = 64 * 2**10
MAX_HEADER = 2**20  # of a safetensors file: a thousand tensors have a tenth of this


@dataclass(frozen=True)
class HandIn:
    """An adapter as it came; nothing of it is believed yet."""

    config: dict[str, Any]
    tensors: Mapping[str, Any]
    base: dict[str, Any]  # dimensions, empty where the student sent none
    digest: str


def read_handin(files: Sequence[Upload], contest: Contest) -> HandIn:
    """Read one student's adapter. Raises Refusal, with a sentence for each side, where it cannot be."""
    config, weights = _bytes(files, CONFIG), _bytes(files, WEIGHTS)
    if len(weights) > contest.max_mib * 2**20:
        raise Refusal(
            f"is larger than {contest.max_mib:g} MiB", f"o adaptador passa de {contest.max_mib:g} MiB"
        )
    given = [upload for upload in files if upload.path.name == BASE]
    base = _json(given[0].read(), BASE) if given else {}
    return HandIn(
        _json(config, CONFIG), _tensors(weights), base, hashlib.sha256(config + weights).hexdigest()
    )


def _bytes(files: Sequence[Upload], name: str) -> bytes:
    found = {upload.read() for upload in files if upload.path.name == name}
    if len(found) != 1:
        count = "no" if not found else "more than one"
        raise Refusal(
            f"has {count} {name}",
            f"é preciso exatamente um arquivo {name}, o que toolkit.save escreveu",
        )
    return found.pop()


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data) if len(data) <= MAX_JSON else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refusal(f"has a {name} that is no small JSON object", f"o arquivo {name} está danificado")
    return value


def _tensors(data: bytes) -> Mapping[str, Any]:
    """Never a pickle: safetensors is a table of shapes, capped before it is read, and plain numbers."""
    from safetensors.torch import load

    broken = Refusal(f"has a {WEIGHTS} that cannot be read", f"o arquivo {WEIGHTS} está danificado")
    if len(data) < 8 or struct.unpack("<Q", data[:8])[0] > min(MAX_HEADER, len(data)):
        raise broken
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError):
        raise broken from None


def check(handin: HandIn, contest: Contest, base: Mapping[str, Any]) -> None:
    """Raise Refusal where the adapter breaks a rule. `base`: the dimensions of the contest's base model."""
    kind, rank = handin.config.get("peft_type"), handin.config.get("r", 0)
    if kind not in contest.kinds:
        raise Refusal(f"is of kind {kind!r:.40}", f"o tipo deve ser um de: {', '.join(contest.kinds)}")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= contest.max_rank:
        raise Refusal(f"has rank {rank!r:.40}", f"o posto deve ser de 1 a {contest.max_rank}")
    targets = handin.config.get("target_modules") or []
    other = {str(t) for t in targets} - set(contest.targets) if isinstance(targets, list) else {"?"}
    if other:
        raise Refusal(
            f"adapts {', '.join(sorted(other))[:80]}",
            f"os módulos-alvo permitidos são {', '.join(contest.targets)}",
        )
    said = {key: value for key, value in handin.base.items() if key in base and key != "name"}
    if any(base[key] != value for key, value in said.items()):
        raise Refusal("was trained on another base", f"o adaptador é de outra base; use {contest.base}")
