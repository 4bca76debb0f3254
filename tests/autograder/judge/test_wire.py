"""Values survive the wall exactly, and what no honest side sends is an incident."""

import socket
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch

from autograder.judge import wire
from autograder.judge.remote import Remote, Wall


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
    assert there_and_back(OrderedDict(a=1)) == {"a": 1}


def test_subclasses_are_no_plain_values():
    assert there_and_back(type("Seven", (int,), {})(7)) == ("handle", 1, "Seven")


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">II", 2**32 - 1, 0),
        struct.pack(">II", 1000, 0) + b"[" * 500 + b"]" * 500,
        struct.pack(">II", 3, 0) + b"nil",
        struct.pack(">II", 2, 8) + b"{}" + b"\xff" * 8,
        b"",
    ],
    ids=["long", "deep", "no JSON", "no tensors", "nothing"],
)
def test_a_bad_frame_is_an_incident(frame):
    left, right = socket.socketpair()
    with right:
        left.sendall(frame)
        left.close()
        with pytest.raises(wire.Incident):
            wire.read(right, 5)


@pytest.mark.parametrize(
    "test", [bool, len, int, float, lambda r: r == 1, lambda r: r < 1, lambda r: r != 1, hash]
)
def test_an_opaque_object_decides_nothing(test):
    line, _other = socket.socketpair()
    with pytest.raises((wire.Incident, TypeError)):
        test(Remote(Wall(line, 1), 0, "Any"))
