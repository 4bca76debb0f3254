"""Intake: whose notebook a file is, and what is refused, with one sentence, before anything reads it."""

import contextlib
import io
import json
import os
import re
import stat
import zipfile
from pathlib import PurePosixPath

import nbformat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autograder import Refusal
from autograder.intake import archives
from autograder.intake.archives import open_uploads
from autograder.intake.layout import lay_out, survey
from autograder.intake.notebooks import MAX_CELLS, read_notebook
from autograder.intake.owners import Owners
from autograder.intake.roster import Student, read_roster
from tests.autograder.small_lesson import LESSON, RIGHT, handed_in

ANA = Student("12345", "Ana", "Lima", "ana.lima@usp.br")
ANA_SA = Student("12346", "Ana", "Lima Sá")
JOAO = Student("777-8", "João", "Araújo")
CLASS = [ANA, ANA_SA, JOAO]


def owner(path, lesson, roster, pattern=None):
    return Owners(roster, lesson, pattern).of(path)


def take_in(course, lesson, place, roster, **options):
    """Look through a download and lay it out."""
    intake = survey(course, lesson, place, roster, Owners(roster, lesson), **options)
    lay_out(course, lesson, intake)
    return intake


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("SobrenomeNome_12345_03_lora (1).ipynb", ANA),
        ("limaana_998877_665544_03_lora-1.ipynb", ANA),
        ("Ana Lima_998877_assignsubmission_file/Cópia de 03_lora.ipynb", ANA),
        ("Ana Lima Sá_998877_assignsubmission_file/Copy of 03_lora.ipynb", ANA_SA),
        ("ANA-LIMA-SA/03_lora.ipynb", ANA_SA),
        ("joao araujo/03_lora.ipynb", JOAO),
        ("Joa\u0303o Arau\u0301jo 03_lora.ipynb", JOAO),
        ("777-8_03_lora.ipynb", JOAO),
        ("ana.lima@usp.br_03_lora.ipynb", ANA),
    ],
)
def test_a_file_is_given_to_the_student_whom_its_path_names(path, student):
    assert owner(PurePosixPath(path), "03_lora", CLASS) == student


@pytest.mark.parametrize(
    "path",
    [
        "03_lora.ipynb",
        "Cópia de 03_lora (1).ipynb",
        "Ana_112345_03_lora.ipynb",  # the id only as a part of another number
        "Ana Lima_1_assignsubmission_file/777-8_03_lora.ipynb",  # signed with a colleague's id
        "Ana Lima/Ana Lima Sá/03_lora.ipynb",
    ],
)
def test_a_file_that_names_nobody_or_two_is_refused(path):
    with pytest.raises(Refusal):
        owner(PurePosixPath(path), "03_lora", CLASS)


def test_the_number_of_a_copy_is_nobodys_id():
    with pytest.raises(Refusal):
        owner(PurePosixPath("Cópia de 03_lora (1).ipynb"), "03_lora", [Student("1"), Student("03")])


def test_a_pattern_alone_decides():
    pattern = re.compile(r"turma-(?P<student>[\d-]+)/")
    assert owner(PurePosixPath("turma-777-8/12345.ipynb"), "03_lora", CLASS, pattern) == JOAO
    with pytest.raises(Refusal):
        owner(PurePosixPath("12345.ipynb"), "03_lora", CLASS, pattern)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (
            "id,first_name,last_name,email\n12345,Ana,Lima,{mail}\n12346,Ana,Lima Sá,\n777-8,João,Araújo,\n",
            "utf-8",
        ),
        (
            'RA;Nome;Sobrenome;E-mail\r\n12345;Ana;Lima;{mail}\r\n12346;Ana;Lima Sá;\r\n777-8;"João";Araújo',
            "utf-8-sig",
        ),
        (
            "Sobrenome\tNome\tID\tEmail\nLima\tAna\t12345\t{mail}\nLima Sá\tAna\t12346\nAraújo\tJoão\t777-8",
            "cp1252",
        ),
    ],
)
def test_rosters_as_spreadsheets_write_them(tmp_path, text, encoding):
    (tmp_path / "roster.csv").write_bytes(text.format(mail="ana.lima@usp.br").encode(encoding))
    assert read_roster(tmp_path / "roster.csv") == CLASS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name\nAna\n",
        "id\n12\n12\n",
        "id\nA\na\n",
        "id\n../x\n",
        "id\n*\n",
        "id\n" + 300 * "9",
        "id\n=1\n",
        "id,x\n,1\n",
    ],
)
def test_a_roster_that_cannot_serve_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "roster.csv"
    path.write_text(text)
    with pytest.raises(Refusal) as refusal:
        read_roster(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["source", "id", "metadata"]), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_json_is_a_clean_notebook_or_refused(value):
    for raw in (value, {"nbformat": 4, "cells": value}, {"nbformat": 4, "cells": [value]}):
        try:
            notebook = read_notebook(json.dumps(raw).encode())
        except Refusal:
            continue
        nbformat.validate(notebook)
        nbformat.writes(notebook).encode("utf-8")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"nbformat": 3, "worksheets": []}',
        b'{"nbformat": 5, "cells": []}',
        json.dumps({"nbformat": 4, "cells": [{}] * (MAX_CELLS + 1)}).encode(),
        json.dumps({"nbformat": 4, "cells": [{"source": "x" * 50_000}] * 41}).encode(),
    ],
)
def test_what_is_no_notebook_is_refused(data):
    with pytest.raises(Refusal):
        read_notebook(data)


