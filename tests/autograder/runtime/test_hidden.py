"""A module that a lesson hides is not to be had in its students' kernels, by any way that needs its file."""

import py_compile
from importlib.util import find_spec
from pathlib import Path

import pytest
from traitlets.config import Config

from autograder.course import Course, configure
from autograder.runtime.hidden import FLAG, METADATA
from tests.autograder import walled
from tests.autograder.small_lesson import LESSON, RIGHT, source_notebook

HIDDEN = "toolkit.bottleneck"
FILE = Path(find_spec(HIDDEN).origin)
PACKAGE = Path(find_spec("nbgrader").origin).parent
CACHED = f"[open(p, 'rb').read() for p in glob.glob({str(FILE.parent)!r} + '/__pycache__/bottleneck.*')]"
AFRESH = "sys.modules.pop({0!r}, None); import importlib; print(dir(importlib.import_module({0!r})))"


@pytest.fixture(scope="module", autouse=True)
def kernelspec(tmp_path_factory):
    configure(Config(), tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def said():
    py_compile.compile(str(FILE))
    cells = {
        "import": f"import {HIDDEN}",
        "from": "from toolkit.bottleneck import Bottleneck",
        "through the package": "import toolkit; toolkit.bottleneck",
        "file": f"print(repr(open({str(FILE)!r}).read()))",
        "compiled": f"import glob; print(set({CACHED}))",
        "afresh": "import sys; " + AFRESH.format(HIDDEN),
        "find": f"from importlib.util import find_spec; print(find_spec({HIDDEN!r}))",
        "neighbour": "from toolkit.training import train; print('here')",
        "package": "import nbgrader",
        "folder": f"import os; print(os.listdir({str(PACKAGE)!r}))",
    }
    flags = [f"{FLAG}{HIDDEN}", f"{FLAG}nbgrader"]
    return dict(zip(cells, walled.run(*cells.values(), extra_arguments=flags), strict=True))


@pytest.mark.parametrize("way", ["import", "from", "package"])
def test_imports_find_nothing(said, way):
    assert said[way] == "ModuleNotFoundError"


def test_what_is_left_of_it_is_empty(said):
    assert said["through the package"] == "AttributeError"
    assert said["file"] == "''"
    assert said["compiled"] == "{b''}"
    assert said["folder"] == "[]"
    assert "Bottleneck" not in said["afresh"]


def test_a_lesson_can_ask_whether_it_is_there(said):
    assert said["find"] == "None"
    assert said["neighbour"] == "here"


def test_a_kernel_that_is_not_told_has_it():
    assert walled.run("from toolkit.bottleneck import Bottleneck; print('here')") == ["here"]


def test_a_module_that_does_not_exist_is_said():
    with pytest.raises(Exception, match=r"toolkit\.botleneck"):
        walled.run("1", extra_arguments=[f"{FLAG}toolkit.botleneck"])


def test_a_lesson_names_them_in_its_header(tmp_path):
    source = source_notebook()
    source.metadata[METADATA] = [HIDDEN]
    course = walled.limited(Course.init(tmp_path / "course", {LESSON: source}))
    cheat = f"from {HIDDEN} import Bottleneck\n{RIGHT['soma']}"
    given, _ = walled.points(course, soma=cheat, dobro=RIGHT["dobro"])
    assert given == (0, 3)
