"""Downloads as Moodle, Canvas, Blackboard and Google give them: whose, which attempt, how late."""

import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import PurePosixPath

import nbformat
import pytest
from typer.testing import CliRunner

from autograder import Refusal, cli
from autograder.grading import Graded
from autograder.intake import archives
from autograder.intake.attempts import Policy
from autograder.intake.layout import attempts_folder, lay_out, survey
from autograder.intake.owners import Owners
from autograder.intake.register import read_register
from autograder.intake.roster import Student, read_roster
from autograder.intake.times import read_times
from autograder.lateness import LatePolicy, settle, timestamp_file
from autograder.ledger import commit
from autograder.results import results
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in

ANA = Student("12345", "Ana", "Lima", "ana.lima@usp.br")
JOAO = Student("777-8", "João", "Araújo")
INES = Student("20260003", "Inês", "D'Ávila Neto", "ines@usp.br")
CLASS = [ANA, JOAO, INES, Student("2"), Student("665544")]


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("Ana Lima_4321_assignsubmission_file_/01_soma.ipynb", ANA),  # Moodle, in folders, before 4.1
        ("Ana Lima_4321_assignsubmission_file/01_soma (2).ipynb", ANA),  # since 4.1
        (
            "Inês D'Ávila Neto_665544_assignsubmission_file/aula.zip/sub/01_soma.ipynb",
            INES,
        ),  # nobody's number
        ("Ana Lima_2_assignsubmission_file_Cópia de 01_soma.ipynb", ANA),  # without folders
        ("CURSO-Aula 1-2026/João Araújo_98_assignsubmission_file/01_soma.ipynb", JOAO),
        ("limaana_998877_665544_01_soma.ipynb", ANA),  # Canvas; 665544 is an attachment
        ("limaana_LATE_998877_665544_01_soma-2.ipynb", ANA),
        ("davilanetoines_31_32_Copia de 01_soma.ipynb", INES),
        ("sobrenome_12345_665544_x.ipynb", ANA),  # Canvas's user number as the class list's id
        ("Aula 1_12345_attempt_2026-08-31-23-59-01_01_soma.ipynb", ANA),  # Blackboard
        ("Aula 1/Ana Lima - 01_soma.ipynb", ANA),  # Google Classroom, a copy for each
        ("Aula 1/Cópia de 01_soma - Joao Araujo (1).ipynb", JOAO),
        ("drive-download-20260831T235901Z-001/ines@usp.br 01_soma.ipynb", INES),
    ],
)
def test_samples_of_each_platform(path, student):
    assert Owners(CLASS, LESSON).of(PurePosixPath(path)) == student


@pytest.mark.parametrize(
    "path", ["Participante 12_4321_assignsubmission_file/01_soma.ipynb", "anon_31_32_x.ipynb"]
)
def test_blind_marking_names_nobody_until_it_is_said_by_hand(path):
    with pytest.raises(Refusal, match="--assign"):
        Owners(CLASS, LESSON).of(PurePosixPath(path))
    assert Owners(CLASS, LESSON, assigned={path: "12345"}).of(PurePosixPath(path)) == ANA


def test_a_large_class_takes_time_in_proportion():
    many = [Student(str(n), f"Nome{n}", f"Sobrenome{n}") for n in range(20_000)]
    owners = Owners(many, LESSON)
    started = datetime.now(UTC)
    for student in many:
        path = f"{student.first_name} {student.last_name}_9_assignsubmission_file/01_soma.ipynb"
        assert owners.of(PurePosixPath(path)) == student
    assert (datetime.now(UTC) - started).total_seconds() < 20  # 20,000 x 20,000 comparisons would take hours


def test_canvas_own_export_serves_as_a_class_list(tmp_path):
    text = 'Student,ID,SIS User ID,SIS Login ID,Section,Aula (77)\n"Lima, Ana",31,12345,ana.lima@usp.br,A,\n'
    (tmp_path / "grades.csv").write_text(text)
    assert read_roster(tmp_path / "grades.csv") == [Student("31", "Ana", "Lima", "ana.lima@usp.br")]


def zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def downloaded(tmp_path, **files):
    for name, content in files.items():
        path = tmp_path / "downloads" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else nbformat.writes(content).encode())
    return tmp_path / "downloads"


def look(course, folder, roster, policy=Policy.ask, **options):
    return survey(course, LESSON, folder, roster, Owners(roster, LESSON), policy, **options)


