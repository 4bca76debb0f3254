"""The open question's rubric: what an answer's words suggest of it, as a hint beside it that scores nothing.

A rubric stands in the locked cell right before the answer, between `### BEGIN MARK SCHEME` and
`### END MARK SCHEME`: a numbered line a criterion, which may end in its words, as in
`(palavras: nf4, 4 bits; peso, base)`: one of each group, case and accents apart.
"""

import re
import unicodedata
from typing import Any

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution

END = "### END MARK SCHEME"
CRITERION = re.compile(r"^(\d+)\..*\(palavras: ([^)]*)\)\s*$", re.MULTILINE)
HINT = "*Hint, which scores nothing: by its words the answer may meet {} of the criteria with words ({}).*"


def suggested(rubric: str, answer: str) -> dict[str, bool]:
    """Criterion number -> whether the answer has a word of each of its groups."""
    plain = _plain(answer)
    return {
        number: all(any(_plain(w.strip()) in plain for w in g.split(",")) for g in words.split(";"))
        for number, words in CRITERION.findall(rubric)
    }


def _plain(text: str) -> str:
    """Lower case, without accents, with single spaces."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())


class SuggestCriteria(NbGraderPreprocessor):  # type: ignore[misc]
    """Last of `c.Autograde.autograde_preprocessors`: the hint goes into the rubric, which no student gets."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Add to each rubric what the answer after it suggests."""
        rubric = None
        for cell in nb.cells:
            if END in cell.source and not is_solution(cell):
                rubric = cell
            elif rubric is not None and is_grade(cell) and is_solution(cell):
                found = suggested(rubric.source, cell.source)
                met = [number for number, meets in found.items() if meets]
                line = HINT.format(f"{len(met)} of {len(found)}", ", ".join(met) or "none")
                rubric.source = rubric.source.replace(END, f"\n{line}\n{END}")
                rubric = None
        return nb, resources
