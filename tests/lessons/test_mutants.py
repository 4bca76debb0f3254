"""The graders are tested by answers that are known to be right or wrong."""

from collections import Counter

import pytest

from autograder.publish import course_facts

from .scoring import ROOT, mutants, run, source, stub, graded_by

LESSONS = course_facts(ROOT)["lessons"]
SOURCES = {lesson: source(lesson) for lesson in LESSONS}
ANSWERS = [(lesson, answer) for lesson in LESSONS for answer in graded_by(SOURCES[lesson])]
MUTANTS = [pytest.param(lesson, m, id=f"{lesson}-{m.metadata['answer']}-{m.metadata['title']}")
           for lesson in LESSONS for m in mutants(lesson)]  # fmt: skip


@pytest.mark.parametrize("lesson", LESSONS)
def test_solutions_get_every_point(lesson):
    assert set(run(SOURCES[lesson], {}).values()) == {""}


@pytest.mark.parametrize("lesson,answer", ANSWERS)
def test_untouched_stub_is_not_attempted(lesson, answer):
    notebook = SOURCES[lesson]
    outcomes = run(notebook, {answer: stub(notebook, answer)})
    assert [type(outcomes[test]) for test in graded_by(notebook)[answer]] == [NotImplementedError] * len(
        graded_by(notebook)[answer]
    )


@pytest.mark.parametrize("lesson,mutant", MUTANTS)
def test_mutant(lesson, mutant):
    notebook, answer = SOURCES[lesson], mutant.metadata["answer"]
    outcomes = run(notebook, {answer: mutant.source})
    failed = {test: outcomes[test] for test in graded_by(notebook)[answer] if outcomes[test] != ""}
    assert bool(failed) != mutant.metadata["right"], f"failed tests: {failed}"


@pytest.mark.parametrize("lesson", LESSONS)
def test_right_alternatives_pass_the_whole_lesson(lesson):
    for mutant in mutants(lesson):
        if mutant.metadata["right"]:
            assert set(run(SOURCES[lesson], {mutant.metadata["answer"]: mutant.source}).values()) == {""}


@pytest.mark.parametrize("lesson,answer", ANSWERS)
def test_each_answer_has_enough_mutants_and_a_hard_coded_one(lesson, answer):
    mine = [m.metadata for m in mutants(lesson) if m.metadata["answer"] == answer]
    counts = Counter(m["right"] for m in mine)
    assert counts[True] >= 2 and counts[False] >= 4
    assert any(m["title"] == "resposta_fixa" and not m["right"] for m in mine)
