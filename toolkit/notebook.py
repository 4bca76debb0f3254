"""The notebook that one is working in: asked of Colab, or read from the file that Jupyter has open."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

COLAB_SECONDS = 30


class NotebookError(Exception):
    """The notebook cannot be read; the message (in Portuguese) says what to do."""


def current_notebook(path: str | Path = "") -> dict[str, Any]:
    """The notebook's JSON: the file at `path` if given, else the one that is open. Raises NotebookError.

    In Colab it is what the page shows now; elsewhere it is the file as it was last saved.
    """
    if not path and "COLAB_RELEASE_TAG" in os.environ:
        return _from_colab()
    # Jupyter's server tells a kernel its notebook's path; VS Code puts it among the kernel's variables.
    place = Path(path or os.environ.get("JPY_SESSION_NAME", "") or _from_vs_code())
    if not place.is_file():
        raise NotebookError(
            'Não sei qual é o arquivo deste caderno. Salve-o e diga o nome: conferir("03_lora.ipynb").'
        )
    try:
        notebook = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        notebook = None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise NotebookError(f"{place} não é um caderno (.ipynb) inteiro. Salve-o de novo e repita.")
    return notebook


def _from_colab() -> dict[str, Any]:
    from google.colab import _message

    answer = _message.blocking_request("get_ipynb", timeout_sec=COLAB_SECONDS)
    if not answer:
        raise NotebookError("O Colab não respondeu. Salve o caderno (Ctrl+S) e rode esta célula de novo.")
    notebook: dict[str, Any] = answer["ipynb"]
    return notebook


def _from_vs_code() -> str:
    from IPython import get_ipython

    shell = get_ipython()
    return str(shell.user_ns.get("__vsc_ipynb_file__", "")) if shell else ""
