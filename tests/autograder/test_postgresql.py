"""A gradebook in PostgreSQL, Debian's own on loopback: the same grades as in SQLite, from two workers."""

import contextlib
import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from autograder.course import CONFIG_FILE, Course
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in, source_notebook

CLASS = {
    "ana": RIGHT,
    "bia": {"soma": RIGHT["soma"]},
    "caio": {},
    "davi": {**RIGHT, "soma": "def soma(a, b):\n    import os; os._exit(0)"},
}


@pytest.fixture(scope="module")
def database():
    """The address of a database that nobody else uses."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert programs, "PostgreSQL is not installed: on Debian or Ubuntu, apt-get install postgresql"
    # It refuses to be run by root; its package has made a user for it.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="pg-")
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(program, *arguments):
        command = [programs[-1] / program, "-D", f"{folder}/data", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    try:
        run("initdb", "-U", "grader", "-A", "trust", "-E", "UTF8")
        run("pg_ctl", "start", "-w", "-l", f"{folder}/log", "-o", f"-h 127.0.0.1 -p {port} -k {folder}")
        yield f"postgresql+psycopg://grader@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)


def grade(root, folder, *options):
    """The class graded by two workers: student -> score."""
    where = ("--submissions", folder / "downloads", "--roster", folder / "roster.csv", "--workers", "2")
    command = [sys.executable, "-m", "autograder", "grade", root, "--lesson", LESSON, *where, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    with (root / "grades" / f"{LESSON}.csv").open(encoding="utf-8", newline="") as table:
        return {row["student_id"]: row["score"] for row in csv.DictReader(table)}


@pytest.mark.slow
def test_the_same_grades_as_in_sqlite(database, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "roster.csv").write_text("\n".join(["id", *CLASS]))
    courses = [Course.init(tmp_path / kind, {LESSON: source_notebook()}) for kind in ("sqlite", "pg")]
    with (courses[1].root / CONFIG_FILE).open("a") as config:
        config.write(f"\nc.CourseDirectory.db_url = {database!r}\n")
    (courses[1].root / "gradebook.db").unlink()
    Course.init(courses[1].root, {LESSON: source_notebook()})
    for student, answers in CLASS.items():
        nbformat.write(handed_in(courses[0], **answers), tmp_path / "downloads" / f"{student}.ipynb")
    expected = grade(courses[0].root, tmp_path)
    assert expected == {"ana": "5.0", "bia": "2.0", "caio": "0.0", "davi": "3.0"}
    assert grade(courses[1].root, tmp_path) == expected
    assert grade(courses[1].root, tmp_path, "--again") == expected
    with courses[1].gradebook() as gradebook:
        assert len(gradebook.assignment_submissions(LESSON)) == len(CLASS)
    assert not (courses[1].root / "gradebook.db").exists()
