"""Submissions graded a minute: this grader, stock nbgrader, and otter-grader without containers.

A class hands in lesson 03 solved (imports torch, transformers, peft; its test cells; reduced training). Each
grader gets the same notebooks on the same cores, one after the other within a round. otter stays out of the
project's environment; in one of its own, beside the project:

    python3 -m venv .venv-otter
    .venv-otter/bin/pip install -c constraints.txt -e .
    .venv-otter/bin/pip install otter-grader==7.0.0
    python -m benchmarks.grading_throughput --rounds 2

`otter run` grades one submission a process: a few of them give its rate (--otter). Where there is no
.venv-otter, otter is left out and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import nbformat
import psutil
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode

from autograder.course import CONFIG_FILE, Course, write_notebook
from autograder.publish import source_notebook
from autograder.runtime.sandbox import ENVIRONMENT
from autograder.runtime.warm import PRELOAD

ROOT = Path(__file__).parents[1]
LESSON = "03_lora"
OTTER = ROOT / ".venv-otter" / "bin" / "otter"
CORES = os.cpu_count() or 1
# The lesson's reduced size, a notebook's pictures, a thread a process.
SIZE = ("NBGRADER_EXECUTION", "MPLBACKEND", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
STOCK_CONFIG = """
from autograder.publish import nbgrader_config
c = get_config()
c.merge(nbgrader_config())
c.CourseDirectory.root = "{root}"
"""


def honest_seconds(lesson: NotebookNode, imported: Sequence[str], repeats: int = 4) -> float:
    """CPU seconds of a submission's cells in IPython, forked from a process that has `imported` modules.

    On every core at once, as a class is graded: cores share what feeds them.
    """
    for name in imported:
        pkgutil.resolve_name(name)
    with multiprocessing.get_context("fork").Pool(CORES, maxtasksperchild=1) as pool:
        return median(pool.map(_honest, [lesson] * CORES * repeats, chunksize=1))


def _honest(lesson: NotebookNode) -> float:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        (Path(folder) / "dados").symlink_to(ROOT / "lessons" / "dados")
        os.chdir(folder)
        shell, start = InteractiveShell.instance(), time.process_time()
        for cell in lesson.cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source)
        return time.process_time() - start


class Memory(threading.Thread):
    """The most memory that a process and all below it hold, shared pages counted once (PSS, bytes)."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.process, self.peak = process, 0
        self.start()

    def run(self) -> None:
        """Look every second until the process ends."""
        while self.process.poll() is None:
            self.peak = max(self.peak, sum(_pss(self.process.pid)))
            time.sleep(1)


def _pss(pid: int) -> Iterator[int]:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            yield process.memory_full_info().pss
        except psutil.Error:
            continue


