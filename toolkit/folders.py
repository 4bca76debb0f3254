"""A folder written whole or not at all: nothing saved is lost to a full disk, an interrupt or a fault."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DiskError(OSError):
    """A folder that could not be written: disk full, no permission; one sentence. What was there still is."""


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well; else that stays.

    Raises DiskError where the disk is the reason, or where `folder` holds other files, which would be lost.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
            new = Path(work) / folder.name
            new.mkdir()
            yield new
            if folder.exists():
                _check_nothing_is_lost(folder, new)
                folder.rename(Path(work) / "old")
            new.rename(folder)
    except Exception as error:
        if not _of_the_disk(error):
            raise
        raise DiskError(
            f"não consegui gravar {folder} ({error}): libere espaço ou escolha outra pasta; "
            f"o que já estava gravado continua lá."
        ) from None


def _check_nothing_is_lost(folder: Path, new: Path) -> None:
    others = {path.name for path in folder.iterdir()} - {path.name for path in new.iterdir()}
    if others:
        raise FileExistsError(f"há nela outros arquivos, como {min(others)}")


def _of_the_disk(error: Exception) -> bool:
    """Python's own error, or what safetensors and torch.save make of it."""
    return isinstance(error, OSError) or any(
        name in f"{type(error).__name__} {error}"
        for name in ("SafetensorError", "PytorchStreamWriter", "inline_container", "iostream error")
    )
