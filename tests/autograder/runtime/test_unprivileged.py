"""The grader run by a user without rights: user namespaces; what is missing is said, and waived by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.autograder.runtime.as_nobody import USER
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


def as_nobody(*command):
    """What a module of this Python does when a user without rights runs it."""
    if os.geteuid() == 0:
        command = ("tests.autograder.runtime.as_nobody", sys.executable, "-m", *command)
    run = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def given(fresh_course):
    """A course, downloads and a roster that this user may read and write."""
    folder = Path("/tmp") / f"course-{os.getpid()}"
    shutil.copytree(fresh_course.root, folder / "course")
    (folder / "downloads").mkdir()
    (folder / "roster.csv").write_text("id\nana\n")
    nbformat.write(handed_in(fresh_course, **RIGHT), folder / "downloads" / "ana.ipynb")
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, USER, USER)
    yield folder
    shutil.rmtree(folder)


def grade(folder, *options):
    where = ("--submissions", folder / "downloads", "--roster", folder / "roster.csv", "--workers", "1")
    return as_nobody("autograder", "grade", folder / "course", "--lesson", LESSON, *where, *options)


def test_the_doctor_tells_what_such_a_user_lacks():
    status, output = as_nobody("autograder", "doctor")
    assert "namespaces: holds" in output and "seccomp: holds" in output, output
    assert (status, "cgroup: MISSING" in output) in ((1, True), (0, False)), output


def test_grading_is_refused_without_a_protection_and_done_where_it_is_waived(given):
    _, missing = as_nobody("autograder", "doctor")
    if "cgroup: MISSING" in missing:
        status, output = grade(given)
        assert status and "sandbox cannot be built" in output and "Traceback" not in output
    status, output = grade(given, "--allow-weaker-sandbox", "cgroup")
    assert status == 0 and "5 / 10" in output, output
    assert "Weaker sandbox: memory" in output


def test_the_attacks_on_the_machine_are_stopped_there_too(monkeypatch):
    monkeypatch.setenv("AUTOGRADER_WEAKER_SANDBOX", "cgroup")
    options = ("-p", "no:cacheprovider", "-W", "ignore")
    status, output = as_nobody("pytest", "tests/autograder/attacks/test_host.py", *options)
    assert status == 0, output
