"""A walled kernel to run code in, and submissions graded behind the walls."""

import asyncio

from jupyter_client.manager import AsyncKernelManager

from autograder.course import CONFIG_FILE, write_notebook
from autograder.grading import grade, write_skeleton
from tests.autograder.small_lesson import LESSON, handed_in

LIMITS = """
c.Execute.timeout = 4
c.Execute.iopub_timeout = 4
c.TrustedExecute.call_timeout = 3
c.TrustedExecute.item_timeout = 10
"""


def run(*cells, **options):
    """What each cell printed in one fresh walled kernel; an exception's name where it raised."""
    return asyncio.run(arun(*cells, **options))


async def arun(*cells, **options):
    """The same, for several kernels at a time."""
    manager = AsyncKernelManager(kernel_name="walled")
    await manager.start_kernel(**options)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        return [await _output(client, cell) for cell in cells]
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def _output(client, cell):
    said = []

    def hear(message):
        content = message["content"]
        said.append(content.get("text") or content.get("ename") or "")

    await client.execute_interactive(cell, output_hook=hear, timeout=30)
    return "".join(said).strip()


def limited(course):
    """The course with short times, and its skeleton written."""
    with (course.root / CONFIG_FILE).open("a") as config:
        config.write(LIMITS)
    write_skeleton(course, course.root / ".grading" / "skeleton.db")
    return course


def points(course, student="a", extra=(), change=lambda notebook: None, **answers):
    """The points of the two exercises (2 and 3 at most) for these answers and extra cells, and the result."""
    notebook = handed_in(course, **answers)
    notebook.cells[0:0] = extra
    change(notebook)
    write_notebook(course.notebook("submitted", LESSON, student), notebook)
    graded = grade(course.root, LESSON, student, course.root / ".grading" / "skeleton.db")
    assert not graded.failure, graded.log
    return tuple(graded.scores[f"{LESSON}-{name}-teste"] for name in ("soma", "dobro")), graded
