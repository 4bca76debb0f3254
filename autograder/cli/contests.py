"""The command for adapters as hand-ins."""

import typer
from rich.table import Table

from autograder import Refusal
from autograder.cli.shared import CourseFolder, Json, LessonName, compiled, console, say, say_json
from autograder.cli.submissions import Pattern, RosterFile, Submissions
from autograder.contest.board import Standing, pseudonym, read_board, write_board
from autograder.contest.handin import check, read_handin
from autograder.contest.measure import base_dimensions, hidden_set, measure
from autograder.contest.rules import Contest, read_contest
from autograder.course import Course
from autograder.intake.archives import Upload, open_uploads
from autograder.intake.owners import Owners
from autograder.intake.register import read_register
from autograder.intake.roster import read_roster
from autograder.ledger import Ledger

app = typer.Typer()


@app.command()
def adapters(
    course: CourseFolder,
    lesson: LessonName,
    submissions: Submissions,
    roster: RosterFile,
    pattern: Pattern = "",
    as_json: Json = False,
) -> None:
    """Measure the adapters of a download on the lesson's hidden set, by contests/LESSON/contest.toml.

    Points go into the gradebook; the standings, by pseudonym, onto a page. Unchanged ones are skipped.
    """
    here = Course.open(course)
    here.check_lesson(lesson)
    contest, students = read_contest(here, lesson), read_roster(roster)
    owners = Owners(students, lesson, compiled(pattern), read_register(here, lesson).assigned)
    hidden_set(contest)  # what is wrong with it is no student's fault
    board, base = read_board(here, lesson), base_dimensions(contest)
    with open_uploads(submissions) as uploads:
        for student, files in _files(owners, uploads).items():
            board[student] = _standing(files, contest, base, board.get(student))
    page = write_board(here, lesson, board)
    with Ledger(here, lesson) as ledger:
        for student, standing in board.items():
            ledger.give(student, contest.grade_id, standing.points, _sentence(standing))
    if as_json:
        say_json({student: vars(standing) for student, standing in board.items()})
        return
    table = Table("id", "pseudonym", "macro-F1", "points", "remark", title=lesson, title_justify="left")
    for student, one in board.items():
        score = "" if one.score is None else f"{one.score:.3f}"
        table.add_row(student, pseudonym(here, student), score, f"{one.points:g}", one.reason)
    console.print(table)
    say(f"Standings: {page}")


def _files(owners: Owners, uploads: object) -> dict[str, list[Upload]]:
    found: dict[str, list[Upload]] = {}
    for upload in uploads:  # type: ignore[attr-defined]
        if upload.path.name in ("adapter_config.json", "adapter_model.safetensors", "base.json"):
            try:
                found.setdefault(owners.of(upload.path).id, []).append(upload)
            except Refusal as reason:
                say(f"Nobody's: {upload.path} {reason}.")
    return found


def _standing(
    files: list[Upload], contest: Contest, base: dict[str, object], before: Standing | None
) -> Standing:
    digest = ""
    try:
        handin = read_handin(files, contest)
        digest = handin.digest
        if before and before.digest == digest:
            return before
        check(handin, contest, base)
        score = measure(handin, contest)
    except Refusal as reason:
        return Standing(digest, None, 0.0, reason.to_student or str(reason))
    return Standing(digest, score, contest.points(score))


def _sentence(standing: Standing) -> str:
    if standing.score is None:
        return f"O adaptador não pôde ser avaliado: {standing.reason}."
    return f"macro-F1 no conjunto escondido: {standing.score:.3f}."
