"""The student tree: what a class gets, by GitHub or as a zip, checked for leaks before anything is written.

It is laid out like this repository: badges and the notebooks' first cell find everything in its place.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution

from autograder.course import NOT_DATA, Course
from autograder.publish import TELLING, PublishError, course_facts, leaks, secret_lines

NAME = "aula-peft"
COPIED = ("toolkit", "pyproject.toml", "LICENSE", "lessons/dados", "lessons/README.md", "lessons/ENTREGA.md")
VERSIONS = "versoes.json"
NOT_DONE = ["NotImplementedError"]
CELL_SECONDS = 600
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content makes the same zip


@dataclass(frozen=True)
class Release:
    """A student tree that was written: where, and each lesson's version, which follows from its content."""

    folder: Path
    archive: Path
    versions: dict[str, str]
    changed: list[str]  # the lessons that differ from the release before


def release(course: Course, root: Path, folder: Path) -> Release:
    """Write the tree of a course into `folder` and `folder`.zip; `root` is this repository.

    Raises PublishError with every fault found, and then nothing is written.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        tree = Path(scratch) / NAME
        _build(course, root, tree)
        faults = [*_text_faults(course, root, tree), *_run_faults(course, tree)]
        if faults:
            raise PublishError("Not released:\n" + "\n".join(faults))
        versions = {lesson: _version(_notebook(tree, lesson)) for lesson in course.lessons()}
        before = _versions_in(folder)
        (tree / VERSIONS).write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder / "lessons" / "colab", ignore_errors=True)  # of a lesson taken off the course
        shutil.copytree(tree, folder, dirs_exist_ok=True)
        archive = folder.with_name(f"{folder.name}.zip")
        _zip(tree, archive)
    return Release(folder, archive, versions, [n for n, v in versions.items() if before.get(n) != v])


def _build(course: Course, root: Path, tree: Path) -> None:
    for name in COPIED:
        source, target = root / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignore = NOT_DATA if name == "lessons/dados" else shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignore)
        elif source.is_file():
            shutil.copyfile(source, target)
    for lesson in course.lessons():
        _notebook(tree, lesson).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(course.notebook("release", lesson), _notebook(tree, lesson))


def _notebook(tree: Path, lesson: str) -> Path:
    return tree / "lessons" / "colab" / f"{lesson}.ipynb"


def _version(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _versions_in(folder: Path) -> dict[str, str]:
    path = folder / VERSIONS
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _text_faults(course: Course, root: Path, tree: Path) -> Iterator[str]:
    """Lines that students must not get, in a notebook or in a file beside it; badges that lead elsewhere."""
    facts = course_facts(root)
    place = f"{facts['repository']}/blob/{facts['branch']}/lessons/colab"
    texts = {
        path: path.read_text(encoding="utf-8", errors="replace") for path in (tree / "lessons").rglob("*.*")
    }
    for lesson in course.lessons():
        source = nbformat.read(course.notebook("source", lesson), as_version=4)
        released = course.released(lesson)
        yield from (f"{lesson}: {line!r} survives in the notebook." for line in leaks(source, released))
        first = released.cells[0].source
        if "colab-badge" in first and f"{place}/{lesson}.ipynb" not in first:
            yield f"{lesson}: its badge does not lead to {place}; run `autograder init` again."
        for line in {line for line in secret_lines(source) if len(line) >= TELLING}:
            found = [path for path, text in texts.items() if line in text and path.suffix != ".ipynb"]
            yield from (f"{lesson}: {line!r} stands in {path.relative_to(tree)}." for path in found)


def _run_faults(course: Course, tree: Path) -> Iterator[str]:
    """Run every notebook as handed out: each exercise says "not done", and nothing else fails."""
    for lesson in course.lessons():
        notebook = _run(nbformat.read(_notebook(tree, lesson), as_version=4), tree)
        for cell in notebook.cells:
            errors = [o.ename for o in cell.get("outputs", []) if o.output_type == "error"]
            test = is_grade(cell) and not is_solution(cell)
            if errors != (NOT_DONE if test else []):
                name = cell.metadata.get("nbgrader", {}).get("grade_id", cell.id)
                said = errors[0] if errors else "nothing"
                yield f"{lesson}, cell {name}: handed out as it is, it gives {said}" + (
                    " instead of NotImplementedError." if test else "."
                )


def _run(notebook: NotebookNode, tree: Path) -> NotebookNode:
    environment = {"NBGRADER_EXECUTION": "validate", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tree)}
    with tempfile.TemporaryDirectory(prefix="student-") as folder:
        (Path(folder) / "dados").symlink_to(tree / "lessons" / "dados")
        client = NotebookClient(
            notebook,
            # By a file in the folder: kernels that look for a TCP port at the same time find the same one.
            km=AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel"),
            timeout=CELL_SECONDS,
            allow_errors=True,
            resources={"metadata": {"path": folder}},
        )
        done: NotebookNode = client.execute(env=os.environ | environment, cleanup_kc=True)
    return done


def _zip(tree: Path, archive: Path) -> None:
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(
            path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts
        ):
            name = zipfile.ZipInfo(str(Path(NAME) / path.relative_to(tree)), EPOCH)
            name.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(name, path.read_bytes())
    part.replace(archive)
