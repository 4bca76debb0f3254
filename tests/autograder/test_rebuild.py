"""Rebuild: the student's answers and nothing else of a submission; kind to accidents, deaf to tricks."""

import time
from copy import deepcopy

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from nbgrader.nbgraderformat import MetadataValidator

from autograder.publish import course_facts, nbgrader_config
from autograder.publish import source_notebook as source_notebook_of
from autograder.rebuild import rebuild, versions
from tests.autograder.small_lesson import LESSON, RIGHT, grade_here, handed_in, source_notebook
from tests.autograder.test_publish import ROOT

GRADED, RELEASED = versions(source_notebook(), nbgrader_config())
SOMA, SOMA_TEST, DOBRO, DOBRO_TEST, ABERTA = (
    f"{LESSON}-{name}" for name in ("soma", "soma-teste", "dobro", "dobro-teste", "aberta")
)
ANSWERS = {SOMA: RIGHT["soma"], DOBRO: RIGHT["dobro"], ABERTA: "Porque sim."}


def answered(answers=ANSWERS):
    """The notebook as handed out with the answers written into it, as a dict of cells by name."""
    notebook = deepcopy(RELEASED)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    return {cell.id: cell for cell in notebook.cells}


def rebuilt(*cells):
    return rebuild(GRADED, RELEASED, new_notebook(cells=deepcopy(list(cells))))


def sources(notebook):
    return {cell.id: cell.source for cell in notebook.cells}


def note(notebook):
    return notebook.cells[0].source if notebook.cells[0].id == "autograder" else ""


def lesson_part(notebook):
    """What must not depend on a submission: every cell of the lesson, but for the text of answers."""
    names = [cell.id for cell in GRADED.cells]
    cells = [deepcopy(cell) for cell in notebook.cells if cell.id in names]
    for cell in cells:
        if cell.id in ANSWERS:
            cell.source = ""
    return cells


def test_an_untouched_honest_notebook_needs_no_mending():
    notebook = rebuilt(*answered().values())
    assert note(notebook) == ""
    assert sources(notebook) == {**sources(GRADED), **ANSWERS}


@pytest.mark.parametrize("lesson", course_facts(ROOT)["lessons"])
def test_a_lesson_as_it_was_handed_out_needs_no_mending(lesson):
    graded, released = versions(source_notebook_of(lesson, ROOT), nbgrader_config())
    assert note(rebuild(graded, released, released)) == ""


def test_the_hidden_tests_are_in_and_the_solutions_are_not():
    text = nbformat.writes(rebuilt())
    assert "271828" in text
    assert "return a + b" not in text and "A resposta do professor" not in text


# What Colab, a careless hand or a clever one can do to a cell and to the order of cells.
loss = st.sampled_from(["nothing", "marks", "id", "both"])