def timed(command: Sequence[object], cwd: Path) -> tuple[float, int]:
    """Wall seconds of a command and its peak memory in bytes; its output is shown where it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(list(map(str, command)), cwd=cwd, stdout=said, stderr=said)
        memory = Memory(process)
        status = process.wait()
        if status:
            said.seek(0)
            sys.exit(f"{command} failed with {status}:\n{said.read().decode()[-3000:]}")
    return time.perf_counter() - start, memory.peak


def ours(folder: Path, lesson: NotebookNode, count: int) -> tuple[float, int, float]:
    """`autograder grade` of the class: seconds, bytes, and seconds between the first and the last result."""
    course = Course.init(folder / "ours", {LESSON: lesson}, ROOT / "lessons" / "dados")
    students = [f"s{number:02d}" for number in range(count)]
    for student in students:
        write_notebook(folder / "downloads" / f"{student}.ipynb", lesson)
    (folder / "roster.csv").write_text("\n".join(["id", *students]))
    where = ("--submissions", folder / "downloads", "--roster", folder / "roster.csv")
    grade = (sys.executable, "-m", "autograder", "grade", course.root, "--lesson", LESSON, *where)
    seconds, memory = timed(grade, ROOT)
    with (course.root / "grades" / f"{LESSON}.csv").open() as table:
        scores = {row["score"] for row in csv.DictReader(table)}
    print(f"  scores: {scores}")
    times = sorted(path.stat().st_mtime for path in course.root.glob(f"records/{LESSON}/*"))
    return seconds, memory, times[-1] - times[0]


def stock(folder: Path, lesson: NotebookNode, count: int) -> tuple[float, int]:
    """`nbgrader autograde` of the class."""
    course = Course.init(folder / "stock", {LESSON: lesson}, ROOT / "lessons" / "dados")
    (course.root / CONFIG_FILE).write_text(STOCK_CONFIG.format(root=course.root))
    for number in range(count):
        write_notebook(course.notebook("submitted", LESSON, f"s{number:02d}"), lesson)
    return timed((Path(sys.executable).parent / "nbgrader", "autograde", LESSON), course.root)


def otter(folder: Path, lesson: NotebookNode, count: int) -> tuple[float, int]:
    """`otter run`, a process a submission: test cells become its test files."""
    (folder / "tests").mkdir()
    notebook = nbformat.from_dict(lesson)
    kept = []
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade") and not marks["solution"] and cell.cell_type == "code":
            name = marks["grade_id"]
            case = {"code": f">>> exec({cell.source!r})", "hidden": True}
            suites = [{"cases": [case], "type": "doctest", "scored": True}]
            test = {"name": name, "points": marks["points"], "suites": suites}
            (folder / "tests" / f"{name}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n")
        else:
            kept.append(cell)
    notebook.cells = kept
    nbformat.write(notebook, folder / f"{LESSON}.ipynb")
    (folder / "dados").symlink_to(ROOT / "lessons" / "dados")
    files = ("dados/clausulas", "dados/atendimento")
    timed((OTTER, "generate", "-t", "tests", "-o", "grader.zip", "--no-environment", *files), folder)
    run = (OTTER, "run", "-a", "grader.zip", "-o", ".", f"{LESSON}.ipynb")
    results = [timed(run, folder) for _ in range(count)]
    print(f"  {(folder / 'results.json').read_text()[:300]}")
    return sum(seconds for seconds, _ in results), max(memory for _, memory in results)


def in_turn(lesson: NotebookNode, count: int, by_otter: int) -> dict[str, tuple[float, ...]]:
    """One round: what each grader measured, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, tuple[float, ...]] = {"ours": ours(Path(folder), lesson, count)}
        found["stock"] = stock(Path(folder), lesson, count)
        if by_otter and OTTER.exists():
            seconds, memory = otter(Path(folder), lesson, by_otter)
            found["otter"] = (seconds * count / by_otter, memory)
    for name, (seconds, memory, *_) in found.items():
        print(f"  {name:6s} {60 * count / seconds:6.1f} a minute, peak {memory / 2**20:6.0f} MiB", flush=True)
    return found


def main() -> None:
    """Print each round, then the medians against the targets; leaves with 1 where one is missed."""
    parser = argparse.ArgumentParser(description="Submissions graded a minute.")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--submissions", type=int, default=24)
    parser.add_argument("--otter", type=int, default=6, help="submissions that otter grades; 0: none")
    asked = parser.parse_args()
    count = asked.submissions
    # For honest_seconds, stock and otter too.
    os.environ |= {name: ENVIRONMENT[name] for name in SIZE}
    lesson = source_notebook(LESSON, ROOT)
    honest = honest_seconds(lesson, ("torch", "transformers", "peft"))
    bare = honest_seconds(lesson, PRELOAD.split())
    print(f"honest work: {honest:.2f} s of CPU a submission once torch, transformers and peft are imported")
    print(f"  of which {bare:.2f} s once all is imported that lessons use, as the warm parent has it")
    rounds = []
    for number in range(asked.rounds):
        print(f"round {number + 1}")
        rounds.append(in_turn(lesson, count, asked.otter))
    print("targets: 7 times stock, 1.25 times the honest work shared by the cores")
    missed = False
    for name, place, graded in (("with its start", 0, count), ("from result to result", 2, count - 1)):
        work = median(found["ours"][place] for found in rounds) / graded * CORES
        stocks = median(found["stock"][0] / count * graded / found["ours"][place] for found in rounds)
        print(f"ours, {name}: {stocks:.1f} times stock; {work / honest:.2f} times the honest work,", end=" ")
        print(f"{work / bare:.2f} with all imported")
        missed |= stocks < 7 or work / honest > 1.25
    print(f"memory a worker: {median(found['ours'][1] for found in rounds) / CORES / 2**20:.0f} MiB")
    sys.exit(missed)


if __name__ == "__main__":
    main()
