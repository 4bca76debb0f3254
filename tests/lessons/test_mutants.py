"""The graders are tested by answers that are known to be right or wrong."""

from collections import Counter

import pytest

from autograder.publish import course_facts, source_notebook, student_notebook

from .scoring import ROOT, cells, graded_by, mutants, mutated, run

LESSONS = course_facts(ROOT)["lessons"]
SOURCES = {lesson: source_notebook(lesson, ROOT) for lesson in LESSONS}
STUDENTS = {lesson: student_notebook(source) for lesson, source in SOURCES.items()}
ANSWERS = [(lesson, answer) for lesson in LESSONS for answer in graded_by(SOURCES[lesson])]
MUTANTS = [
    pytest.param(lesson, m, id=f"{lesson}-{m.metadata['answer']}-{m.metadata['title']}")
    for lesson in LESSONS
    for m in mutants(lesson)
]


@pytest.mark.parametrize("lesson", LESSONS)
def test_solutions_get_every_point(lesson):
    assert set(run(SOURCES[lesson], {}).values()) == {""}


@pytest.mark.parametrize(("lesson", "answer"), ANSWERS)
def test_untouched_stub_is_not_attempted(lesson, answer):
    source, stub = SOURCES[lesson], cells(STUDENTS[lesson])[answer].source
    outcomes = run(source, {answer: stub})
    assert {type(outcomes[test]) for test in graded_by(source)[answer]} == {NotImplementedError}


@pytest.mark.parametrize(("lesson", "mutant"), MUTANTS)
def test_mutant_is_judged_rightly(lesson, mutant):
    source, right = SOURCES[lesson], mutant.metadata["right"]
    outcomes = run(source, mutated(source, mutant))
    judged = outcomes if right else {t: outcomes[t] for t in graded_by(source)[mutant.metadata["answer"]]}
    failed = {test: outcome for test, outcome in judged.items() if outcome != ""}
    assert bool(failed) != right, f"failed tests: {failed}"


@pytest.mark.parametrize(("lesson", "answer"), ANSWERS)
def test_hard_coded_answer_fools_the_visible_tests_only(lesson, answer):
    source = SOURCES[lesson]
    visible = {name: cells(STUDENTS[lesson])[name].source for name in graded_by(source)[answer]}
    mutant = next(
        m
        for m in mutants(lesson)
        if m.metadata.items() >= {"answer": answer, "title": "resposta_fixa"}.items()
    )
    outcomes = run(source, mutated(source, mutant) | visible)
    assert {outcomes[test] for test in visible} == {""}


@pytest.mark.parametrize(("lesson", "answer"), ANSWERS)
def test_each_answer_has_enough_mutants(lesson, answer):
    counts = Counter(m.metadata["right"] for m in mutants(lesson) if m.metadata["answer"] == answer)
    assert counts[True] >= 2
    assert counts[False] >= 4
