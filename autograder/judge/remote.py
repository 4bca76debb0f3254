"""The judge's side of the wall: the student's objects, as far as a test may hold them."""

import builtins
import io
import pickle
import socket
import weakref
from typing import Any, NoReturn

import torch
from torch import nn

from autograder.judge import wire
from autograder.judge.wire import Incident


class Wall:
    """The line to a student's process; one request, one reply, each within `seconds`."""

    def __init__(self, line: socket.socket, seconds: float) -> None:
        self.line, self.seconds = line, seconds
        self.number = 0
        self.incident: Incident | None = None
        self.fresh: list[tuple[int, torch.Tensor, int]] = []
        self.older: list[tuple[int, weakref.ref[torch.Tensor], int]] = []

    def ask(self, do: str, of: str | int, *given: Any) -> Any:
        """Have something done over there and bring back the value, or the exception that it raised."""
        if do != "write":
            self._write_back()
        encoder = wire.Encoder(lambda value: self._sent(value, encoder))
        request = {"do": do, "of": of, "given": [encoder.encode(value) for value in given]}
        try:
            reply, tensors = self._exchange(request, encoder.tensors)
            decoder = wire.Decoder(tensors, self._handle, self._tensor)
            if "raised" not in reply:
                return decoder.decode(reply["value"])
        except Incident as incident:
            self.incident = incident
            raise
        raise _exception(reply["raised"])

    def done(self) -> None:
        """Let the student's process leave off serving."""
        wire.write(self.line, {"do": "done"}, {})

    def _exchange(self, request: dict[str, Any], tensors: dict[str, torch.Tensor]) -> tuple[Any, Any]:
        self.number += 1
        self.line.settimeout(self.seconds)  # for who does not read what is sent
        try:
            wire.write(self.line, {"number": self.number, **request}, tensors)
        except OSError as error:
            raise Incident("o processo terminou") from error
        reply, answer = wire.read(self.line, self.seconds)
        if (
            type(reply) is not dict
            or reply.get("number") != self.number
            or reply.keys() - {"number", "value", "raised"}
        ):
            raise Incident("uma resposta que ninguém pediu")
        return reply, answer

    def _sent(self, value: Any, encoder: wire.Encoder) -> list[Any]:
        """How an object goes over: the student's own by number, modules moved, others copied."""
        if isinstance(value, Remote):
            return ["handle", object.__getattribute__(value, "_number"), ""]
        if isinstance(value, nn.Module):
            self._move(value)
            return self._sent(value, encoder)
        return _pickled(value, encoder)

    def _move(self, module: nn.Module) -> None:
        """Student code may change a module it is given, so from now on the module lives over there."""
        encoder = wire.Encoder(_no_other)
        request = {"do": "keep", "of": "", "given": [_pickled(module, encoder)]}
        reply, tensors = self._exchange(request, encoder.tensors)
        if "value" not in reply:
            raise _exception(reply["raised"])
        kept = wire.Decoder(tensors, self._handle, self._tensor).decode(reply["value"])
        module.__dict__.clear()
        object.__setattr__(module, "__class__", Remote)
        Remote.__init__(module, self, object.__getattribute__(kept, "_number"), "Module")  # type: ignore[arg-type]

    def _handle(self, value: list[Any]) -> "Remote":
        kind, number, name = value
        if kind != "handle" or type(number) is not int or type(name) is not str:
            raise ValueError("no handle")
        return Remote(self, number, name[:80])

    def _tensor(self, value: torch.Tensor, about: dict[str, Any]) -> torch.Tensor:
        """A copy that behaves as the original: written to, it is written back; backward goes on there."""
        handle, learns = about["handle"], bool(about["learns"])
        if about["computed"]:
            anchor = torch.zeros((), requires_grad=True)
            computed: torch.Tensor = _Bridge.apply(anchor, value, self, int(handle))  # type: ignore[no-untyped-call]
            return computed
        if handle is not None:
            value = nn.Parameter(value, requires_grad=learns)
            self.fresh.append((int(handle), value, value._version))
        return value.requires_grad_(learns)

    def _write_back(self) -> None:
        alive = [(number, kept(), version) for number, kept, version in self.older]
        known = [*self.fresh, *((n, t, v) for n, t, v in alive if t is not None)]
        self.fresh, self.older = [], []
        for number, tensor, version in known:
            if tensor._version != version:
                self.ask("write", number, tensor.detach())
            self.older.append((number, weakref.ref(tensor), tensor._version))


