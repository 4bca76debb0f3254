"""Which process grades what: dask workers grade, one writer saves the results as they come."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import forkserver
from typing import Any

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed

from autograder import Refusal
from autograder.course import Course
from autograder.grading import Graded, grade, write_skeleton
from autograder.ledger import Ledger
from autograder.records import fingerprint, write_record
from autograder.runtime.client import SOCKET_VARIABLE, WEAKER_VARIABLE, Walled, default_policy, ensure_zygote

TRIES = 3  # how often a submission may take its worker with it before it is given up
# Workers are forked from a process in which all is imported: a killed one is back at once.
DASK = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.multiprocessing-method": "forkserver",
}
# A worker that shares the terminal would answer a Ctrl-C with a traceback; the grader closes it in any case.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def prepare() -> None:
    """Let the processes that grading on this machine forks from begin to import; comes back at once."""
    ensure_zygote()
    forkserver.set_forkserver_preload([__name__])
    forkserver.ensure_running()


@contextmanager
def open_client(workers: int, scheduler: str = "") -> Iterator[Client]:
    """A dask client: of the scheduler at an address, or of `workers` processes on this machine."""
    with ExitStack() as stack:
        if scheduler:
            yield stack.enter_context(_connect(scheduler))
        else:
            stack.enter_context(dask.config.set(DASK))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dask-"))
            cluster = stack.enter_context(_local(workers, folder))
            Walled("probe", default_policy()).kill()  # refused once, before the class, if at all
            yield stack.enter_context(Client(cluster))


def _connect(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout="15s")
    except (OSError, ValueError):
        raise Refusal(f"No dask scheduler answers at {scheduler}: start one, or drop --scheduler.") from None


def _local(workers: int, folder: str) -> LocalCluster:
    prepare()
    return LocalCluster(
        env={SOCKET_VARIABLE: ensure_zygote(), WEAKER_VARIABLE: os.environ.get(WEAKER_VARIABLE, "")},
        n_workers=workers,
        threads_per_worker=1,  # nbgrader changes the working directory of its process
        memory_limit=0,  # kernels are processes of their own
        dashboard_address=None,
        local_directory=folder,
        silence_logs=logging.CRITICAL,
        preload=[IGNORE_CTRL_C],
    )


def grade_all(course: Course, lesson: str, students: Sequence[str], client: Client) -> Iterator[Graded]:
    """Grade submissions; yield each result once it is saved. A failure leaves what was saved before."""
    before = {student: fingerprint(course, lesson, student) for student in students}
    with Ledger(course, lesson) as ledger:
        for graded in try_all(course, lesson, students, client):
            yield save(ledger, graded, before[graded.student])


def save(ledger: Ledger, graded: Graded, before: str) -> Graded:
    """Save a result and its record; `before` is the submission's fingerprint when it was graded."""
    saved = _saved(ledger, graded)
    write_record(ledger.course, ledger.lesson, saved, before)
    return saved


def try_all(course: Course, lesson: str, students: Sequence[str], client: Client) -> Iterator[Graded]:
    """Grade submissions; yield each result, of which nothing is saved."""
    skeleton = course.root / ".grading" / f"{lesson}.db"
    write_skeleton(course, skeleton)
    groups, deaths = [list(students)], Counter[str]()
    while groups:
        group = groups.pop()
        jobs = [client.submit(grade, course.root, lesson, s, skeleton, pure=False) for s in group]
        student_of = dict(zip(jobs, group, strict=True))
        for job in as_completed(jobs):
            student = student_of[job]
            graded = _result(job, student)
            if graded is None and deaths[student] < TRIES:
                deaths[student] += 1
                groups.append([student])  # alone, to take nobody with it and to be taken by nobody
            else:
                yield graded or Graded(student, failure="it killed its grading process")


def _result(job: Any, student: str) -> Graded | None:
    """What a job gave; None where its worker died, be it after the grading, with the result in its memory."""
    try:
        graded: Graded = job.result()
    except KilledWorker:
        return None
    except Exception as error:
        return Graded(student, failure=f"grading it failed: {error}", log=repr(error))
    return graded


def _saved(ledger: Ledger, graded: Graded) -> Graded:
    """Save a result; where that fails, the others' results are still to come."""
    try:
        if not graded.failure:
            ledger.write(graded)
    except Exception as error:
        reason = f"it was graded but could not be saved ({error})"
        return Graded(graded.student, failure=reason, log=repr(error))
    return graded
