"""A folder written whole or not at all: nothing saved is lost to a full disk, an interrupt or a fault."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well; else that stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        new = Path(work) / folder.name
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(work) / "old")
        new.rename(folder)
