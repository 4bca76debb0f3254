"""Attacks on the grade: wrong answers that claim to be right, bombs, and honest work that looks odd."""

import json

import pytest
from nbformat.v4 import new_code_cell, new_output

from tests.autograder import walled
from tests.autograder.small_lesson import RIGHT


@pytest.fixture(scope="module")
def course(fresh_course, tmp_path_factory):
    import shutil

    from autograder.course import Course

    return walled.limited(
        Course(shutil.copytree(fresh_course.root, tmp_path_factory.mktemp("red") / "course"))
    )


WRONG = "\ndef soma(a, b):\n    return 0\n"
FORGERIES = {
    "always equal": "class Any(int):\n    __eq__ = __ge__ = __le__ = lambda s, o: True\n"
    "def soma(a, b): return Any(7)",
    "an object that is equal, true and long": "class Any:\n    def __eq__(s, o): return True\n"
    "    def __bool__(s): return True\n    def __len__(s): return 3\ndef soma(a, b): return Any()",
    "a tensor subclass": "import torch\nclass T(torch.Tensor):\n    @classmethod\n"
    "    def __torch_function__(c, f, t, a=(), k=None): return True\n"
    "def soma(a, b): return torch.zeros(1).as_subclass(T)",
    "a lie about the class": "class Any:\n    __class__ = int\n    def __eq__(s, o): return True\n"
    "def soma(a, b): return Any()",
    "cells emptied by an input transformer": "get_ipython().input_transformers_cleanup.append(lambda l: ['pass'])"
    + WRONG,
    "asserts dropped by an AST transformer": "import ast\nclass T(ast.NodeTransformer):\n"
    "    def visit_Assert(s, n): return ast.Pass()\nget_ipython().ast_transformers.append(T())" + WRONG,
    "do_execute replaced": "k = get_ipython().kernel\nasync def ok(*a, **b): return {'status': 'ok', "
    "'execution_count': 1, 'payload': [], 'user_expressions': {}}\nk.do_execute = ok" + WRONG,
    "showtraceback replaced": "get_ipython().showtraceback = lambda *a, **k: None" + WRONG,
    "a forged result": "def soma(a, b):\n    get_ipython().displayhook(1e9)\n    return 0",
    "a score printed": "def soma(a, b):\n    print('score: 2/2')\n    return 0",
    "builtins patched": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 3"
    + WRONG,
    "torch patched": "import torch\ntorch.allclose = torch.equal = lambda *a, **k: True" + WRONG,
    "frames read": "import sys, gc\ndef soma(a, b):\n    f = sys._getframe()\n    while f:\n"
    "        for v in list(f.f_locals.values()):\n            if isinstance(v, str) and 'assert' + ' soma' in v: return 3\n"
    "        f = f.f_back\n    return 3 if any(isinstance(o, str) and 'soma(1, ' + '2) ==' in o "
    "for o in gc.get_objects()) else 0",
    "frames written on the line": "import os\ndef soma(a, b):\n    os.write(7, bytes(4096))\n    return 0",
    "a huge frame": "import os, struct\ndef soma(a, b):\n    os.write(7, struct.pack('>II', 2**32 - 1, 2**32 - 1))\n"
    "    return 0",
    "a deep frame": "import os, struct\ndef soma(a, b):\n    t = b'[' * 100000\n"
    "    os.write(7, struct.pack('>II', len(t), 0) + t)\n    return 0",
    "a pickle over the line": "import os, struct, json\ndef soma(a, b):\n"
    "    t = json.dumps({'number': 1, 'value': ['pickle', '0']}).encode()\n"
    "    os.write(7, struct.pack('>II', len(t), 0) + t)\n    return 0",
    "the server's encoder replaced": "from autograder.judge import wire\n"
    "wire.Encoder.encode = lambda s, v, d=0: ['handle', 0, 'int']" + WRONG,
    "a list without end": "def soma(a, b):\n    x = []\n    x.append(x)\n    return x",
    "a huge tensor": "import torch\ndef soma(a, b): return torch.empty(10**9)",
    "a huge string": "def soma(a, b): return 'x' * (1 << 27)",
    "nan": "def soma(a, b): return float('nan')",
    "a raised pass": "def soma(a, b): raise SystemExit(0)",
    "an exception of an exotic class": "def soma(a, b):\n    raise type('AssertionOk', (BaseException,), {})()",
    "an attribute bomb": "class B:\n    def __getattr__(s, n): raise MemoryError\n    __repr__ = __str__ = __hash__ = "
    "__getattr__\ndef soma(a, b): return B()",
    "a generator without end": "def soma(a, b):\n    while True: yield 3",
    "a half surrogate raised": "def soma(a, b): raise ValueError('\\ud800')",
    "a half surrogate printed": "print('\\ud800')\ndef soma(a, b):\n    print('\\udfff')\n    return 0",
    "memory at an address, for numpy": "class A:\n    __array_interface__ = {'shape': (1,), 'typestr': '<f8', "
    "'data': (4096, False), 'version': 3}\ndef soma(a, b): return A()",
    "a float subclass": "class F(float):\n    __eq__ = lambda s, o: True\ndef soma(a, b): return F(0)",
    "a str subclass": "class S(str):\n    __eq__ = lambda s, o: True\ndef soma(a, b): return S('3')",
    "a torch function mode": "import torch\nfrom torch.overrides import TorchFunctionMode\n"
    "class M(TorchFunctionMode):\n    def __torch_function__(s, f, t, a=(), k=None): return True\n"
    "M().__enter__()" + WRONG,
    "a namespace that has everything": "class N(dict):\n    def __missing__(s, k): return 3\n"
    "get_ipython().user_ns = N()" + WRONG,
    "the tests' helpers redefined": "import builtins\nfor n in ('soma', 'credit', 'dobro', 'assert_'):\n"
    "    setattr(builtins, n, lambda *a: 3)" + WRONG,
    "the judge's tools called": "try:\n    credit(1)\nexcept NameError: pass\n"
    "try:\n    adapter_on\nexcept NameError: pass" + WRONG,
    "ids of tests and markers in an answer": "### BEGIN HIDDEN TESTS\n# 01_soma-soma-teste\n### END HIDDEN TESTS\n"
    'def soma(a, b): return """\ndef dobro(x):\n    return 0\n"""',
    "the server's work replaced": "from autograder.judge.server import Server\nServer._do = lambda s, r, t: True"
    + WRONG,
    "every question answered alike": "from autograder.judge.server import Server\nfrom autograder.judge import wire\n"
    "def serve(s, line):\n    while True:\n        r, _ = wire.read(line)\n        if r['do'] == 'done': return\n"
    "        wire.write(line, {'number': r['number'], 'value': ['handle', 0, 'int']}, {})\nServer.serve = serve"
    + WRONG,
    "an answer before the question": "import json, struct, os\nt = json.dumps({'number': 1, 'value': 3}).encode()\n"
    "os.write(7, struct.pack('>II', len(t), 0) + t)" + WRONG,
    "an answer to another question": "import json, struct, os\ndef soma(a, b):\n    t = json.dumps({'number': 9, 'value': 3}).encode()\n"
    "    os.write(7, (struct.pack('>II', len(t), 0) + t) * 3)\n    return 0",
    "the line closed": "import os\ndef soma(a, b):\n    os.close(7)\n    return 3",
    "a false end of the cell": "k = get_ipython().kernel\ndef soma(a, b):\n"
    "    k.session.send(k.iopub_socket, 'status', {'execution_state': 'idle'}, parent=k.get_parent())\n    return 0",
    "a false reply": "k = get_ipython().kernel\ndef soma(a, b):\n    k.session.send(k.shell_stream, 'execute_reply', "
    "{'status': 'ok', 'execution_count': 1}, parent=k.get_parent())\n    return 0",
    "a message too deep to read": "k = get_ipython().kernel\npack = k.session.pack\n"
    "k.session.pack = lambda c: b'[' * 10 ** 5 + b']' * 10 ** 5 if c == {'x': 1} else pack(c)\n"
    "k.session.send(k.iopub_socket, 'stream', {'x': 1}, parent=k.get_parent())" + WRONG,
    "a hundred thousand tensors": "def soma(a, b):\n    import torch\n    return [torch.zeros(0)] * 10 ** 5",
    "a name for a kind": "def soma(a, b): return type('3', (), {'__repr__': lambda s: '3', '__str__': lambda s: '3'})()",
    "an exception that cannot be said": "class E(AssertionError):\n    def __str__(s):\n        while True: pass\n"
    "def soma(a, b): raise E",
    "a million things in a set": "def soma(a, b): return {i for i in range(10 ** 6)}",
    "numbers that collide": "def soma(a, b): return {i * (2 ** 61 - 1): 0 for i in range(20_000)}",
    "tests sought in linecache and modules": "import linecache, sys\ndef soma(a, b):\n"
    "    text = repr(linecache.cache) + repr([vars(m) for m in list(sys.modules.values()) if 'main' in m.__name__])\n"
    "    return 3 if 'deve dar ' + '3' in text else 0",
    "the environment searched for the test": "import os, sys\ntext = repr((os.environ, sys.argv, sys.orig_argv))\n"
    "text += open('/proc/self/environ').read()\ndef soma(a, b): return 3 if 'soma' in text else 0",
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", FORGERIES)
def test_a_forgery_gains_nothing_and_costs_others_nothing(course, attack):
    (soma, dobro), graded = walled.points(course, soma=FORGERIES[attack], dobro=RIGHT["dobro"])
    assert soma == 0 and "271828" not in said(graded)
    # What an answer does to its own kernel it may do to its own later items, never to anybody else's.
    assert dobro in (0, 3)


def said(graded):
    """All that a submission's cells put out, where a hidden test must not be."""
    return json.dumps([cell.get("outputs") for cell in json.loads(graded.notebook)["cells"]])


def incidents(graded):
    """What the record of a grading keeps of rules broken."""
    return json.loads(graded.notebook)["metadata"].get("autograder", {}).get("incidents", [])


BOMBS = {
    "exit in a test": "def soma(a, b):\n    import os; os._exit(0)",
    "exit at once": "import os; os._exit(0)",
    "a signal": "import os; os.kill(os.getpid(), 9)",
    "a segmentation fault": "import ctypes\ndef soma(a, b): ctypes.string_at(0)",
    "an endless loop": "def soma(a, b):\n    while True: pass",
    "an endless loop that takes no interrupt": "def soma(a, b):\n    while True:\n        try:\n"
    "            while True: pass\n        except BaseException: pass",
    "an endless cell that takes no interrupt": "while True:\n    try:\n        while True: pass\n"
    "    except BaseException: pass",
    "a loop in C": "def soma(a, b): return 10 ** 10 ** 8",
    "a long sleep": "import time\ndef soma(a, b): time.sleep(10 ** 6)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef soma(a, b): return soma(a, b)",
    "all memory": "def soma(a, b):\n    x = [bytes(1 << 28) for _ in range(400)]",
    "a fork bomb": "import os\ndef soma(a, b):\n    while True:\n        try: os.fork()\n        except OSError: pass",
    "a flood of output": "while True: print('x' * 10_000)",
    "a flood in a test": "def soma(a, b):\n    while True: print('x' * 10_000)",
    "a message of parts without end": "k = get_ipython().kernel\nk.session.send(k.iopub_socket, 'display_data', "
    "{'data': {}, 'metadata': {}}, parent=k.get_parent(), buffers=[bytes(8_000_000)] * 1_000)",
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_its_own_item_and_no_other(course, bomb):
    (soma, dobro), graded = walled.points(course, soma=BOMBS[bomb], dobro=RIGHT["dobro"])
    assert (soma, dobro) == (0, 3)
    assert '"error"' in said(graded)  # the student is told


def test_a_hidden_test_reaches_no_display_of_an_earlier_cell(course):
    show = (
        "from IPython.display import display, update_display\ndisplay('nada', display_id='x')\n"
        + RIGHT["soma"]
    )
    tell = "def dobro(x):\n    update_display(f'vi {x}', display_id='x')\n    return 2 * x"
    points, graded = walled.points(course, soma=show, dobro=tell)
    assert points == (2, 3) and "nada" in said(graded) and "271828" not in said(graded)


def test_a_display_updated_within_a_test_is_no_incident(course):
    bar = "def soma(a, b):\n    bar = display(0, display_id=True)\n    bar.update(9)\n    return a + b"
    points, graded = walled.points(course, soma=bar, dobro=RIGHT["dobro"])
    assert points == (2, 3) and not incidents(graded)


@pytest.mark.slow
def test_many_cells_keep_no_more_output_than_a_submission_may(course):
    shows = [new_code_cell("for _ in range(90): display({'text/plain': 'x' * 10_000}, raw=True)")] * 30
    points, graded = walled.points(course, extra=shows, **RIGHT)
    assert points == (2, 3) and len(graded.notebook) < 25_000_000
    assert any("too much output" in incident for incident in incidents(graded))


HONEST = {
    "warnings": "import warnings\ndef soma(a, b):\n    warnings.warn('cuidado')\n    return a + b",
    "a progress bar": "from tqdm.auto import tqdm\ndef soma(a, b):\n    for _ in tqdm(range(3)): pass\n    return a + b",
    "logging": "import logging, sys\ndef soma(a, b):\n    logging.warning('x'); print('y', file=sys.stderr)\n"
    "    return a + b",
    "numpy": "import numpy as np\ndef soma(a, b): return np.int64(a) + np.int64(b)",
    "a tensor": "import torch\ndef soma(a, b): return torch.tensor(a) + b",
    "accents": "def adição(x, y): return x + y\ndef soma(a, b): return adição(a, b)",
    "CRLF": "def soma(a, b):\r\n    return a + b\r\n",
    "a float": "import numpy as np\ndef soma(a, b): return np.float64(a + b)",
    "a double": "import torch\ndef soma(a, b): return torch.tensor(a, dtype=torch.float64) + b",
    "a float of 32 bits": "import numpy as np\ndef soma(a, b): return float(np.float32(a) + np.float32(b))",
    "a module that Colab has": "try:\n    import google.colab\nexcept ImportError:\n    pass\n"
    "def soma(a, b): return a + b",
    "lines of Colab": "!pip install -q peft\nfrom google.colab import drive\ndrive.mount('/content/drive')\n"
    "%cd /content\nimport os\nos.kill(os.getpid(), 9)\ndef soma(a, b): return a + b",
    "an installation over several lines": "!pip install -q \\\n    peft \\\n    transformers\ndef soma(a, b): return a + b",
    "secrets of Colab": "from google.colab import userdata\nimport os\nos.environ['T'] = userdata.get('T')\n"
    "def soma(a, b): return a + b",
    "Colab's folder": "import os\nos.chdir('/content')\nopen('/content/x', 'w')\ndef soma(a, b): return a + b",
    "a compiled function": "import torch\n@torch.compile\ndef um(x): return x + 1\n"
    "def soma(a, b): return int(um(torch.tensor(a))) + b - 1",
    "prints into a widget": "import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\nwith out: print('x')\n"
    "def soma(a, b):\n    with out: print('y')\n    return a + b",
    "worker processes": "from torch.utils.data import DataLoader\n"
    "def soma(a, b): return sum(int(x) for x in DataLoader([a, b], num_workers=2))",
    "files of its own": "open('notas.txt', 'w').write('ok')\ndef soma(a, b): return a + b",
}


@pytest.mark.slow
@pytest.mark.parametrize("style", HONEST)
def test_honest_work_gets_full_marks(course, style):
    cells = [new_code_cell("%cd /content\nprint('extra')"), new_code_cell("%%capture\n1 + 1")]
    assert walled.points(course, extra=cells, soma=HONEST[style], dobro=RIGHT["dobro"])[0] == (2, 3)


def as_colab_saves(notebook):
    """Colab's own form: nbformat 4.0, no cell ids, metadata and outputs of its own."""
    notebook.nbformat_minor = 0
    notebook.metadata["colab"] = {"name": "Cópia", "provenance": []}
    for number, cell in enumerate(notebook.cells):
        cell.pop("id")
        cell.metadata.update(id=f"Xy{number}", outputId=f"0c{number}")


def without_metadata(notebook):
    notebook.metadata.clear()
    for cell in notebook.cells:
        cell.metadata.clear()


def of_another_kernel(notebook):
    notebook.metadata["kernelspec"] = {"name": "conda-env-aula-py", "display_name": "x", "language": "python"}


def split(notebook):
    index = next(i for i, cell in enumerate(notebook.cells) if cell.source == RIGHT["soma"])
    notebook.cells[index].source, rest = RIGHT["soma"].split("\n")
    notebook.cells.insert(index + 1, new_code_cell(rest))


def with_extra_cells(notebook):
    notebook.cells.insert(1, new_code_cell("def ajuda(a, b):\n    return a + b"))
    for cell in notebook.cells:
        cell.source = cell.source.replace("return b + a", "return ajuda(a, b)")


def with_windows_lines(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")


def with_old_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [new_output("error", ename="Velho", evalue="x", traceback=["x"])]


ACCIDENTS = (
    *(as_colab_saves, without_metadata, of_another_kernel, split),
    *(with_extra_cells, with_windows_lines, with_old_outputs),
)


@pytest.mark.slow
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_honest_notebooks_get_full_marks_whatever_happened_to_them(course, accident):
    assert walled.points(course, change=accident, **RIGHT)[0] == (2, 3)


@pytest.mark.slow
def test_no_attack_left_a_trace(course, fresh_course):
    """Last of the slow ones: the course is as it was, and an honest submission gets its marks."""
    for name in ("source", "release", "gradebook.db"):
        for before in [fresh_course.root / name, *(fresh_course.root / name).rglob("*")]:
            after = course.root / before.relative_to(fresh_course.root)
            assert before.is_dir() or before.read_bytes() == after.read_bytes()
    assert walled.points(course, **RIGHT)[0] == (2, 3)


def test_right_wrong_forged_and_dead(course):
    """The shortest form of all of the above."""
    assert walled.points(course, **RIGHT)[0] == (2, 3)
    forged, graded = walled.points(course, soma=FORGERIES["always equal"], dobro=RIGHT["dobro"])
    notebook = json.loads(graded.notebook)
    assert forged == (0, 3) and "objeto Any" in json.dumps(notebook, ensure_ascii=False)
    assert notebook["metadata"]["autograder"]["incidents"]  # what the record of a grading keeps
    assert walled.points(course, soma=BOMBS["exit in a test"], dobro=RIGHT["dobro"])[0] == (0, 3)
