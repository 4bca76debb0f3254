"""Values survive the wall exactly, and what no honest side sends is an incident."""

import copy
import itertools
import json
import math
import pickle
import socket
import struct
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from typing import ClassVar

import numpy as np
import pytest
import torch

from autograder.judge import wire
from autograder.judge.process import Names
from autograder.judge.remote import Remote, Wall
from autograder.judge.server import Server
from tests.autograder.judge.beside import served


def there_and_back(value):
    encoder = wire.Encoder(lambda other: ["handle", 1, type(other).__name__])
    form = encoder.encode(value)
    left, right = socket.socketpair()
    with left, right:
        wire.write(left, form, encoder.tensors)
        form, tensors = wire.read(right, 5)
    return wire.Decoder(tensors, tuple, lambda t, about: t).decode(form)


VALUES = [
    None,
    True,
    7,
    -(10**30),
    2.5,
    float("inf"),
    "não",
    [1, [2]],
    (1, (2,)),
    {1, 2},
    {"a": {1: (None,)}},
]


@pytest.mark.parametrize("value", [*VALUES, torch.Size([2, 3]), torch.bfloat16, slice(1, None)], ids=repr)
def test_plain_values_keep_value_and_type(value):
    back = there_and_back(value)
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8]
)
def test_tensors_keep_shape_dtype_and_bits(dtype):
    value = (torch.arange(12).reshape(3, 4) % 2).to(dtype).T
    back = there_and_back({"x": [value]})["x"][0]
    assert back.dtype is dtype and torch.equal(back, value)


def test_numpy_and_ordered_dicts_come_as_themselves():
    assert (there_and_back(np.eye(2)) == np.eye(2)).all()
    assert there_and_back(np.float32(0.5)).dtype == np.float32
    for kind in (OrderedDict(a=1), Counter("a"), defaultdict(int, a=1)):
        back = there_and_back(kind)
        assert back == {"a": 1} and type(back) is dict
    assert type(there_and_back(np.array(["não"])[0])) is str


def test_a_collection_without_a_form_of_its_own_can_be_gone_through():
    with served(names={"a": 1, "b": 2}.keys(), numbers=deque([2, 1])) as wall:
        assert list(wall.ask("get", "", "names")) == ["a", "b"]
        assert sorted(wall.ask("get", "", "numbers")) == [*{1, 2}] == [*wall.ask("get", "", "numbers")][::-1]


def test_an_empty_array_is_close_to_nothing():
    with served(array=np.zeros((0, 1))) as wall, pytest.raises(wire.Incident):
        assert np.allclose(wall.ask("get", "", "array"), 5)


def test_subclasses_are_no_plain_values():
    assert there_and_back(type("Seven", (int,), {})(7)) == ("handle", 1, "Seven")


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", 2**32 - 1, 0),
        struct.pack(">II", 1000, 0) + b"[" * 500 + b"]" * 500,
        struct.pack(">II", 3, 0) + b"nil",
        struct.pack(">II", 2, 8) + b"{}" + b"\xff" * 8,
        struct.pack(">II", 2_000_001, 0) + b'"' + b'\\"' * 1_000_000,
        b"",
    ],
    ids=["long", "deep", "no JSON", "no tensors", "a string without end", "nothing"],
)
def test_a_bad_frame_is_an_incident(frame):
    assert_refused(frame)


def assert_refused(frame):
    left, right = socket.socketpair()
    sender = threading.Thread(target=lambda: (left.sendall(frame), left.close()))
    sender.start()
    with pytest.raises(wire.Incident):
        wire.read(right, 5)
    sender.join()
    right.close()


class Liar:
    """Equal to all, true, as long as you like; to numpy an array at an address of its choice."""

    __array_interface__: ClassVar = {"shape": (1,), "typestr": "<f8", "data": (4096, False), "version": 3}
    __eq__ = __ne__ = __lt__ = __gt__ = __contains__ = __bool__ = lambda *_: True
    __len__ = __index__ = __int__ = lambda self: 3
    __float__ = lambda self: 3.0  # noqa: E731
    __hash__ = lambda self: 3  # noqa: E731
    __getattr__ = lambda self, name: lambda *_, **__: 3.0  # noqa: E731