@given(
    st.permutations(list(ANSWERS)),
    st.lists(loss, min_size=3, max_size=3),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_answers_are_found_wherever_they_went(order, losses, line_end):
    cells = answered()
    for name, lost in zip(order, losses, strict=True):
        if lost in ("marks", "both") and (lost == "marks" or cells[name].cell_type == "code"):
            del cells[name].metadata["nbgrader"]
        if lost in ("id", "both"):
            cells[name].id = f"novo-{len(name)}-{name[-3:]}"
        cells[name].source = cells[name].source.replace("\n", line_end)
    rest = [cell for name, cell in cells.items() if name not in order]
    notebook = rebuilt(*(cells[name] for name in order), *rest)
    assert {name: sources(notebook)[name] for name in ANSWERS} == ANSWERS


marks = st.dictionaries(
    st.sampled_from(["grade", "solution", "locked", "grade_id", "points", "schema_version", "cell_type"]),
    st.none() | st.booleans() | st.floats() | st.lists(st.integers()) | st.sampled_from([*ANSWERS, ""]),
)
any_cell = st.builds(
    lambda new, text, cell_id, mark, tags: new(text, id=cell_id, metadata={"nbgrader": mark, "tags": tags}),
    st.sampled_from([new_code_cell, new_markdown_cell, new_raw_cell]),
    st.sampled_from(["", "def soma(a, b):", "    return 1", "x = (", "os._exit(0)"]) | st.text(max_size=30),
    st.sampled_from([*sources(RELEASED), "z", "autograder", "topo-0"]),
    marks | st.text() | st.none(),
    st.lists(st.sampled_from(["skip-execution", "raises-exception", "remove-cell"]), unique=True),
)


@given(st.lists(any_cell | st.sampled_from(RELEASED.cells), max_size=12))
def test_whatever_is_handed_in_the_lesson_stays_the_lesson(cells):
    notebook = rebuilt(*cells)
    assert lesson_part(notebook) == lesson_part(GRADED)
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert {k: v for k, v in notebook.metadata.items() if k != "autograder"} == GRADED.metadata
    assert nbformat.writes(notebook) == nbformat.writes(rebuilt(*cells))
    extras = [cell for cell in notebook.cells if cell.id not in sources(GRADED)]
    assert not any(cell.metadata.get("tags") or cell.metadata.get("nbgrader") for cell in extras)


def with_text(cell, text):
    return {**deepcopy(cell), "source": text}


def as_cells(*texts, like):
    return [nbformat.from_dict(with_text(like, text)) for text in texts]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["def soma(a, b):\n    return 0", RIGHT["soma"]], RIGHT["soma"]),  # the last one counts
        ([RIGHT["soma"], sources(RELEASED)[SOMA]], RIGHT["soma"]),  # an untouched copy does not
        ([RIGHT["soma"], ""], RIGHT["soma"]),  # nor an empty one
        ([RIGHT["soma"], "def soma(a, b):\n    return (a +"], RIGHT["soma"]),  # nor one that is no Python
        ([RIGHT["soma"], RIGHT["soma"]], RIGHT["soma"]),
        (
            ["def soma(a, b):", "    return b + a"],
            "def soma(a, b):\n    return b + a",
        ),  # split, marks on both
        (["def soma(a, b):\n    c = a", "    return b + c"], "def soma(a, b):\n    c = a\n    return b + c"),
    ],
)
def test_which_copy_of_an_answer_counts(texts, expected):
    cells = answered()
    assert sources(rebuilt(*as_cells(*texts, like=cells[SOMA])))[SOMA] == expected


def test_the_rest_of_a_split_answer_is_joined_without_marks_too():
    cells = answered()
    first = with_text(cells[SOMA], "def soma(a, b):\n    c = a")
    notebook = rebuilt(nbformat.from_dict(first), new_code_cell("\n    return b + c", id="x"), cells[DOBRO])
    assert sources(notebook)[SOMA] == "def soma(a, b):\n    c = a\n    return b + c"
    assert "divididas" in note(notebook) and SOMA in note(notebook)


def test_merged_answers_are_taken_apart_whatever_marks_are_left():
    cells, merged = answered(), f"{RIGHT['soma']}\n\n{RIGHT['dobro']}"
    test = "assert soma(1, 2) == 3"
    for name, text in ((SOMA, merged), (DOBRO, merged), (SOMA_TEST, f"{merged}\n{test}")):
        notebook = rebuilt(nbformat.from_dict(with_text(cells[name], text)))
        found = sources(notebook)
        assert found[SOMA].strip() == RIGHT["soma"] and found[DOBRO].startswith(RIGHT["dobro"])
        assert found[SOMA_TEST] == sources(GRADED)[SOMA_TEST]
        assert "separadas" in note(notebook)


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_a_deleted_or_emptied_answer_counts_as_not_done(text):
    cells = answered()
    cells.pop(SOMA) if text is None else cells.update(
        {SOMA: nbformat.from_dict(with_text(cells[SOMA], text))}
    )
    notebook = rebuilt(*cells.values())
    assert sources(notebook)[SOMA] == sources(GRADED)[SOMA]
    assert "não feitas: " + SOMA in note(notebook)


def test_changed_and_deleted_tests_come_back():
    cells = answered()
    cells[SOMA_TEST].source = "pass"
    del cells[DOBRO_TEST]
    notebook = rebuilt(*cells.values())
    assert lesson_part(notebook) == lesson_part(GRADED)
    assert SOMA_TEST in note(notebook) and DOBRO_TEST in note(notebook)


def test_an_answer_in_a_cell_of_the_wrong_kind_is_still_code():
    cell = new_raw_cell(RIGHT["soma"], id=SOMA)
    notebook = rebuilt(cell)
    assert next(c for c in notebook.cells if c.id == SOMA).cell_type == "code"
    assert sources(notebook)[SOMA] == RIGHT["soma"]


