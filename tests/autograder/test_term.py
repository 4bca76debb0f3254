"""An instructor's term on a small course: attempts graded, pages, tables and zips for the course platform."""

import csv
import json
import re
import socket
import sqlite3
import subprocess
import sys
import zipfile
from dataclasses import astuple

import nbformat
import pyarrow.parquet
import pytest
import requests
from requests.adapters import HTTPAdapter
from typer.testing import CliRunner
from urllib3.util import Retry

from autograder import Refusal, cli
from autograder.course import Course
from autograder.grading import Graded
from autograder.intake.register import Register, write_register
from autograder.intake.roster import Student, enrol
from autograder.ledger import commit
from autograder.reports.bundles import write_bundle
from autograder.reports.export import CanvasCsv, MoodleCsv, Parquet, fill_in, rows
from autograder.reports.notice import write_notice
from autograder.reports.pages import Bins, write_pages
from autograder.results import results
from tests.autograder.small_lesson import LESSON, RIGHT, grade_here, handed_in

TESTS = (f"{LESSON}-soma-teste", f"{LESSON}-dobro-teste", f"{LESSON}-aberta")
CLASS = [Student(str(n), f"Nome{n}", f"Sobre{n}", f"n{n}@x.org") for n in range(1, 7)]


def run(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def graded(course):
    """Six students, five of them graded without running anything: 0, 2, 3, 5 and 5 points of 10."""
    enrol(course, CLASS)
    for student, soma, dobro in (("1", 0, 0), ("2", 2, 0), ("3", 0, 3), ("4", 2, 3), ("5", 2, 3)):
        notebook = handed_in(course, **RIGHT)
        scores = dict(zip(TESTS, (float(soma), float(dobro), None), strict=True))
        commit(course, LESSON, Graded(student, nbformat.writes(notebook), scores))
        path = course.notebook("autograded", LESSON, student)
        path.parent.mkdir(parents=True, exist_ok=True)
    return course


def test_of_several_attempts_each_is_graded_and_the_best_counts(course, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    answers = ({"soma": "x = 1"}, RIGHT, {"dobro": RIGHT["dobro"]})
    for number, given in enumerate(answers):
        nbformat.write(
            handed_in(course, **given), folder / f"sobre1nome1_7_{90 + number}_01_soma-{number}.ipynb"
        )
    (tmp_path / "roster.csv").write_text("id,first_name,last_name\n1,Nome1,Sobre1\n")
    where = (
        "--submissions",
        folder,
        "--roster",
        tmp_path / "roster.csv",
        "--attempts",
        "best",
        "--workers",
        "1",
    )
    status, output = run("grade", course.root, "--lesson", LESSON, *where, "--json")
    [line] = json.loads(output)["students"]
    assert (status, line["score"], line["max_score"]) == (0, 5.0, 10.0)
    kept = nbformat.read(course.notebook("submitted", LESSON, "1"), as_version=4)
    assert any(cell.source == RIGHT["soma"] for cell in kept.cells)


def test_pages_show_points_by_exercise_and_the_class(graded):
    paths = list(write_pages(graded, LESSON))
    assert len(paths) == 5
    text = paths[1].read_text(encoding="utf-8")
    assert "Nota: 2.0 / 10.0" in text and "você está aqui" in text
    for title in (f"{LESSON}-soma", f"{LESSON}-dobro", f"{LESSON}-aberta"):
        assert title in text


def test_a_class_of_four_is_not_shown_to_itself():
    assert Bins([1, 2, 3, 4], 10).around(1) == []
    around = Bins([0, 1, 9.5, 10, 10], 10).around(10)
    assert [bin["count"] for bin in around] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 3] and around[9]["own"]


def test_tables_for_platforms_and_for_analysis(graded, tmp_path):
    with graded.gradebook() as gradebook:
        found = list(rows(gradebook))
        for plugin, name in ((MoodleCsv, "m.csv"), (CanvasCsv, "c.csv"), (Parquet, "p.parquet")):
            plugin(to=str(tmp_path / name), assignment=[LESSON]).export(gradebook)
    moodle = list(csv.DictReader((tmp_path / "m.csv").open(encoding="utf-8")))
    assert [line["ID number"] for line in moodle] == [s.id for s in CLASS]
    assert [line[LESSON] for line in moodle] == ["0.0", "2.0", "3.0", "5.0", "5.0", ""]
    canvas = list(csv.DictReader((tmp_path / "c.csv").open(encoding="utf-8")))
    assert canvas[0] | {LESSON: ""} == {
        **{
            "Student": "Sobre1, Nome1",
            "ID": "",
            "SIS User ID": "1",
            "SIS Login ID": "n1@x.org",
            "Section": "",
        },
        LESSON: "",
    }
    table = pyarrow.parquet.read_table(tmp_path / "p.parquet")
    assert [tuple(line.values()) for line in table.to_pylist()] == [
        astuple(r) for r in found if r.assignment == LESSON
    ]


@pytest.mark.parametrize(
    "text",
    [
        'Identificador,"Nome completo","Endereço de email",Status,Nota,"Nota máxima"\n'
        "Participante 8,Nome3 Sobre3,n3@x.org,Enviado,,10\nParticipante 9,Fulano,f@x.org,,,10\n",
        f'Student,ID,SIS User ID,SIS Login ID,Section,"{LESSON} (77)"\n    Points Possible,,,,,10\n'
        '"Sobre3, Nome3",31,3,n3@x.org,A,\n"Fulano",32,99,f@x.org,A,\n',
    ],
)
def test_the_platforms_own_table_is_filled_in_and_otherwise_left(graded, tmp_path, text):
    (tmp_path / "modelo.csv").write_text(text, encoding="utf-8")
    arguments = ("--template", tmp_path / "modelo.csv", "--to", tmp_path / "cheio.csv")
    assert "1 grades filled" in run("export", graded.root, "--lesson", LESSON, *arguments)[1]
    before = list(csv.reader((tmp_path / "modelo.csv").open(encoding="utf-8")))
    after = list(csv.reader((tmp_path / "cheio.csv").open(encoding="utf-8-sig")))
    changed = [
        (a, b)
        for old, new in zip(before, after, strict=True)
        for a, b in zip(old, new, strict=True)
        if a != b
    ]
    assert changed == [("", "3")]


def test_a_table_without_grades_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Refusal, match="column of students"):
        fill_in(tmp_path / "x.csv", tmp_path / "y.csv", LESSON, [])


