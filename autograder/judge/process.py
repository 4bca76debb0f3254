"""The trusted process: runs given cells and tests, with the student's names remote, and gives verdicts."""

import builtins
import json
import random
import socket
import sys
import traceback
from collections.abc import Collection
from dataclasses import asdict
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import torch
from IPython.core.inputtransformer2 import TransformerManager

from autograder.judge.adapter import adapter_on
from autograder.judge.items import MESSAGE, Verdict, is_hidden
from autograder.judge.remote import Wall
from autograder.judge.vacuous import NothingMatches
from autograder.judge.wire import Incident

LONGEST = 2_000  # characters of a sentence, in which the author may have put a value of the student's


class Names(dict[str, Any]):
    """A test's global names; those that only the student's answers define are fetched over the wall.

    Once a test: a value that was looked at is the value that is compared.
    """

    def __init__(self, answers: Collection[str]) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins, adapter_on=adapter_on)
        self.answers, self.wall = answers, None
        self.fetched: set[str] = set()

    wall: Wall | None

    def __missing__(self, name: str) -> Any:
        if self.wall is None or name not in self.answers:
            raise KeyError(name)
        self[name] = self.wall.ask("get", "", name)
        self.fetched.add(name)
        return self[name]

    def end_test(self) -> None:
        """The next test fetches anew."""
        for name in self.fetched:
            self.pop(name, None)
        self.fetched.clear()
        self.wall = None


class _Main(ModuleType):
    """Where pickle looks for classes and functions of the given cells."""

    def __init__(self, names: Names) -> None:
        super().__init__("__main__")
        object.__setattr__(self, "_names", names)

    def __getattr__(self, name: str) -> Any:
        names = object.__getattribute__(self, "_names")
        if dict.__contains__(names, name):
            return dict.__getitem__(names, name)
        raise AttributeError(name)


def run(fds: tuple[int, ...], answers: list[str]) -> None:
    """Serve the grader on fds[0]: a request is a cell, for a test with the line to the student's process."""
    control = socket.socket(fileno=fds[0])
    names = Names(frozenset(answers))
    sys.modules["__main__"] = _Main(names)
    while True:
        text, lines, *_ = socket.recv_fds(control, MESSAGE, 1)
        if not text:
            return
        request = json.loads(text)
        verdict = asdict(_judge(names, request, lines))
        control.send(json.dumps({"number": request["number"], "verdict": verdict}).encode())


def _judge(names: Names, request: dict[str, Any], lines: list[int]) -> Verdict:
    seed(request["seed"])
    names["student_id"] = request["student"]  # the roster's, for questions that are different for each
    if not lines:
        return _outcome(names, request["source"])
    with socket.socket(fileno=lines[0]) as line:
        names.wall = Wall(line, request["seconds"])
        verdict = _outcome(names, request["source"])
        try:
            if not verdict.lost:
                names.wall.done()
        except (Incident, OSError):
            pass  # gone after its last answer: the next cell gets a fresh one
        names.end_test()
    return verdict


def seed(number: int) -> None:
    """Hidden inputs are drawn from here."""
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


def _outcome(names: Names, source: str) -> Verdict:
    wall, earned = names.wall, [0.0]
    names["credit"] = lambda share: earned.append(min(1.0, max(earned[-1], float(share))))
    try:
        with NothingMatches():
            exec(compile(TransformerManager().transform_cell(source), "test", "exec"), names)
        if wall is not None and wall.incident is not None:
            raise wall.incident
    except Incident as incident:
        sentence = f"O teste parou: {incident}."
        return Verdict(0.0, sentence, str(incident), lost=incident.lost)
    except BaseException as error:
        return Verdict(earned[-1], _message(error, source)[:LONGEST])
    return Verdict(1.0)


def _message(error: BaseException, source: str) -> str:
    """The author's sentence, or what can be said without showing a hidden test."""
    line = _line(error.__traceback__)
    hidden = is_hidden(source, line)
    kind = type(error).__name__
    by_student = getattr(error, "by_student", False)
    if isinstance(error, NotImplementedError) and (by_student or _blank(error.__traceback__)):
        return "Exercício ainda não feito."
    if by_student:
        return f"O seu código levantou {kind}" + ("." if hidden else f": {error}")
    if isinstance(error, AssertionError):
        if error.args:
            return str(error)
        return "Um teste escondido falhou." if hidden else f"Falhou: {source.splitlines()[line - 1].strip()}"
    if isinstance(error, NameError):
        return (
            f"O teste usa um nome que a resposta não define: {error}"
            if not hidden
            else "Falta um nome na resposta."
        )
    return f"O teste não pôde usar a resposta ({kind})" + ("." if hidden else f": {error}")


def _blank(trace: TracebackType | None) -> bool:
    """Whether the quiz raised this, over a blank answer; torch raises the same kind for what it cannot do."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(trace)]
    return bool(names) and names[-1].startswith("toolkit.quiz")


def _line(trace: TracebackType | None) -> int:
    found = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "test" and trace.tb_frame.f_code.co_name == "<module>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
