"""Which process grades what; one writer puts the results into the gradebook as they come."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from autograder.course import Course
from autograder.grading import Graded, commit, grade, write_skeleton


def grade_all(course: Course, lesson: str, students: Sequence[str], workers: int) -> Iterator[Graded]:
    """Grade the students' submissions in `workers` processes; yield each result once it is saved.

    A failure is yielded too, and leaves what was saved before.
    """
    skeleton = course.root / ".grading" / "skeleton.db"
    write_skeleton(course, skeleton)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(grade, course.root, lesson, student, skeleton): student for student in students}
        for job in as_completed(jobs):
            error = job.exception()
            graded = (
                Graded(jobs[job], failure=f"its grading process died ({error})") if error else job.result()
            )
            if not graded.failure:
                commit(course, lesson, graded)
                course.write_feedback(lesson, graded.student)
            yield graded
