"""A submission as nbgrader opens it: read within limits, and without links, whoever laid it there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory

from autograder.intake.archives import read_file
from autograder.intake.notebooks import read_notebook


class BoundedNotebook(NotebookExporter):
    """`c.Autograde.exporter_class`: what a submission is beyond what grading reads, nbformat never sees."""

    def from_filename(
        self, filename: str, resources: Any = None, **kw: Any
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """As the parent's, for what Autograde wrote; raises Refusal where a submission is no notebook."""
        names, course = resources["nbgrader"], CourseDirectory(parent=self)
        folder = course.format_path(course.submitted_directory, names["student"], names["assignment"])
        if Path(filename).parent != Path(folder):
            found: tuple[NotebookNode, dict[str, Any]] = super().from_filename(filename, resources, **kw)
            return found
        submitted = read_notebook(read_file(Path(filename)))
        return self.from_notebook_node(submitted, resources, **kw)  # type: ignore[no-any-return, no-untyped-call]


def remove_links(assignment: str, student: str, notebooks: Sequence[str]) -> None:
    """`c.Autograde.pre_convert_hook`: nbgrader would copy what they lead to, and give it to the student."""
    folder = Path(notebooks[0]).parent
    for path in [
        folder.parent,
        folder,
        *folder.rglob("*"),
    ]:  # in this order: nothing is removed behind a link
        if path.is_symlink():
            path.unlink()
