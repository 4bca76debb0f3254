"""Modules that a lesson keeps from its students' kernels, because one of its exercises asks to write them.

A lesson names them in its header, under `jupyter: hidden_modules: [toolkit.bottleneck]`. The judge, where
tests run, still has them. What the warm parent had imported already is forgotten here, but code of it that
other loaded modules hold stays in memory; of a module that nothing imports before, nothing is left.
"""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from nbformat import NotebookNode

from autograder.runtime import linux

METADATA = "hidden_modules"
FLAG = "--hide="  # how a kernel is told, among its arguments


def arguments(notebook: NotebookNode) -> list[str]:
    """The kernel arguments for the modules that a lesson's notebook names."""
    return [f"{FLAG}{name}" for name in notebook.metadata.get(METADATA, ())]


def named(kernel_arguments: Sequence[str]) -> tuple[str, ...]:
    """The modules among a kernel's arguments."""
    return tuple(a.removeprefix(FLAG) for a in kernel_arguments if a.startswith(FLAG))


def cover(modules: Sequence[str], stage: Path) -> None:
    """Lay nothing over the modules' files, compiled ones too, in the root that is built at `stage`."""
    for path in {place for name in modules for found in _files(name) for place in (found, found.resolve())}:
        inside = stage / str(path).lstrip("/")
        if inside.is_dir():
            linux.mount("tmpfs", str(inside), "tmpfs", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)
        elif inside.exists():
            linux.mount(f"{stage}/dev/null", str(inside), None, linux.MS_BIND)


def forget(modules: Sequence[str]) -> None:
    """Let no import find the modules in this process: `import` raises ModuleNotFoundError."""
    for name in modules:
        for loaded in [known for known in sys.modules if known.startswith(f"{name}.")]:
            del sys.modules[loaded]
        sys.modules[name] = None  # type: ignore[assignment]
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(child, None)


def _files(module: str) -> Iterator[Path]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), module)
    file = Path(spec.origin)
    if spec.submodule_search_locations is not None:
        yield file.parent
    else:
        yield from (file, *file.parent.glob(f"__pycache__/{file.stem}.*"))