def test_zips_carry_the_names_that_each_platform_looks_for(graded, tmp_path):
    list(write_pages(graded, LESSON))
    write_notice(graded, LESSON, "6", "o arquivo está vazio")
    moodle = "Nome1 Sobre1_4321_assignsubmission_file"
    paths = {
        "1": f"{moodle}/01_soma.ipynb",
        "2": "sobre2nome2_LATE_31_900_01_soma.ipynb",
        "6": f"{moodle}_/x.zip/y",
    }
    write_register(graded, LESSON, Register(paths=paths))
    names = {}
    for platform in ("moodle", "canvas", "plain"):
        write_bundle(graded, LESSON, platform, tmp_path / f"{platform}.zip")
        names[platform] = zipfile.ZipFile(tmp_path / f"{platform}.zip").namelist()
    assert names["moodle"] == [f"{moodle}_/01_soma.html", f"{moodle}_/aviso.html"]
    assert names["canvas"] == ["sobre2nome2_LATE_31_900_01_soma.html"]
    assert len(names["plain"]) == 6 and "6/aviso.html" in names["plain"]
    write_register(graded, LESSON, Register())
    with pytest.raises(Refusal, match="take its own download in"):
        write_bundle(graded, LESSON, "canvas", tmp_path / "x.zip")


def test_a_backup_is_the_course_again(graded, tmp_path):
    (graded.root / "feedback").mkdir()
    (graded.root / "feedback" / "x.html").write_text("é")
    assert "bytes in" in run("backup", graded.root, "--to", tmp_path / "b.tar.gz")[1]
    status, _ = run("restore", tmp_path / "b.tar.gz", tmp_path / "outra" / "turma")
    restored = Course.open(tmp_path / "outra" / "turma")
    with graded.gradebook() as old, restored.gradebook() as new:
        assert results(old, LESSON) == results(new, LESSON) and len(results(new, LESSON)) == 5
        assert {s.id: s.email for s in new.students} == {s.id: s.email for s in CLASS}
    assert status == 0 and (restored.root / "feedback" / "x.html").read_text() == "é"
    assert restored.notebook("source", LESSON).read_bytes() == graded.notebook("source", LESSON).read_bytes()
    for target, sentence in ((restored.root, "not empty"), (tmp_path / "neu", "cannot be read")):
        source = tmp_path / ("b.tar.gz" if target == restored.root else "nenhum.tar.gz")
        result = CliRunner().invoke(cli.app, ["restore", str(source), str(target)])
        assert sentence in str(result.exception)