def _pickled(value: Any, encoder: wire.Encoder) -> list[Any]:
    """From the trusted to the untrusted side; the way back has no pickles."""
    text = io.BytesIO()
    _Pickler(text).dump(value)
    return ["pickle", encoder.keep(torch.frombuffer(bytearray(text.getvalue()), dtype=torch.uint8))]


def _no_other(value: Any) -> NoReturn:
    raise TypeError(f"{type(value).__name__} does not cross the wall")


class _Bridge(torch.autograd.Function):
    """A tensor that the student's code computed: its gradient is handed on to where it was computed."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, value: torch.Tensor, wall: Wall, number: int) -> torch.Tensor:
        ctx.wall, ctx.number = wall, number
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.wall.ask("backward", ctx.number, gradients[0])
        return None, None, None, None


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> int | None:
        return object.__getattribute__(obj, "_number") if isinstance(obj, Remote) else None


ENDING = (StopIteration, StopAsyncIteration)  # would end a test's own loop before its first comparison


def _exception(described: Any) -> BaseException:
    """The student's exception as the nearest built-in one; an Exception in any case, an error in any case."""
    try:
        name, text = map(str, described)
    except (TypeError, ValueError):
        return Incident("uma resposta ilegível")
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(kind, ENDING):
        kind = RuntimeError
    try:
        error: Exception = kind(text)
    except TypeError:  # UnicodeDecodeError and the like want more
        error = RuntimeError(text)
    error.by_student = True  # type: ignore[attr-defined]
    return error


# Methods to which a test would hand what it expects, and believe the answer.
COMPARING = {
    *("allclose", "isclose", "equal", "equals", "eq", "ne", "lt", "le", "gt", "ge"),
    *("issubset", "issuperset", "isdisjoint", "startswith", "endswith"),
}
TOLD = {"__name__", "__qualname__", "__doc__", "__module__", "__init__"}


class Remote:
    """An object of the student's, by number. Its parts can be had, it can be called; itself it says nothing.

    What would let an object decide a test by itself is an Incident: comparison, truth, conversion, and
    methods that compare.
    """

    def __init__(self, wall: Wall, number: int, kind: str) -> None:
        for name, value in (("_wall", wall), ("_number", number), ("_kind", kind)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_kind')}>"

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Remote
        if name in COMPARING:
            _refuse(self)
        # By these numpy would read memory where the student points to, and copy and pickle call anything.
        if name[:2] == name[-2:] == "__" and name not in TOLD:
            raise AttributeError(f"{name} of an object of the student's is not to be had")
        return _ask(self, "attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, "set", name, value)

    def __call__(self, *positional: Any, **named: Any) -> Any:  # noqa: D102
        return _ask(self, "call", list(positional), named)

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, "item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, "set_item", key, value)

    def __iter__(self) -> Any:
        return iter(_ask(self, "iterate"))

    def __instancecheck__(self, value: Any) -> bool:
        return _ask(self, "isinstance", value) is True

    def __len__(self) -> NoReturn:
        """None, and no Incident: `list`, `sorted` and `*` ask for it, and do without."""
        raise TypeError(f"{self!r} has no length here")

    __hash__ = None  # type: ignore[assignment]


def _ask(remote: Remote, do: str, *given: Any) -> Any:
    wall = object.__getattribute__(remote, "_wall")
    return wall.ask(do, object.__getattribute__(remote, "_number"), *given)


def _refuse(self: Remote, *_: Any) -> NoReturn:
    wall = object.__getattribute__(self, "_wall")
    kind = object.__getattribute__(self, "_kind")
    found = f"um objeto {kind} onde se esperava um valor simples ou um tensor"
    wall.incident = Incident(found, lost=False)
    raise wall.incident


DECIDING = "eq ne lt le gt ge bool contains int float complex index"
for _name in DECIDING.split():
    setattr(Remote, f"__{_name}__", _refuse)
