"""A model's folder from the Hugging Face Hub or its cache, without ever waiting on a dead network."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path

SECONDS = 4.0
FILES = ["*.json", "*.safetensors", "*.model", "*.jinja"]


def folder(repo: str) -> tuple[Path | None, str]:
    """Where the model lies on disk (downloaded first where the hub answers), or None; and the reason."""
    from huggingface_hub import constants, snapshot_download

    if found := _cached(repo):
        return found, f"{repo} já está no disco"
    if constants.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE está ligada"
    if not answers(repo):
        return None, f"o Hugging Face Hub não respondeu em {SECONDS:.0f} s"
    try:
        return Path(snapshot_download(repo, allow_patterns=FILES)), f"o Hugging Face Hub entregou {repo}"
    except Exception as error:  # network, disk, gated: whatever it was, there is no model
        return None, f"a transferência de {repo} falhou ({type(error).__name__})"


def answers(repo: str, seconds: float = SECONDS) -> bool:
    """Whether the hub hands out the model's config within `seconds`.

    Asked in a thread: no timeout of a socket covers the search for the host's name.
    """
    from urllib.request import urlopen

    from huggingface_hub import hf_hub_url

    answered = threading.Event()

    def ask() -> None:
        address = hf_hub_url(repo, "config.json")
        with suppress(OSError, ValueError), urlopen(address, timeout=seconds) as response:
            if isinstance(json.load(response), dict):
                answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()


def _cached(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, name) for name in ("config.json", "tokenizer_config.json")]
    paths = [Path(path) for path in found if isinstance(path, str)]
    complete = len(paths) == 2 and any(paths[0].parent.glob("*.safetensors"))
    return paths[0].parent if complete else None