def test_zips_in_zips_are_looked_into(course, tmp_path):
    notebook = nbformat.writes(handed_in(course, **RIGHT))
    inner = zipped(**{"01_soma.ipynb": notebook, "__MACOSX/._01_soma.ipynb": b"x"})
    folder = downloaded(
        tmp_path,
        **{
            "Ana Lima_1_assignsubmission_file/entrega.zip": inner,
            "777-8.zip": zipped(**{"outra.zip": inner, "dados.csv": b"1"}),
            "20260003.zip": inner[:200],
            "2.zip": zipped(**{f"{n}.txt": b"" for n in range(archives.MAX_INNER + 1)}),
            "665544.zip": zipped(a=zipped(b=b"")),
        },
    )
    intake = look(course, folder, CLASS)
    assert intake.taken == [ANA, JOAO]
    reasons = [intake.refused[student] for student in CLASS[2:]]
    assert (
        "broken zip" in reasons[0] and "more than 200 files" in reasons[1] and "not a notebook" in reasons[2]
    )
    assert all(entry.to_student for entry in intake.entries[2:])


def test_a_zip_too_deep_is_refused(course, tmp_path):
    data = nbformat.writes(handed_in(course)).encode()
    for level in range(archives.MAX_DEPTH + 1):
        data = zipped(**{"x.ipynb" if not level else "x.zip": data})
    assert "zip in a zip" in look(course, downloaded(tmp_path, **{"12345.zip": data}), [ANA]).refused[ANA]


def test_which_of_several_attempts_counts(course, tmp_path):
    first, second = handed_in(course, soma="x = 1"), handed_in(course, **RIGHT)
    names = ("limaana_31_900_01_soma.ipynb", "limaana_LATE_31_901_01_soma-1.ipynb")
    folder = downloaded(tmp_path, **dict(zip(names, (first, second), strict=True)))
    assert "different notebooks" in look(course, folder, [ANA]).refused[ANA]
    chosen = {policy: look(course, folder, [ANA], policy).entries[0].attempts for policy in list(Policy)[1:]}
    assert [str(a.path) for a in chosen[Policy.last]] == [names[1]]
    assert [str(a.path) for a in chosen[Policy.first]] == [names[0]]
    assert [str(a.path) for a in chosen[Policy.best]] == list(names)
    unordered = downloaded(tmp_path / "b", **{"12345_a.ipynb": first, "12345_b.ipynb": second})
    assert "do not say which" in look(course, unordered, [ANA], Policy.last).refused[ANA]
    assert len(look(course, unordered, [ANA], Policy.best).entries[0].attempts) == 2
    lay_out(course, LESSON, look(course, folder, [ANA], Policy.best))
    assert len(list(attempts_folder(course, LESSON, "12345").iterdir())) == 2
    lay_out(course, LESSON, look(course, folder, [ANA], Policy.last))
    assert not attempts_folder(course, LESSON, "12345").exists()


@pytest.mark.parametrize(
    "table",
    [
        # Moodle's grading worksheet, in both languages of the platform
        "Identifier,Full name,Email address,Status,Grade,Last modified (submission)\n"
        'Participant 9,Ana Lima,ana.lima@usp.br,Submitted,,"Monday, 31 August 2026, 11:59 PM"\n'
        "Participant 8,João Araújo,,No submission,,-\n",
        "Identificador;Nome completo;Endereço de email;Última modificação (envio)\n"
        "Participante 9;Ana Lima;ana.lima@usp.br;segunda-feira, 31 ago. 2026, 23:59\n",
        "id,submitted at\n12345,2026-08-31T23:59\n",
        "matrícula,horário\n12345,31/08/2026 23:59\n",
        "id,timestamp\n12345,2026-09-01T02:59:00Z\n",
    ],
)
def test_times_as_platforms_write_them(tmp_path, monkeypatch, table):
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    import time

    time.tzset()
    (tmp_path / "times.csv").write_text(table)
    try:
        assert read_times(tmp_path / "times.csv", CLASS) == {"12345": datetime(2026, 9, 1, 2, 59, tzinfo=UTC)}
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("table", ["a,b\n1,2\n", "id,time\n12345,ontem 99\n"])
def test_a_table_of_times_that_cannot_serve_is_one_sentence(tmp_path, table):
    (tmp_path / "times.csv").write_text(table)
    with pytest.raises(Refusal) as refusal:
        read_times(tmp_path / "times.csv", CLASS)
    assert "times.csv" in str(refusal.value) and "\n" not in str(refusal.value)


DAY = 24 * 3600