def test_only_sources_ids_and_marks_are_kept_of_a_notebook():
    cell = {
        "cell_type": "code",
        "id": "a",
        "source": ["x = 1\r\n", "y = '\ud800'"],
        "outputs": [{"output_type": "x"}],
    }
    cell["metadata"] = {"tags": ["skip-execution"], "nbgrader": {"grade_id": "a", "points": 1, "deep": [[]]}}
    kept = read_notebook(
        b"\xef\xbb\xbf" + json.dumps({"nbformat": 4, "metadata": {"x": 1}, "cells": [cell]}).encode()
    )
    assert kept.metadata == {} and kept.cells[0].outputs == []
    assert kept.cells[0].source == "x = 1\ny = '?'"
    assert kept.cells[0].metadata == {"nbgrader": {"grade_id": "a", "points": 1}}


def _folder(tmp_path, course, **files):
    folder = tmp_path / "downloads"
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else nbformat.writes(content))
    return folder


def test_each_student_gets_one_notebook_or_one_sentence(course, tmp_path):
    good = handed_in(course, **RIGHT)
    roster = [Student(f"10{i}") for i in range(7)]
    files = {
        "100_01_soma.ipynb": good,
        "101/Copy of 01_soma.ipynb": good,
        "101/01_soma (1).ipynb": good,  # the same again
        "102/01_soma.ipynb": good,
        "102/02_outra.ipynb": handed_in(course, "02_outra"),  # not asked for now
        "103_01_soma.ipynb": "not json",
        "104_01_soma.ipynb": handed_in(course, "02_outra"),
        "105_a.ipynb": good,
        "105_b.ipynb": handed_in(course),
        "999_01_soma.ipynb": good,
        "notes.txt": "nobody's",
    }
    intake = take_in(course, LESSON, _folder(tmp_path, course, **files), roster)
    assert [s.id for s in intake.taken] == ["100", "101", "102"]
    reasons = {student.id: reason for student, reason in intake.refused.items()}
    assert "not JSON" in reasons["103"] and "02_outra" in reasons["104"]
    assert "105_a" in reasons["105"] and "105_b" in reasons["105"]
    assert reasons["106"] == "handed in nothing"
    assert len(intake.strays) == 1 and "999_01_soma" in intake.strays[0]
    assert course.notebook("submitted", LESSON, "100").exists()
    assert not course.notebook("submitted", LESSON, "103").exists()


def test_a_refused_notebook_leaves_the_earlier_one(course, tmp_path):
    roster = [Student("100")]
    take_in(
        course, LESSON, _folder(tmp_path / "a", course, **{"100.ipynb": handed_in(course, **RIGHT)}), roster
    )
    before = course.notebook("submitted", LESSON, "100").read_bytes()
    assert not take_in(course, LESSON, _folder(tmp_path / "b", course, **{"100.ipynb": "{"}), roster).taken
    assert course.notebook("submitted", LESSON, "100").read_bytes() == before


