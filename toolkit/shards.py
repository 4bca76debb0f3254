"""Tensors that FSDP has spread over processes: put together in each of them, and spread again."""

from __future__ import annotations

from typing import Any


def whole(state: Any) -> Any:
    """The same state with every tensor that FSDP has spread over processes put together in each of them."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda value: value.full_tensor() if hasattr(value, "full_tensor") else value, state)


def sharded(state: dict[str, Any], parameters: list[Any]) -> dict[str, Any]:
    """An optimizer's whole state as its parameters are spread: the inverse of `whole`."""
    each = {
        index: {key: like(parameters[index], value) for key, value in kept.items()}
        for index, kept in state["state"].items()
    }
    return {**state, "state": each}


def like(parameter: Any, value: Any) -> Any:
    """The value as the parameter is spread, where it has its shape."""
    if not hasattr(parameter, "full_tensor") or getattr(value, "shape", None) != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
