"""The grader as its user runs it: nobody's grade is lost to another's notebook."""

import base64
import csv
import json
import shutil
import socket
import struct
import subprocess
import sys

import nbformat
import pytest
import requests
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_output
from requests.adapters import HTTPAdapter
from typer.testing import CliRunner
from urllib3.util import Retry

from autograder import cli, sample_class
from autograder.course import CONFIG_FILE, Course, write_notebook
from autograder.grading import Graded
from autograder.insight.report import write_report
from autograder.intake.roster import Student, enrol
from autograder.ledger import commit
from autograder.reports.export import SafeCsv
from autograder.reports.outputs import plain
from tests.autograder.small_lesson import LESSON, RIGHT, grade_here, handed_in, source_notebook


def run(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def grade_folder(course, folder, **options):
    extra = [part for name, value in options.items() for part in (f"--{name}", value)]
    where = ("--submissions", folder / "downloads", "--roster", folder / "roster.csv")
    return run("grade", course.root, "--lesson", LESSON, *where, *extra)


def points(course):
    path = course.root / "grades" / f"{LESSON}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {row["student_id"]: row["score"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded_class(fresh_course, tmp_path_factory):
    """The sample class graded once: (course, exit status, what was printed)."""
    folder = tmp_path_factory.mktemp("class")
    course = Course(shutil.copytree(fresh_course.root, folder / "course"))
    with (course.root / CONFIG_FILE).open("a") as config:
        config.write("\nc.Execute.timeout = 3\n")  # for the endless loop
    sample_class.write_sample_class(course, LESSON, folder)
    return course, *grade_folder(course, folder)


def test_everybody_gets_what_their_work_is_worth(graded_class):
    course, status, _ = graded_class
    expected = {
        "20260001": "5.0",  # all right (the open question's 5 wait for a person)
        "20260002": "2.0",  # the first half right
        "20260003": "0.0",  # wrong
        "20260004": "0.0",  # untouched
        "20260006": "3.0",  # an endless loop in the first answer
        "20260007": "5.0",  # a copy made by Colab
    }
    assert {student: score for student, score in points(course).items() if student in expected} == expected
    assert status == 1  # not all could be graded


def test_what_could_not_be_graded_is_said_in_one_sentence_each(graded_class):
    course, _, output = graded_class
    text = " ".join(output.replace("│", " ").split())
    for sentence in (
        "not a notebook",
        "something else",
        "different notebooks",
        "handed in nothing",
        "nobody on the roster",
    ):
        assert sentence in text
    assert "Traceback" not in text
    assert points(course)["20260009"] == points(course)["20260012"] == ""


def test_feedback_is_in_portuguese_and_hides_the_hidden_test(graded_class):
    course, *_ = graded_class
    page = (course.root / "feedback" / "20260003" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    assert "Nota: 0.0 / 10.0" in page and "Sua resposta" in page
    assert "dobro falha para um valor maior" not in page  # the visible assert failed first
    assert "271828" not in page and "HIDDEN" not in page
    assert "Content-Security-Policy" in page and "<script" not in page


def test_an_exercise_that_was_not_attempted_says_so(graded_class):
    course, *_ = graded_class
    page = (course.root / "feedback" / "20260004" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    table = BeautifulSoup(page, "html.parser").find("table")
    assert table.text.count("Exercício ainda não feito.") == 2


SPY = "seen = []\ndef dobro(x):\n    seen.append(x)\n    return 2 * x"
TELLS = """print(seen)
def soma(a, b): raise ValueError(str(seen))
raise type(f'E{seen[-1]}', (Exception,), {})(seen)
"""


@pytest.mark.parametrize("soma", [TELLS, "def soma(a, b): return seen[-1]"], ids=["said", "returned"])
def test_what_a_hidden_test_handed_over_is_on_no_page(tmp_path, soma):
    source = source_notebook()
    intro, *first, second, second_test, last = source.cells
    source.cells = [intro, second, second_test, *first, last]
    first[1].source = "assert soma(1, 2) == 3, f'soma(1, 2) deu {soma(1, 2)}'"
    course = Course.init(tmp_path / "course", {LESSON: source})
    assert (
        grade_here(course, "a", handed_in(course, dobro=SPY, soma=soma)).scores[f"{LESSON}-dobro-teste"] == 3
    )
    page = (course.root / "feedback" / "a" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    assert "271828" not in page
    assert "O seu código levantou ValueError." in page or "soma(1, 2) deu …" in page


def test_marks_and_invisible_characters_in_an_answer_are_nothing(course):
    odd = "### BEGIN HIDDEN TESTS\n# \x00\x1b\u202e\ud800 ### BEGIN MARK SCHEME\n"
    notebook = handed_in(course, **{name: odd + text for name, text in RIGHT.items()}, aberta=odd)
    assert grade_here(course, "a", json.dumps(notebook)).scores[f"{LESSON}-dobro-teste"] == 3
    page = (course.root / "feedback" / "a" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    assert "MARK SCHEME" in page and not set("\x00\x1b\u202e\ud800") & set(page)


def test_a_cell_out_of_time_is_on_the_record(graded_class):
    course, *_ = graded_class
    [line] = (course.root / "records" / LESSON / "20260006.jsonl").read_text(encoding="utf-8").split("\n")[1:]
    assert any("out of time" in incident for incident in json.loads(line)["incidents"])


def test_a_test_in_the_students_kernel_is_named_in_record_and_report(tmp_path):
    source, name = source_notebook(), f"{LESSON}-soma-teste"
    next(cell for cell in source.cells if cell.id == name).metadata["tags"] = ["in-kernel"]
    course = Course.init(tmp_path / "course", {LESSON: source})
    graded = grade_here(course, "a", handed_in(course, **RIGHT))
    assert graded.scores[name] == 2
    assert json.loads(graded.notebook)["metadata"]["autograder"]["in_kernel"] == [name]
    assert write_report(course, LESSON, tmp_path / "report.html")["in_kernel"] == [name]
    assert f"open to forgery: {name}" in (tmp_path / "report.html").read_text(encoding="utf-8")


def cells_without_end(count):
    cell = '{"cell_type": "code", "source": "1", "metadata": {}, "outputs": [], "execution_count": null}'
    return f'{{"nbformat": 4, "nbformat_minor": 5, "metadata": {{}}, "cells": [{", ".join([cell] * count)}]}}'


UNREADABLE = {
    "deep": '{"cells": ' + "[" * 100_000,
    "large": " " * (33 << 20),
    "long": cells_without_end(100_000),
    "number": '{"nbformat": 4, "cells": [' + "9" * 1_000_000 + "]}",
}


def test_nbgraders_own_commands_work_and_stop_at_no_bomb(course, tmp_path):
    (tmp_path / "secret").write_text("271828")
    for student, text in {"honest": handed_in(course, **RIGHT), **UNREADABLE}.items():
        write_notebook(course.notebook("submitted", LESSON, student), text)
    (course.root / "submitted" / "honest" / LESSON / "beside").symlink_to(tmp_path / "secret")
    linked = course.notebook("submitted", LESSON, "linked")
    linked.parent.mkdir(parents=True)
    linked.symlink_to(course.notebook("submitted", LESSON, "honest"))
    course.notebook("submitted", LESSON, "folder").parents[1].mkdir()
    course.notebook("submitted", LESSON, "folder").parent.symlink_to(course.root / "release" / LESSON)
    (course.root / "release" / LESSON / "kept").symlink_to(tmp_path)
    command = [sys.executable, "-m", "nbgrader", "autograde", LESSON]
    said = subprocess.run(command, cwd=course.root, capture_output=True, text=True)
    assert said.returncode == 1 and said.stderr.count("Refusal: ") == len(UNREADABLE)
    assert {path.name for path in (course.root / "autograded").iterdir()} == {"honest"}
    assert not (course.root / "autograded" / "honest" / LESSON / "beside").exists()
    assert (course.root / "release" / LESSON / "kept").is_symlink()
    with course.gradebook() as gradebook:
        assert gradebook.find_submission(LESSON, "honest").score == 5


def test_a_failed_regrade_keeps_the_earlier_result(course):
    assert not grade_here(course, "a", handed_in(course, **RIGHT)).failure
    autograded = course.notebook("autograded", LESSON, "a").read_bytes()
    failure = grade_here(course, "a", "{").failure
    assert "nbgrader failed" in failure
    with course.gradebook() as gradebook:
        assert gradebook.find_submission(LESSON, "a").score == 5
    assert course.notebook("autograded", LESSON, "a").read_bytes() == autograded


def test_points_by_hand_survive_and_stale_automatic_ones_do_not(course):
    names = [f"{LESSON}-{name}" for name in ("soma-teste", "dobro-teste", "aberta")]
    notebook = nbformat.writes(handed_in(course))
    commit(course, LESSON, Graded("a", notebook, dict(zip(names, (2.0, 3.0, None), strict=True))))
    with course.gradebook() as gradebook:
        gradebook.find_grade(names[2], LESSON, LESSON, "a").manual_score = 4.0
        gradebook.db.commit()
    commit(course, LESSON, Graded("a", notebook, dict(zip(names, (0.0, 3.0, None), strict=True))))
    with course.gradebook() as gradebook:
        assert gradebook.find_submission(LESSON, "a").score == 0 + 3 + 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nowhere --lesson x --submissions . --roster r", "not a course"),
        ("{course} --lesson x --submissions . --roster r", "no lesson 'x'"),
        ("{course} --lesson 01_soma --submissions . --roster r", "roster r cannot be read"),
        ("{course} --lesson 01_soma --submissions none --roster {roster}", "neither a folder"),
        ("{course} --lesson 01_soma --submissions . --roster {roster} --pattern (", "--pattern"),
        ("{course} --lesson 01_soma --submissions . --roster {roster} --pattern x", "--pattern"),
    ],
)
def test_a_users_mistake_is_one_sentence(fresh_course, tmp_path, capsys, monkeypatch, arguments, sentence):
    (tmp_path / "roster.csv").write_text("id\n1\n")
    monkeypatch.chdir(tmp_path)
    places = {"course": fresh_course.root, "roster": tmp_path / "roster.csv"}
    monkeypatch.setattr("sys.argv", ["autograder", "grade", *arguments.format(**places).split()])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error and error.count("\n") == 1


def test_the_csv_starts_no_formula_and_reads_back(course):
    enrol(
        course, [Student("1", '=HYPERLINK("x")', 'a,"b"\nc', "@sum"), Student("2", "-1+1", "＝1+1", "\n=x")]
    )
    commit(course, LESSON, Graded("1", nbformat.writes(handed_in(course)), {}))
    path = course.root / "out.csv"
    with course.gradebook() as gradebook:
        SafeCsv(to=str(path), assignment=[LESSON]).export(gradebook)
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert rows["1"]["last_name"] == 'a,"b"\nc'
    assert (rows["1"]["score"], rows["2"]["score"]) == ("0.0", "")  # nothing right; nothing handed in
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\n", "＝"))
        for row in rows.values()
        for cell in row.values()
    )


ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


FORGED = """
k = get_ipython().kernel
def forge(kind, **content):
    k.session.send(k.iopub_socket, kind, content, parent=k.get_parent())
data = {'image/png': 'x" onerror="alert(4)', 'text/plain': '<script>alert(5)</script>'}
forge('stream', name='stdout"><script>alert(6)</script>', text='<script>alert(7)</script>')
forge('display_data', data=data, metadata={'image/png': {'width': '1" onload="alert(8)'}})
forge('execute_result', data=data, metadata={}, execution_count='<script>alert(9)</script>')
forge('execute_input', code='1', execution_count='<script>alert(10)</script>')
forge('error', ename='<script>x</script>', evalue='<img src=x onerror=alert(12)>', traceback=['<script>'])
"""


def test_no_page_runs_what_a_student_wrote(course):
    svg = "<svg><script>alert(1)</script></svg>"
    shows = f"from IPython.display import HTML, SVG\ndisplay(HTML('{ATTACK}'), SVG('{svg}'))"
    answers = {**RIGHT, "soma": f"{shows}\nprint('\\x1b]0;x\\x07{ATTACK}')\n{RIGHT['soma']}"}
    notebook = handed_in(course, **answers, aberta=f"Resposta {ATTACK} [x](javascript:alert(3))")
    notebook.cells.append(new_code_cell(FORGED))
    assert grade_here(course, "a", notebook).scores[f"{LESSON}-soma-teste"] == 2
    page = (course.root / "feedback" / "a" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    formgrader = HTMLExporter(template_name="formgrade", config=course.config())
    path = str(course.notebook("autograded", LESSON, "a"))
    instructor, _ = formgrader.from_filename(path, {"index": 0, "total": 1, "student": "a"})
    for html in (page, instructor):
        parsed = BeautifulSoup(html, "html.parser")
        assert "Resposta" in parsed.text
        assert not any("alert" in script.text for script in parsed.find_all("script"))
        assert not [
            tag
            for tag in parsed.find_all(True)
            if any(name.startswith("on") for name in tag.attrs) and "alert" in str(tag.attrs)
        ]
        assert not [a for a in parsed.find_all("a", href=True) if a["href"].startswith("javascript")]
    assert "\x1b" not in page
    policy = BeautifulSoup(page, "html.parser").find("meta", {"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'") and "script-src" not in policy["content"]


def test_a_picture_is_kept_that_a_browser_can_unpack():
    def kept(kind, width, height):
        head = kind + struct.pack(">I4s2I", 13, b"IHDR", width, height)
        picture = base64.b64encode(head + bytes(99)).decode()
        return bool(plain([new_output("display_data", data={"image/png": picture})]))

    png = b"\x89PNG\r\n\x1a\n"
    assert kept(png, 3000, 2000)
    assert not kept(png, 60_000, 60_000) and not kept(b"GIF89a??", 3000, 2000)
    assert not plain([new_output("display_data", data={"image/png": "iVBORw0KGgo"})])


@pytest.mark.slow
def test_formgrader_shows_a_submission_of_the_course(graded_class, tmp_path):
    course, *_ = graded_class
    with course.gradebook() as gradebook:
        submission = gradebook.find_submission_notebook(LESSON, LESSON, "20260001").id
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--no-browser", "--allow-root", f"--ServerApp.port={port}", "--IdentityProvider.token=t")
    command = [sys.executable, "-m", "jupyter_server", *options, f"--ServerApp.root_dir={course.root}"]
    enabled = "--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}"
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, enabled], cwd=course.root, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/formgrader/submissions/{submission}/?token=t"
        page = requests.Session()
        page.mount("http://", HTTPAdapter(max_retries=Retry(connect=8, backoff_factor=0.5)))
        answer = page.get(url, timeout=30)
    finally:
        server.terminate()
        server.wait(30)
    assert answer.status_code == 200, (tmp_path / "log").read_text()
    assert "return a + b" in BeautifulSoup(answer.text, "html.parser").text
