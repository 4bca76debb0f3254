"""The student's side of the wall: carries out the judge's requests on the student's objects.

It runs beside student code, which can do with it what it likes: the judge believes nothing that it says.
"""

import builtins
import io
import pickle
import socket
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch

from autograder.judge import wire

LINE = 7  # its file descriptor, after the kernel's four
MAX_ITEMS, MAX_TEXT = 100_000, 2_000


def serve(names: Mapping[str, Any]) -> None:
    """Answer requests about `names`, the student's, until the judge is done."""
    line = socket.socket(fileno=LINE)
    try:
        Server(names).serve(line)
    except wire.Incident:
        pass  # the judge is gone
    finally:
        line.detach()


class Server:
    """Objects under numbers, and the operations on them."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}

    def serve(self, line: socket.socket) -> None:
        """Loop until told that the test is done."""
        while True:
            request, tensors = wire.read(line)
            if request["do"] == "done":
                return
            encoder = wire.Encoder(self._handle)
            try:
                value = self._do(request, tensors)
                # A module that the judge hands over stays here; only its number goes back.
                reply = self._handle(value) if request["do"] == "keep" else encoder.encode(value)
                frame = wire.frame({"number": request["number"], "value": reply}, encoder.tensors)
            except BaseException as error:  # KeyboardInterrupt and SystemExit of student code as well
                frame = wire.frame({"number": request["number"], "raised": _described(error)}, {})
            line.sendall(frame)

    def _do(self, request: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
        decoder = wire.Decoder(tensors, lambda value: self._received(value, tensors), _leaf)
        of, given = request["of"], [decoder.decode(value) for value in request["given"]]
        target = self.names.get(of) if isinstance(of, str) else self.objects[of]
        return getattr(self, f"_{request['do']}")(target, *given)

    def _handle(self, value: Any) -> list[Any]:
        number = self.numbers.setdefault(id(value), len(self.objects))
        self.objects[number] = value
        return ["handle", number, type(value).__name__]

    def _received(self, value: list[Any], tensors: Mapping[str, torch.Tensor]) -> Any:
        if value[0] == "handle":
            return self.objects[value[1]]
        # From the judge, who is trusted; never the other way.
        return _Unpickler(tensors[value[1]].numpy().tobytes(), self.objects).load()

    def _get(self, target: Any, name: str) -> Any:
        return self.names[name]

    def _keep(self, target: Any, moved: Any) -> Any:
        return moved

    def _call(self, target: Any, positional: list[Any], named: dict[str, Any]) -> Any:
        return target(*positional, **named)

    def _attribute(self, target: Any, name: str) -> Any:
        return getattr(target, name)

    def _set(self, target: Any, name: str, value: Any) -> None:
        setattr(target, name, value)

    def _item(self, target: Any, key: Any) -> Any:
        return target[key]

    def _set_item(self, target: Any, key: Any, value: Any) -> None:
        target[key] = value

    def _iterate(self, target: Any) -> list[Any]:
        return list(islice(iter(target), MAX_ITEMS))

    def _isinstance(self, target: Any, value: Any) -> bool:
        return isinstance(value, target)

    def _write(self, target: Any, value: torch.Tensor) -> None:
        with torch.no_grad():
            target.copy_(value)

    def _backward(self, target: Any, gradient: torch.Tensor) -> None:
        target.backward(gradient)


class _Unpickler(pickle.Unpickler):
    def __init__(self, text: bytes, objects: Mapping[int, Any]) -> None:
        super().__init__(io.BytesIO(text))
        self.objects = objects

    def persistent_load(self, pid: Any) -> Any:
        return self.objects[pid]


def _leaf(value: torch.Tensor, about: dict[str, Any]) -> torch.Tensor:
    return value.requires_grad_(about["learns"])


def _described(error: BaseException) -> list[str]:
    kind = next(base for base in type(error).__mro__ if base.__module__ == builtins.__name__)
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    return [kind.__name__, text]