def test_an_earlier_versions_course_is_brought_up_to_date(graded, tmp_path):
    (graded.root / "schema").unlink()
    with sqlite3.connect(graded.root / "gradebook.db") as database:  # a gradebook of nbgrader 0.5
        database.execute("ALTER TABLE student DROP COLUMN lms_user_id")
        database.execute("UPDATE alembic_version SET version_num = '167914646830'")
        database.execute("ALTER TABLE assignment RENAME TO old")
        columns = "id VARCHAR(32) PRIMARY KEY, name VARCHAR(128) UNIQUE NOT NULL, duedate DATETIME"
        database.execute(f"CREATE TABLE assignment ({columns})")
        database.execute("INSERT INTO assignment SELECT id, name, duedate FROM old")
        database.execute("DROP TABLE old")
        database.execute("DROP TABLE course")
    with pytest.raises(Refusal, match="autograder upgrade"):
        Course.open(graded.root)
    status, output = run("upgrade", graded.root)
    assert status == 0 and "1 steps done" in output and list(graded.root.parent.glob("*before-2.tar.gz"))
    with Course.open(graded.root).gradebook() as gradebook:
        assert len(results(gradebook, LESSON)) == 5 and gradebook.students[0].lms_user_id is None
    assert "0 steps" in run("upgrade", graded.root)[1]
    (graded.root / "schema").write_text("99\n")
    with pytest.raises(Refusal, match="later version"):
        Course.open(graded.root)


def test_a_mended_test_lists_whose_points_would_change_before_it_saves(course):
    enrol(course, CLASS[:2])
    wrong = handed_in(course, soma=RIGHT["soma"], dobro="def dobro(x):\n    return 4")
    for student, notebook in (("1", handed_in(course, **RIGHT)), ("2", wrong)):
        grade_here(course, student, notebook)
    source = nbformat.read(course.notebook("source", LESSON), as_version=4)
    for cell in source.cells:
        cell.source = cell.source.replace("assert dobro(271828) == 543656", "assert dobro(2) == 4")
    Course.init(course.root, {LESSON: source})
    command = ("regrade", course.root, "--lesson", LESSON, "--workers", "1")
    [change] = json.loads(run(*command, "--json")[1])
    assert (change["student"], change["difference"]) == ("2", 3.0)
    with course.gradebook() as gradebook:
        assert results(gradebook, LESSON)["2"].score == 2
    status, output = run(*command, "--yes")
    assert status == 0 and "1 would change" in output
    with course.gradebook() as gradebook:
        assert {s: r.score for s, r in results(gradebook, LESSON).items()} == {"1": 5, "2": 5}


@pytest.mark.slow
def test_one_command_opens_formgrader_on_what_waits(graded, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "autograder",
        "formgrade",
        graded.root,
        "--lesson",
        LESSON,
        "--no-browser",
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
    try:
        page = requests.Session()
        page.mount("http://", HTTPAdapter(max_retries=Retry(connect=8, backoff_factor=0.5)))
        page.get(f"http://127.0.0.1:{port}/", timeout=60)
        token = re.search(r"token=(\w+)", (tmp_path / "log").read_text())[1]
        answer = page.get(f"http://127.0.0.1:{port}/?token={token}", timeout=60)
    finally:
        server.terminate()
        server.wait(30)
    assert answer.status_code == 200 and "/formgrader/submissions/" in answer.url
    assert f"{LESSON}-aberta" in answer.text


@pytest.mark.parametrize(
    "arguments",
    [
        ("feedback", "--lesson", LESSON, "--zip", "teams"),
        ("export", "--format", "xls"),
        ("export", "--template", "x.csv"),
        ("export", "--lesson", "nenhuma"),
        ("grade", "--lesson", LESSON, "--submissions", "."),
    ],
)
def test_a_users_mistake_is_a_refusal(fresh_course, arguments):
    command, *rest = arguments
    result = CliRunner().invoke(cli.app, [command, str(fresh_course.root), *rest])
    assert isinstance(result.exception, Refusal) and "\n" not in str(result.exception)
