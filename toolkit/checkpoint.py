"""The state of a training run on disk: written whole after a step, read back to go on from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from toolkit.folders import written_whole
from toolkit.shards import like

STATE, TRAINED, WHAT = "state.pt", "trained.safetensors", "run.json"


class CheckpointError(ValueError):
    """A checkpoint that is not this run's, or cannot be read; one sentence."""


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`."""
    return max(folder.glob("step-*"), default=None)


def write(
    folder: Path, step: int, what: dict[str, Any], weights: dict[str, Any], state: dict[str, Any]
) -> None:
    """Keep the trained weights, `state` (the optimizer's) and `what` is being run; drop older checkpoints."""
    import torch
    from safetensors.torch import save_file

    kept = folder / f"step-{step:08d}"
    older = [path for path in folder.glob("step-*") if path != kept]
    with written_whole(kept) as new:
        save_file({name: p.detach().contiguous() for name, p in weights.items()}, new / TRAINED)
        torch.save(state, new / STATE)
        (new / WHAT).write_text(json.dumps(what), encoding="utf-8")
    for path in older:
        shutil.rmtree(path)


def read(checkpoint: Path, what: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trained weights by name, and the rest of the state.

    Raises CheckpointError when the checkpoint is of another run (the difference is named), or damaged.
    """
    import torch
    from safetensors.torch import load_file

    try:
        _check_same(checkpoint, json.loads((checkpoint / WHAT).read_text(encoding="utf-8")), what)
        weights = load_file(checkpoint / TRAINED)
        state = torch.load(checkpoint / STATE, weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise CheckpointError(
            f"o checkpoint {checkpoint} está danificado ({error}): apague essa pasta e recomece."
        ) from None
    return weights, dict(state)


def trained(model: Any) -> dict[str, Any]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def parameters(model: Any) -> list[Any]:
    """The parameters that are trained, in the model's order."""
    return list(trained(model).values())


def put(model: Any, weights: dict[str, Any]) -> None:
    """Set the parameters that are trained, each to its share where FSDP has spread it."""
    import torch

    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(like(parameter, weights[name]))


def _check_same(checkpoint: Path, saved: dict[str, Any], what: dict[str, Any]) -> None:
    different = [key for key, value in json.loads(json.dumps(what)).items() if saved.get(key) != value]
    if different:
        raise CheckpointError(
            f"o checkpoint {checkpoint} é de outro treino (mudou: {', '.join(different)}): "
            f"use os mesmos argumentos para retomá-lo, ou outra pasta."
        )
