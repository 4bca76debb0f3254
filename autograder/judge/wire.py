"""What crosses the wall: framed messages of JSON and tensors, read with suspicion, built by exact type.

A frame is two lengths (JSON, tensors), the JSON, and the tensors in safetensors form. Nothing that came from
student code is unpickled; what is neither plain data nor a tensor crosses as a handle, a number.
"""

import json
import re
import socket
import struct
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

LENGTHS = struct.Struct(">II")
MAX_JSON, MAX_TENSORS, MAX_DEPTH = 4 << 20, 256 << 20, 40
MAX_TABLE = 1 << 20  # of the tensors' names and shapes, with which safetensors begins: ten thousand of them
DTYPES = {str(kind): kind for kind in vars(torch).values() if type(kind) is torch.dtype}
# Never tried twice from within: a string that does not end would cost its length squared.
_STRING = re.compile(rb'(?s)"(?:[^"\\]|\\.?)*+"?')
_BRACKET = re.compile(rb"[\[\]{}]")


class Incident(BaseException):
    """The student's side broke the rules or is gone. No `except Exception` of a test makes it a pass.

    `lost`: the line is out of step from here on, so the process behind it is of no more use.
    """

    def __init__(self, what: str, lost: bool = True) -> None:
        super().__init__(what)
        self.lost = lost


def write(line: socket.socket, message: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Send one frame."""
    line.sendall(frame(message, tensors))


def frame(message: Any, tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A message as it is sent; raises ValueError where it is too large."""
    text, blob = json.dumps(message).encode(), save(dict(tensors)) if tensors else b""
    if len(text) > MAX_JSON or len(blob) > MAX_TENSORS:
        raise ValueError(f"a value of {len(text) + len(blob)} bytes does not cross the wall")
    return LENGTHS.pack(len(text), len(blob)) + text + blob


def read(line: socket.socket, seconds: float | None = None) -> tuple[Any, dict[str, torch.Tensor]]:
    """Receive one frame within `seconds`; raises Incident where it is late, too large or no frame."""
    deadline = None if seconds is None else time.monotonic() + seconds
    text_length, blob_length = LENGTHS.unpack(_exactly(line, LENGTHS.size, deadline))
    if text_length > MAX_JSON or blob_length > MAX_TENSORS:
        raise Incident("um valor grande demais")
    text, blob = _exactly(line, text_length, deadline), _exactly(line, blob_length, deadline)
    if int.from_bytes(blob[:8], "little") > MAX_TABLE:
        raise Incident("tensores demais")
    if _depth(text) > MAX_DEPTH:
        raise Incident("um valor com aninhamento profundo demais")
    try:
        return json.loads(text), load(blob) if blob else {}
    except Exception as error:
        raise Incident("um valor ilegível") from error


def _exactly(line: socket.socket, length: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Incident("nenhuma resposta dentro do tempo")
        line.settimeout(left)
        try:
            part = line.recv(min(length - len(parts), 1 << 20))
        except TimeoutError:
            continue
        except OSError:
            part = b""
        if not part:
            raise Incident("o processo terminou")
        parts += part
    return bytes(parts)


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", text)):
        depth += 1 if bracket.group() in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


CROSSING = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
PLAIN = (type(None), bool, int, float, str)
CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    torch.Size: "size",
}
BUILDERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "size": torch.Size,
    "dict": dict,
}


class Encoder:
    """Values to JSON and tensors; `other` says what becomes of all that is not plain data."""

    def __init__(self, other: Callable[[Any], Any]) -> None:
        self.other = other
        self.tensors: dict[str, torch.Tensor] = {}

    def encode(self, value: Any, depth: int = 0) -> Any:
        """The JSON form: plain values as they are, all else as [kind, ...]."""
        kind = type(value)
        if depth > MAX_DEPTH:
            raise ValueError("a value nested too deeply does not cross the wall")
        if kind in PLAIN:
            return value
        if kind in CONTAINERS:
            return [CONTAINERS[kind], [self.encode(item, depth + 1) for item in value]]
        if kind is np.str_:
            return str(value)
        if kind in (dict, OrderedDict, defaultdict, Counter):
            return [
                "dict",
                [[self.encode(k, depth + 1), self.encode(v, depth + 1)] for k, v in value.items()],
            ]
        if kind in (torch.Tensor, nn.Parameter) and _is_dense(value):
            return self._tensor(value)
        if kind is np.ndarray and value.dtype.kind in "biuf":
            return [
                "array",
                self.keep(torch.from_numpy(np.ascontiguousarray(value).copy())),
                list(value.shape),
            ]
        if isinstance(value, np.generic) and kind.__module__ == "numpy" and value.dtype.kind in "biuf":
            return ["scalar", self.keep(torch.from_numpy(np.array([value])))]
        if kind is torch.dtype:
            return ["dtype", str(value)]
        if kind is torch.device:
            return ["device", str(value)]
        if kind is slice:
            return ["slice", [self.encode(part, depth + 1) for part in (value.start, value.stop, value.step)]]
        return self.other(value)

    def _tensor(self, value: torch.Tensor) -> Any:
        """With a handle where more is to be had of the original: a parameter, or what computed it."""
        computed = value.grad_fn is not None
        handle = self.other(value)[1] if type(value) is nn.Parameter or computed else None
        grad = None if computed or value.grad is None else self.keep(value.grad)
        about = {"learns": value.requires_grad, "computed": computed, "handle": handle, "grad": grad}
        return ["tensor", self.keep(value), about]

    def keep(self, value: torch.Tensor) -> str:
        """Add a tensor to the frame; give its name there."""
        name = str(len(self.tensors))
        self.tensors[name] = value.detach().cpu().contiguous().clone()
        return name


def _is_dense(value: torch.Tensor) -> bool:
    """Whether it has all its values itself, of a kind that crosses: not sparse, quantised or on meta."""
    return value.layout is torch.strided and value.device.type != "meta" and value.dtype in CROSSING


class Decoder:
    """JSON and tensors to values; `handle` makes something of a handle, `tensor` finishes a tensor."""

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        handle: Callable[[list[Any]], Any],
        tensor: Callable[[torch.Tensor, dict[str, Any]], torch.Tensor],
    ) -> None:
        self.tensors, self.handle, self.tensor = tensors, handle, tensor

    def decode(self, value: Any) -> Any:
        """The value; raises Incident for what no honest side sends."""
        try:
            return self._decode(value)
        except Exception as error:
            raise Incident("um valor ilegível") from error

    def _decode(self, value: Any) -> Any:
        if type(value) in PLAIN:
            return value
        kind, content, *rest = value
        if kind == "dict":
            return {self._decode(k): self._decode(v) for k, v in content}
        if kind in BUILDERS:
            return BUILDERS[kind](self._decode(item) for item in content)
        if kind == "tensor":
            about = rest[0]
            value = self.tensor(self.tensors[content], about)
            if about["grad"] is not None and not about["computed"]:
                value.grad = self.tensors[about["grad"]]
            return value
        if kind == "array":
            array = self.tensors[content].numpy().reshape(rest[0])
            if not array.size:  # numpy, unlike torch under `NothingMatches`, finds it close to everything
                raise Incident("um array vazio onde se esperavam valores", lost=False)
            return array
        if kind == "scalar":
            return self.tensors[content].numpy()[0]
        if kind == "slice":
            return slice(*map(self._decode, content))
        if kind == "dtype":
            return DTYPES[content]
        if kind == "device":
            return torch.device(content)
        return self.handle(value)
