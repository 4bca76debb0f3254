"""The real lesson through the real grader: a solved submission earns all that a machine can give."""

import nbformat
import pytest

from autograder.course import Course, write_notebook
from autograder.grading import grade, write_skeleton
from autograder.publish import course_facts, source_notebook

from .scoring import ROOT, STUDENT, cells, graded_by


@pytest.mark.slow
@pytest.mark.parametrize("lesson", course_facts(ROOT)["lessons"])
def test_solved_submission(lesson, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    source = source_notebook(lesson, ROOT)
    course = Course.init(tmp_path / "course", {lesson: source}, ROOT / "lessons" / "dados")
    write_notebook(course.notebook("submitted", lesson, STUDENT), source)
    write_skeleton(course, tmp_path / "skeleton.db")
    result = grade(course.root, lesson, STUDENT, tmp_path / "skeleton.db")
    points = {name: cell.metadata["nbgrader"].get("points") for name, cell in cells(source).items()}
    automatic = {test for tests in graded_by(source).values() for test in tests}
    assert {test: result.scores[test] for test in automatic} == {test: points[test] for test in automatic}
    outputs = [o for c in nbformat.reads(result.notebook, 4).cells for o in c.get("outputs", [])]
    errors = [o.ename for o in outputs if o.output_type == "error"]
    assert errors == [], "a page of feedback would show these"