def test_cells_of_the_students_own_run_where_they_stood():
    cells = list(answered().values())
    helper = new_code_cell("def ajuda(): ...", id="h")
    own = [new_code_cell("k = 2", id="k"), new_markdown_cell("Pensei assim.", id="r")]
    texts = [cell.source for cell in rebuilt(helper, *cells[:3], *own, *cells[3:]).cells]
    assert texts[0] == helper.source
    place = texts.index("k = 2")
    assert texts[place - 1].startswith("assert soma")
    assert texts[place + 1 : place + 3] == ["Pensei assim.", RIGHT["dobro"]]


@pytest.mark.parametrize(
    "line",
    [
        "os.kill(os.getpid(), 9)",
        "    os.kill(os.getpid(), signal.SIGKILL)  # reinicia",
        "exit()",
        "get_ipython().kernel.do_shutdown(True)",
        "!pip install -q peft",
        "%pip install peft",
        "!pip install -q \\\n    peft \\\n    transformers",
        "os.environ['HF_TOKEN'] = userdata.get('HF_TOKEN')",
        "enviados = files.upload()",
        "    os.chdir('/content/drive/MyDrive/aula')",
        "from google.colab import drive",
        "drive.mount('/content/drive')",
        "runtime.unassign()",
    ],
)
def test_lines_for_colab_do_nothing_and_the_rest_of_their_cell_runs(line):
    indent = line[: len(line) - len(line.lstrip())]
    cell = new_code_cell(f"import os\n{line}\nk = 1", id="x")
    notebook = rebuilt(cell, *answered().values())
    assert notebook.cells[1].source == f"import os\n{indent}pass\nk = 1"
    assert "reinício" in note(notebook)


def test_no_line_takes_long_to_be_recognised():
    """Nested quantifiers would need hours for such a line; text put together piece by piece, minutes."""
    started = time.process_time()
    tails = [new_code_cell(" " + "x" * 15_000, id=f"t{n}") for n in range(1_900)]
    lines = [new_code_cell("\n" * 100_000, id=f"n{n}") for n in range(50)]
    rebuilt(new_code_cell("x.do_shutdown()" * 50_000, id="x"), *answered().values(), *tails, *lines)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("line", ["def soma(a: int, b: int) -> int:", "def  soma( a,b ):  # minha"])
def test_an_answer_without_marks_is_known_by_the_name_that_it_defines(line):
    own = new_code_cell(f"#@title Soma\n{line}\n    return a + b", id="x")
    notebook = rebuilt(own, *(cell for name, cell in answered().items() if name != SOMA))
    assert sources(notebook)[SOMA] == f"{line}\n    return a + b"


def test_blank_lines_come_without_blanks():
    text = "def soma(a, b):\n    \n\t\n    return a + b"
    notebook = rebuilt(*answered({**ANSWERS, SOMA: text}).values())
    assert sources(notebook)[SOMA] == "def soma(a, b):\n\n\n    return a + b"


def test_half_a_surrogate_pair_does_not_stop_the_file_from_being_written():
    cells = answered({**ANSWERS, SOMA: "def soma(a, b):\n    return '\ud800'"})
    assert "return '?'" in nbformat.writes(rebuilt(*cells.values())).encode().decode()


def test_ordinary_code_is_left_alone():
    text = "import os\nos.environ['X'] = 'exit()'\nresult = sair.exit(1)\nprint('!pip')"
    notebook = rebuilt(new_code_cell(text, id="x"), *answered().values())
    assert notebook.cells[0].source == text and note(notebook) == ""


def test_tricks_with_metadata_and_deleted_tests_gain_nothing_and_grading_again_changes_nothing(course):
    wrong = handed_in(course, soma="def soma(a, b):\n    return None", dobro=RIGHT["dobro"])
    for cell in wrong.cells:
        cell.metadata["tags"] = ["skip-execution"]
        cell.metadata.get("nbgrader", {}).update(points=1000, locked=False, solution=True, schema_version=99)
    wrong.cells = [cell for cell in wrong.cells if cell.id != DOBRO_TEST] * 2
    right = handed_in(course, **RIGHT)
    results = []
    for notebook in (right, wrong, wrong):
        results.append(grade_here(course, "a", notebook).scores)
    assert results[0] == {SOMA_TEST: 2.0, DOBRO_TEST: 3.0, ABERTA: 0.0}
    assert results[1] == results[2] == {SOMA_TEST: 0.0, DOBRO_TEST: 3.0, ABERTA: 0.0}
    page = (course.root / "feedback" / "a" / LESSON / f"{LESSON}.html").read_text(encoding="utf-8")
    assert "Sobre a sua entrega" in page and DOBRO_TEST in page
