"""What students ask before they hand in: is it right (`conferir`), is the file complete (`entregar`)."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.lesson import Cell, Exercise, exercises, is_stub, mark, source
from toolkit.notebook import NotebookError, current_notebook

MAX_MIB = 20  # a file larger than this is refused by many course pages
GRADING = "NBGRADER_EXECUTION"


@dataclass(frozen=True)
class Outcome:
    """What the visible tests say of an exercise: "certo", "errado", "não feito" or "respondido" (by hand)."""

    state: str
    hint: str = ""


def conferir(caderno: str | Path = "") -> None:
    """Roda os testes visíveis da aula e diz, por exercício: certo, errado (com uma dica) ou ainda não feito.

    `caderno`: o nome do arquivo, só quando não dá para descobri-lo.
    """
    with _student() as namespace:
        if namespace is None:
            return
        outcomes = [(e, check(e, namespace)) for e in exercises(current_notebook(caderno)["cells"])]
        width = max((len(exercise.title) for exercise, _ in outcomes), default=0)
        for exercise, outcome in outcomes:
            hint = f": {outcome.hint}" if outcome.hint else ""
            print(f"{exercise.title:.<{width + 2}} {outcome.state}{hint}")
        tested = [outcome.state for exercise, outcome in outcomes if exercise.tests]
        print(f"\n{tested.count('certo')} de {len(tested)} certos nos testes que você vê.")
        print("Na correção rodam também testes que você não vê, com entradas novas.")


def entregar(caderno: str | Path = "") -> None:
    """Confere se o arquivo está completo para ser entregue e diz como baixá-lo. Não envia nada."""
    with _student() as namespace:
        if namespace is None:
            return
        problems = faults(current_notebook(caderno))
        for problem in problems:
            print(f"- {problem}")
        print("\nAinda assim pode ser entregue." if problems else "O caderno está completo.")
        print("1. Reinicie o ambiente e execute tudo: o que só roda noutra ordem não vale na correção.")
        if "COLAB_RELEASE_TAG" in os.environ:
            print("2. Arquivo → Fazer download → Fazer download do .ipynb.")
        else:
            print("2. Salve (Ctrl+S) e baixe o .ipynb: File → Download.")
        print("3. Envie esse arquivo pela página da disciplina. O nome do arquivo não importa.")


@contextlib.contextmanager
def _student() -> Iterator[dict[str, Any] | None]:
    """The student's variables; None while the notebook is being graded, where nobody reads along."""
    from IPython import get_ipython

    shell = get_ipython()
    try:
        yield None if GRADING in os.environ else dict(shell.user_ns) if shell else {}
    except NotebookError as reason:
        print(reason)


def check(exercise: Exercise, namespace: Mapping[str, Any]) -> Outcome:
    """Run an exercise's visible tests on a copy of the student's variables, in which nothing changes."""
    if any(is_stub(cell) for cell in exercise.answers):
        return Outcome("não feito")
    if not exercise.tests:
        return Outcome("respondido", "será corrigido por uma pessoa")
    names = dict(namespace)
    for test in exercise.tests:
        try:
            _run(source(test), names)
        except NotImplementedError:
            return Outcome("não feito")
        except Exception as error:
            return Outcome("errado", _hint(error, exercise, namespace))
    return Outcome("certo", _stale(exercise, namespace))


def _run(text: str, names: dict[str, Any]) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        exec(compile(TransformerManager().transform_cell(text), "teste", "exec"), names)


def _hint(error: Exception, exercise: Exercise, namespace: Mapping[str, Any]) -> str:
    """What to look at: a cell that was not run explains more than what came of it."""
    stale = _stale(exercise, namespace)
    if stale or isinstance(error, NameError):
        return stale or f"{error}; rode as células desde o começo"
    if isinstance(error, AssertionError):
        return str(error) or "um assert não passou; rode a célula de testes para ver qual"
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'sem mensagem'}"


def _stale(exercise: Exercise, namespace: Mapping[str, Any]) -> str:
    """A sentence where the answer's cell was changed since it was run; "" where IPython keeps no record."""
    ran = {str(text).strip() for text in namespace.get("In", ())}
    changed = [cell for cell in exercise.answers if ran and source(cell).strip() not in ran]
    return "a célula da resposta não foi rodada como está agora; rode-a" if changed else ""


def faults(notebook: Mapping[str, Any]) -> list[str]:
    """What is missing in a notebook that is to be handed in, a sentence each."""
    found = exercises(notebook["cells"])
    if not found:
        return ["Este caderno não tem exercícios: será o de outra coisa?"]
    names = Counter(mark(cell)["grade_id"] for cell in notebook["cells"] if "grade_id" in mark(cell))
    wanted = notebook.get("metadata", {}).get("aula_peft", {}).get("celulas", [])
    copies = [(name, count) for name, count in names.items() if count > 1]
    size = len(json.dumps(notebook)) / 2**20
    return [
        *(f"{e.title}: ainda não feito." for e in found if any(map(is_stub, e.answers))),
        *(f"{e.title}: a resposta não é Python válido." for e in found if any(map(_is_broken, e.answers))),
        *(f"A célula {n!r} foi apagada; recupere-a no caderno da aula." for n in wanted if n not in names),
        *(f"A célula {n!r} aparece {k} vezes; vale a última cópia que você alterou." for n, k in copies),
        *([f"O arquivo tem {size:.0f} MiB; limpe as saídas, que não contam."] if size > MAX_MIB else []),
    ]


def _is_broken(cell: Cell) -> bool:
    from IPython.core.inputtransformer2 import TransformerManager

    if cell["cell_type"] != "code":
        return False
    try:
        ast.parse(TransformerManager().transform_cell(source(cell)))
    except (SyntaxError, ValueError):
        return True
    return False