def test_a_zip_serves_like_a_folder_and_writes_nothing_outside(course, tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("Ana Lima_1_file/01_soma.ipynb", nbformat.writes(handed_in(course, **RIGHT)))
        archive.writestr("../../12346.ipynb", nbformat.writes(handed_in(course, **RIGHT)))
        link = zipfile.ZipInfo("777-8.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(course.root / "gradebook.db"))
    intake = take_in(course, LESSON, tmp_path / "class.zip", CLASS)
    assert intake.taken == [ANA, ANA_SA]
    assert "link" in intake.refused[JOAO]
    assert not list(tmp_path.parent.glob("12346*")) and not list(tmp_path.glob("12346*"))


def test_links_and_special_files_are_refused(course, tmp_path):
    folder = _folder(tmp_path, course, **{"12346.ipynb": handed_in(course)})
    (folder / "12345.ipynb").symlink_to(course.root / "gradebook.db")
    os.mkfifo(folder / "777-8.ipynb")
    (folder / "loop").symlink_to(folder)
    intake = take_in(course, LESSON, folder, CLASS)
    assert intake.taken == [ANA_SA]
    assert all("plain files" in intake.refused[student] for student in (ANA, JOAO))


def test_a_name_in_any_bytes_is_taken_and_shown_without_what_a_terminal_obeys(course, tmp_path):
    """A zip made on Windows and unpacked here has such names; so has one made to clear the screen."""
    folder = _folder(tmp_path, course, **{"777-8 \x1b[2J\n\u202e.ipynb": handed_in(course, **RIGHT)})
    windows = os.fsencode(folder) + "/Ana Lima Sá - Cópia de 01_soma.ipynb".encode("cp1252")
    with open(windows, "w") as file:
        file.write(nbformat.writes(handed_in(course, **RIGHT)))
    intake = take_in(course, LESSON, folder, CLASS)
    names = {entry.student: str(entry.attempts[0].path) for entry in intake.entries if entry.attempts}
    assert names == {ANA_SA: "Ana Lima Sá - Cópia de 01_soma.ipynb", JOAO: "777-8 [2J .ipynb"}


def test_a_suffix_that_a_browser_added_does_no_harm(course, tmp_path):
    files = {
        "12345_01_soma.ipynb.txt": handed_in(course, **RIGHT),
        "777-8.IPYNB.json": handed_in(course, **RIGHT),
    }
    assert take_in(course, LESSON, _folder(tmp_path, course, **files), CLASS).taken == [ANA, JOAO]


def test_a_time_that_is_none_is_a_name(course, tmp_path):
    for digits in ("2026-99-99-99-99-99", "0001-01-01-00-00-00"):
        name = f"x_12345_attempt_{digits}_01_soma.ipynb"
        intake = take_in(
            course, LESSON, _folder(tmp_path / digits, course, **{name: handed_in(course)}), CLASS
        )
        assert intake.taken == [ANA] and intake.entries[0].time is None


def zipped(*names, data=b"", method=zipfile.ZIP_DEFLATED):
    """A zip of files that have all the same content."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", method) as archive:
        for name in names:
            archive.writestr(name, data)
    return inner.getvalue()


def lzma_that_asks_for_memory():
    data = bytearray(zipped("a.ipynb", data=b"{}", method=zipfile.ZIP_LZMA))
    header = data.index(b"a.ipynb") + len("a.ipynb")
    data[header + 5 : header + 9] = b"\xff" * 4  # the size of its dictionary
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        zipped(
            *(f"{n}.zip" for n in range(100)), data=zipped("b.zip", data=zipped("c.zip", data=zipped("d")))
        ),
        zipped("_1" * 30_000 + ".ipynb"),
        lzma_that_asks_for_memory(),
    ],
    ids=["zips in zips in zips", "a name of 60,000 characters", "a dictionary of 4 GiB"],
)
def test_a_zip_made_to_keep_the_grader_busy_is_refused(course, tmp_path, data):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "12345.zip").write_bytes(data)
    assert not take_in(course, LESSON, tmp_path / "d", [ANA]).taken


def test_a_bomb_is_refused_before_it_is_unpacked(course, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "class.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("12345.ipynb", b"0" * 5_000_000)
    assert "larger than" in take_in(course, LESSON, tmp_path / "class.zip", [ANA]).refused[ANA]


@given(
    kind=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
    damage=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=5),
)
@settings(max_examples=400, deadline=None)
@example(kind=zipfile.ZIP_BZIP2, damage=[(42, 255)])
@example(kind=zipfile.ZIP_LZMA, damage=[(50, 255)])
def test_a_damaged_zip_is_read_or_refused(tmp_path_factory, kind, damage):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", kind) as archive:
        archive.writestr("a.ipynb", json.dumps({"cells": [{}] * 40}))
    data = bytearray(inner.getvalue())
    for place, value in damage:
        data[place % len(data)] = value
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "ana.zip").write_bytes(data)
    with open_uploads(folder) as uploads:
        for upload in uploads:
            with contextlib.suppress(Refusal):
                assert isinstance(upload.read(), bytes)


def test_a_class_in_a_broken_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        archive.writestr("ana.ipynb", "{}")
    data = (tmp_path / "class.zip").read_bytes()
    (tmp_path / "class.zip").write_bytes(data.replace(archives.MEMBER, b"PK??"))
    with pytest.raises(Refusal, match="broken zip"), open_uploads(tmp_path / "class.zip"):
        pass


def test_too_many_files_stop_the_intake(course, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    folder = _folder(tmp_path, course, **{f"{i}.txt": "" for i in range(4)})
    with pytest.raises(Refusal):
        take_in(course, LESSON, folder, CLASS)


def test_a_place_that_is_no_folder_is_refused(course, tmp_path):
    with pytest.raises(Refusal):
        take_in(course, LESSON, tmp_path / "missing", CLASS)