@pytest.mark.parametrize(
    ("settings", "late", "penalty"),
    [
        ({"penalty_method": "none"}, 9 * DAY, None),
        ({"penalty_method": "zero"}, 1, 8.0),
        ({"penalty_method": "zero", "grace_minutes": 30}, 30 * 60, None),
        ({"penalty_method": "percent", "percent_a_day": 10}, 1, 0.8),
        ({"penalty_method": "percent", "percent_a_day": 10}, DAY, 0.8),
        ({"penalty_method": "percent", "percent_a_day": 10}, DAY + 1, 1.6),
        ({"penalty_method": "percent", "percent_a_day": 10, "most_percent": 50}, 99 * DAY, 4.0),
        ({"penalty_method": "percent", "grace_minutes": 60}, DAY + 3600, 0.8),
    ],
)
def test_what_lateness_costs(settings, late, penalty):
    assert LatePolicy(**settings).late_submission_penalty("1", 8.0, late) == (
        penalty and pytest.approx(penalty)
    )


def test_the_penalty_follows_the_platforms_time_and_points_by_hand(course, tmp_path):
    with (course.root / "nbgrader_config.py").open("a") as config:
        config.write('\nc.LatePolicy.penalty_method = "percent"\n')
    folder = downloaded(tmp_path, **{"12345.ipynb": handed_in(course)})
    when = {"12345": datetime(2026, 9, 1, 12, tzinfo=UTC)}
    lay_out(course, LESSON, look(course, folder, [ANA], times=when))
    assert timestamp_file(course, LESSON, "12345").read_text() == "2026-09-01 12:00:00 UTC\n"
    scores = {f"{LESSON}-soma-teste": 2.0, f"{LESSON}-dobro-teste": 3.0, f"{LESSON}-aberta": None}
    commit(course, LESSON, Graded("12345", nbformat.writes(handed_in(course)), scores))
    with course.gradebook() as gradebook:
        gradebook.find_assignment(LESSON).duedate = datetime(2026, 8, 31)
        settle(course, LESSON, gradebook)
        assert results(gradebook, LESSON)["12345"].score == pytest.approx(5 * 0.8)  # the second day has begun
        gradebook.find_grade(f"{LESSON}-aberta", LESSON, LESSON, "12345").manual_score = 5.0
        settle(course, LESSON, gradebook)
        assert results(gradebook, LESSON)["12345"].score == pytest.approx(10 * 0.8)
        assert gradebook.find_submission(LESSON, "12345").late_submission_penalty == pytest.approx(2)


def test_the_command_shows_first_and_writes_after_a_yes(course, tmp_path):
    folder = downloaded(
        tmp_path,
        **{
            "Ana Lima_1_assignsubmission_file/01_soma.ipynb": handed_in(course, **RIGHT),
            "Participante 2_2_assignsubmission_file/01_soma.ipynb": handed_in(course),
            "João Araújo_3_assignsubmission_file/01_soma.ipynb": b"<html>",
        },
    )
    (tmp_path / "roster.csv").write_text(
        "id,first_name,last_name\n12345,Ana,Lima\n777-8,João,Araújo\n9,Eva,Sá\n"
    )
    (tmp_path / "times.csv").write_text("id,time\n12345,2026-09-01T01:00:00Z\n")
    command = [
        "intake",
        course.root,
        "--lesson",
        LESSON,
        "--submissions",
        folder,
        "--roster",
        tmp_path / "roster.csv",
    ]
    command += ["--times", tmp_path / "times.csv", "--deadline", "2026-09-01T00:00:00Z"]

    def run(*more):
        result = CliRunner().invoke(cli.app, [str(word) for word in (*command, *more)])
        return result.exit_code, " ".join(result.output.split())

    status, shown = run()
    assert (
        status == 1
        and "Nothing was written" in shown
        and "1.0 h late" in shown
        and "Nobody's: Participante 2" in shown
    )
    assert not course.notebook("submitted", LESSON, "12345").exists()
    stray = "Participante 2_2_assignsubmission_file/01_soma.ipynb=9"
    status, shown = run("--assign", stray, "--yes")
    assert "2 notebooks laid out" in shown and "Nobody's" not in shown
    assert course.notebook("submitted", LESSON, "9").exists()
    notice = course.root / "feedback" / "777-8" / LESSON / "aviso.html"
    assert "não é um caderno" in notice.read_text(encoding="utf-8")
    assert read_register(course, LESSON).paths["12345"].startswith("Ana Lima_1_")
    status, shown = run("--json")  # the assignment is remembered
    facts = json.loads(CliRunner().invoke(cli.app, [str(w) for w in (*command, "--json")]).stdout)
    assert [(f["id"], f["hours_late"], bool(f["files"])) for f in facts] == [
        ("12345", 1.0, True),
        ("777-8", 0, False),
        ("9", 0, True),
    ]
