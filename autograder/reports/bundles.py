"""Feedback pages zipped for a course platform's bulk upload, which finds the student in a file's name."""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from autograder import Refusal
from autograder.course import Course
from autograder.intake.naming import CANVAS, MOODLE
from autograder.intake.register import read_register

PLATFORMS = ("moodle", "canvas", "plain")


def write_bundle(course: Course, lesson: str, platform: str, path: Path) -> int:
    """Zip a lesson's pages as `platform` takes them; gives how many files are in it.

    Moodle: Upload multiple feedback files in a zip. Canvas: Upload submissions. Both need the names that the
    downloaded submissions had; `plain` needs nothing: a folder a student.
    """
    paths = read_register(course, lesson).paths
    part = path.with_suffix(".part")
    count = 0
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for page in _pages(course, lesson):
            name = _name(platform, page.parents[1].name, page, paths)
            if name:
                archive.write(page, name)
                count += 1
    if not count:
        part.unlink()
        raise Refusal(
            f"No page of {lesson} can be named for {platform}: take its own download in, then grade it."
        )
    part.replace(path)
    return count


def _pages(course: Course, lesson: str) -> Iterator[Path]:
    return (
        page for page in sorted((course.root / "feedback").glob("*/*/*.html")) if page.parent.name == lesson
    )


def _name(platform: str, student: str, page: Path, paths: dict[str, str]) -> str:
    """The page's name in the zip; "" where the download's name does not fit the platform."""
    if platform == "plain":
        return f"{student}/{page.name}"
    given = paths.get(student, "")
    if platform == "moodle":
        found = MOODLE.search(given)
        # The folder as it came; what follows the last underscore is the plugin, and then the file.
        return f"{found[0].rstrip('/_')}_/{page.name}" if found else ""
    file = next((part for part in PurePosixPath(given).parts if CANVAS.search(part)), "")
    return f"{file[: CANVAS.search(file).end('attachment')]}_{page.name}" if file else ""  # type: ignore[union-attr]
