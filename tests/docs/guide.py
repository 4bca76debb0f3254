"""The instructor's guide run: each command of its console blocks, in order, on a small course.

`python -m tests.docs.guide` writes what the commands print into both languages' guides.
"""

import contextlib
import os
import re
import shlex
import tempfile
import time
from pathlib import Path

from typer.testing import CliRunner

from autograder import Refusal, cli
from autograder.cli.shared import console

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "docs" / "guide.md", ROOT / "docs" / "guia.md"]
BLOCK = re.compile(r"```console\n\$ autograder (.*?)\n(.*?)```", re.DOTALL)
HOME = "/home/ana/curso"
WIDTH = 100  # characters in a line
TOML = 'title = "Exemplo"\nrepository = "ana/curso"\nbranch = "main"\nlessons = ["01_soma"]\n'
HEAD = (
    "# %%\n\n# %% [markdown]\n# https://x/$repository/blob/$branch/lessons/colab/$lesson.ipynb colab-badge\n"
)
LESSON = """
# %% [markdown]
# # Somas
#
# ### Exercício 1: `soma`

# %% nbgrader={"grade_id": "soma", "solution": true}
def soma(a, b):
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION

# %% nbgrader={"grade_id": "soma_teste", "points": 4}
assert soma(1, 2) == 3, "soma(1, 2) deve dar 3"
### BEGIN HIDDEN TESTS
assert soma(-7, 5) == -2, "e com números negativos?"
### END HIDDEN TESTS

# %% [markdown]
# ### Exercício 2: por quê?

# %% [markdown] nbgrader={"grade_id": "aberta", "solution": true, "points": 6}
# Porque a soma de dois números não depende da ordem.
"""


def commands(text: str) -> list[str]:
    """The commands of a guide, without the `$ autograder`."""
    return [command for command, _ in BLOCK.findall(text)]


def run_all(lines: list[str]) -> list[str]:
    """What each command prints in a folder with a repository of one small lesson."""
    console.width = WIDTH  # else of the terminal in which it was imported
    os.environ["TZ"] = "UTC"  # previews show this machine's time
    time.tzset()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        lesson = Path("lessons/01_soma/01_soma.py")
        lesson.parent.mkdir(parents=True)
        lesson.write_text(LESSON, encoding="utf-8")
        Path("lessons/cabecalho.py").write_text(HEAD, encoding="utf-8")
        Path("lessons/rodape.py").write_text("# %%\n", encoding="utf-8")
        Path("lessons/dados").mkdir()
        Path("course.toml").write_text(TOML, encoding="utf-8")
        return [_shown(_run(line), folder) for line in lines]


def _run(line: str) -> str:
    result = CliRunner().invoke(cli.app, shlex.split(line), env={"COLUMNS": str(WIDTH)})
    if isinstance(result.exception, Refusal):
        return f"{result.exception}\n"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def _shown(text: str, folder: str) -> str:
    """Without what is different each time: this machine's folder, times taken, today."""
    text = text.replace(os.path.realpath(folder), HOME).replace(folder, HOME)
    text = re.sub(r"\d:\d\d:\d\d", "0:00:00", text)
    text = re.sub(r"\d{4}-\d\d-\d\d\.tar", "2026-12-01.tar", text)
    text = re.sub(r"[\d,]+ bytes", "12,345 bytes", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")) + "\n"


def filled(text: str, outputs: list[str]) -> str:
    """A guide with these outputs in its blocks."""
    left = iter(outputs)
    return BLOCK.sub(lambda m: f"```console\n$ autograder {m[1]}\n{next(left)}```", text)


if __name__ == "__main__":
    first, *others = (path.read_text(encoding="utf-8") for path in GUIDES)
    printed = run_all(commands(first))
    for path, guide in zip(GUIDES, (first, *others), strict=True):
        path.write_text(filled(guide, printed), encoding="utf-8")