DECISIONS = {
    "truth": bool,
    "length": len,
    "int": int,
    "float": float,
    "equal": lambda r: r == 3,
    "unequal": lambda r: r != 4,
    "less": lambda r: r < 4,
    "greater, reflected": lambda r: r > 2,
    "contains": lambda r: 1 in r,
    "contained": lambda r: r in [3],
    "hash": hash,
    "dict key": lambda r: {3: 1}[r],
    "index": lambda r: [0, 1, 2, 3][r],
    "isclose": lambda r: math.isclose(r, 3),
    "sum": lambda r: sum([r, 1]),
    "round": round,
    "numpy": lambda r: np.allclose(r, 3),
    "tensor": torch.tensor,
    "as tensor": torch.as_tensor,
    "torch": lambda r: torch.allclose(r, torch.tensor(3.0)),
    "format": lambda r: f"{r:.2f}",
    "its own comparison": lambda r: r.allclose(torch.tensor(3.0)),
    "its own beginning": lambda r: r.startswith("a"),
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("decide", DECISIONS.values(), ids=DECISIONS)
def test_an_opaque_object_decides_nothing(decide):
    with served(liar=Liar()) as wall:
        remote = wall.ask("get", "", "liar")
        assert type(remote) is Remote
        with pytest.raises((wire.Incident, TypeError, AttributeError, copy.Error, pickle.PicklingError)):
            decide(remote)


def test_an_end_of_iteration_from_over_there_ends_no_loop_of_a_test():
    def answer(number):
        raise StopIteration

    with served(answer=answer) as wall, pytest.raises(RuntimeError):
        assert all(map(wall.ask("get", "", "answer"), [1, 2]))


def test_a_value_that_was_looked_at_is_the_value_that_is_compared():
    """The student's process gives another number each time that it is asked."""
    counter = itertools.count()

    class Changing(dict):
        def __getitem__(self, name):
            return next(counter)

    here, there = socket.socketpair()
    with here, there:
        threading.Thread(target=Server(Changing()).serve, args=(there,), daemon=True).start()
        names = Names({"resposta"})
        for number in (0, 1):
            names.wall = Wall(here, 5)
            exec(f"assert resposta == {number} and resposta == {number}", names)
            names.end_test()


LIES = {
    "a dtype that is a module": ["dtype", "onnx"],
    "a handle that is no number": ["handle", "0", "int"],
    "a tensor that is not there": ["tensor", "7", {}],
    "a key that cannot be one": ["dict", [[["list", []], 1]]],
    "a pickle": ["pickle", "gASVBQAAAAAAAAB9lC4="],
    "an object": {"__class__": "int"},
    "half a pair": ["dict", [[1]]],
    "a device": ["device", "warp:0"],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_in_place_of_a_value_is_an_incident(lie):
    here, there = socket.socketpair()
    with here, there:
        wire.write(there, {"number": 1, "value": lie}, {})
        with pytest.raises(wire.Incident):
            Wall(here, 2).ask("get", "", "x")


HEADERS = {
    "offsets beyond the end": {"0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
    "a shape without its bytes": {"0": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}},
    "a negative shape": {"0": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "an overflow": {"0": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}},
    "an unknown dtype": {"0": {"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}},
    "a table without end": {
        str(n): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)
    },
    "overlapping": {str(n): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in (0, 1)},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_false_tensor_header_is_an_incident(header):
    text = json.dumps(header).encode()
    blob = struct.pack("<Q", len(text)) + text + bytes(4)
    assert_refused(struct.pack(">II", 2, len(blob)) + b"{}" + blob)


OPAQUE = {
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.empty(2, device="meta"),
    "quantised": torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    "a tensor subclass": torch.zeros(2).as_subclass(type("Tensor", (torch.Tensor,), {})),
    "a float subclass": type("float", (float,), {"__eq__": lambda *_: True})(3),
    "a str subclass": type("str", (str,), {"__eq__": lambda *_: True})("a"),
}


@pytest.mark.parametrize("value", OPAQUE.values(), ids=OPAQUE)
def test_what_is_not_exactly_a_plain_value_or_a_dense_tensor_is_opaque(value):
    with served(value=value) as wall:
        assert type(wall.ask("get", "", "value")) is Remote


def test_a_view_of_any_strides_comes_as_its_own_values():
    base = torch.arange(10.0)
    for view in (base[::3], base.expand(5, 10), base.as_strided((2, 2), (1, 0)), base.flip(0)):
        with served(view=view) as wall:
            assert torch.equal(wall.ask("get", "", "view"), view)


def test_who_does_not_read_is_given_up_within_the_time():
    here, there = socket.socketpair()
    with here, there, pytest.raises(wire.Incident):
        Wall(here, 0.2).ask("get", "", torch.zeros(10**6))
