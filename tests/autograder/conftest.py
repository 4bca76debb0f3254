"""A course of two small lessons."""

import shutil

import pytest

from autograder.course import Course
from tests.autograder.small_lesson import LESSON, source_notebook


@pytest.fixture(scope="session")
def fresh_course(tmp_path_factory):
    """The course as `init` makes it; copy it before changing it."""
    sources = {name: source_notebook(name) for name in (LESSON, "02_outra")}
    return Course.init(tmp_path_factory.mktemp("fresh") / "course", sources)


@pytest.fixture
def course(fresh_course, tmp_path):
    """A course of the test's own."""
    return Course(shutil.copytree(fresh_course.root, tmp_path / "course"))
