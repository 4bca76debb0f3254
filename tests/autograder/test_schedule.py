"""Grading over many processes: nothing lost or doubled, whoever dies; nothing done again without need."""

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from distributed import LocalCluster

from autograder import Refusal, schedule
from autograder.course import write_notebook
from autograder.grading import Graded
from autograder.records import is_current, write_record
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in

EXPECTED = {f"{LESSON}-soma-teste": 2.0, f"{LESSON}-dobro-teste": 3.0, f"{LESSON}-aberta": 0.0}


def hand_in(course, student, **answers):
    write_notebook(course.notebook("submitted", LESSON, student), handed_in(course, **{**RIGHT, **answers}))


def records(course, student):
    path = course.root / "records" / LESSON / f"{student}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def score(course, student):
    with course.gradebook() as gradebook:
        return gradebook.find_submission(LESSON, student).score


def kills_its_worker(root, lesson, student, skeleton):
    if student == "mau":
        os.kill(os.getpid(), signal.SIGKILL)
    return Graded(student, nbformat.writes(nbformat.v4.new_notebook()), EXPECTED)


def test_a_submission_that_kills_its_worker_costs_nobody_else_anything(course, monkeypatch):
    for student in ("ana", "mau", "bia"):
        hand_in(course, student)
    monkeypatch.setattr(schedule, "grade", kills_its_worker)
    monkeypatch.setattr(schedule, "TRIES", 1)
    with schedule.open_client(1) as client:
        results = list(schedule.grade_all(course, LESSON, ["ana", "mau", "bia"], client))
    assert {graded.student for graded in results if graded.failure} == {"mau"}
    assert score(course, "ana") == score(course, "bia") == 5
    assert not is_current(course, LESSON, "mau") and is_current(course, LESSON, "bia")


def test_what_is_unchanged_is_not_graded_again(course):
    hand_in(course, "ana")

    def record(**outcome):
        write_record(course, LESSON, Graded("ana", **outcome), schedule.fingerprint(course, LESSON, "ana"))

    assert not is_current(course, LESSON, "ana")
    record(scores=EXPECTED)
    assert is_current(course, LESSON, "ana")
    record(failure="its code killed the kernel")
    assert not is_current(course, LESSON, "ana")  # a failure is tried again
    record(scores=EXPECTED)
    with (course.root / "records" / LESSON / "ana.jsonl").open("a") as file:
        file.write('{"half a li')
    assert not is_current(course, LESSON, "ana")
    record(scores=EXPECTED)
    assert is_current(course, LESSON, "ana")
    for changed in ("submitted", "source"):
        path = course.notebook(changed, LESSON, "ana" if changed == "submitted" else ".")
        path.write_text(path.read_text() + " ")
        assert not is_current(course, LESSON, "ana")
        record(scores=EXPECTED)


def test_a_scheduler_elsewhere_serves_too_and_a_missing_one_is_said(course, monkeypatch, tmp_path):
    hand_in(course, "ana")
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path
        ) as cluster,
        schedule.open_client(1, cluster.scheduler_address) as client,
    ):
        assert next(schedule.grade_all(course, LESSON, ["ana"], client)).scores == EXPECTED
    with pytest.raises(Refusal, match="drop --scheduler"), schedule.open_client(1, "gopher://x"):
        pass


@pytest.mark.slow
def test_workers_killed_at_random_lose_and_double_nothing(course, monkeypatch):
    students = [f"s{number}" for number in range(10)]
    for student in students:
        hand_in(course, student, soma=f"import time\ntime.sleep(0.5)\n{RIGHT['soma']}")
    monkeypatch.setattr(schedule, "TRIES", 20)  # the machine may be slow
    with schedule.open_client(2) as client:
        results = schedule.grade_all(course, LESSON, students, client)
        stop = threading.Event()

        def kill_now_and_then():
            for _ in range(6):
                if stop.wait(random.uniform(2, 5)):
                    return
                with contextlib.suppress(Exception):  # one that is just being replaced does not answer
                    os.kill(random.choice(list(client.run(os.getpid).values())), signal.SIGKILL)

        threading.Thread(target=kill_now_and_then, daemon=True).start()
        graded = list(results)
        stop.set()
    assert sorted(g.student for g in graded) == students
    assert all(g.scores == EXPECTED for g in graded)
    assert all(len(records(course, student)) == 1 and score(course, student) == 5 for student in students)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_grader_goes_on_where_it_was(course, tmp_path, stop):
    students = [f"s{number}" for number in range(6)]
    (tmp_path / "roster.csv").write_text("id\n" + "\n".join(students))
    (tmp_path / "downloads").mkdir()
    slow = handed_in(course, **{**RIGHT, "soma": f"import time\ntime.sleep(1)\n{RIGHT['soma']}"})
    for student in students:
        nbformat.write(slow, tmp_path / "downloads" / f"{student}.ipynb")
    where = ("--submissions", tmp_path / "downloads", "--roster", tmp_path / "roster.csv", "--workers", "1")
    command = [sys.executable, "-m", "autograder", "grade", course.root, "--lesson", LESSON, *where]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # These tests may themselves run in the background, where a Ctrl-C is ignored, by children too.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    first = subprocess.Popen(command, start_new_session=True, preexec_fn=heeding, **pipes)
    while len([student for student in students if records(course, student)]) < 2:
        time.sleep(0.05)
    os.killpg(first.pid, stop) if stop == signal.SIGINT else first.send_signal(stop)
    output = "".join(first.communicate(timeout=60))
    done = [student for student in students if records(course, student)]
    assert len(done) < len(students) and "Traceback" not in output
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert f"{len(done)} unchanged" in second.stdout
    assert all(score(course, student) == 5 and len(records(course, student)) == 1 for student in students)
