"""What Triton's RMSNorm, rotary embedding and SwiGLU keep (Unsloth, fms-acceleration, Liger-Kernel).

The stand-ins allocate what those kernels allocate and compute nothing. Sources: fms-acceleration,
`kernels/unsloth/rms_layernorm.py` and `rope_embedding.py`; Liger-Kernel, `ops/rms_norm.py`, `rope.py` and
`swiglu.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch

from toolkit.plan import Plan


class Norm(torch.autograd.Function):
    """Keeps its input as it is and one fp32 number a row; writes its gradient over the one it is given."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(..., width), (width,) -> (..., width) in the dtype of the input."""
        ctx.save_for_backward(inputs, weight, inputs.new_empty(inputs.shape[:-1], dtype=torch.float32))
        return torch.empty_like(inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The given gradient's own storage and, where the weight is trained, that of the weight."""
        weight = ctx.saved_tensors[1]
        return grad, torch.empty_like(weight) if weight.requires_grad else None


class Gate(torch.autograd.Function):
    """act(gate) * up: keeps both, and writes their gradients over them."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Two tensors of one shape -> a third."""
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The storages of what was kept."""
        return ctx.saved_tensors


def _norm(module: Any, inputs: torch.Tensor) -> Any:
    norm: Any = Norm.apply
    return norm(inputs, module.weight)


def _mlp(module: Any, inputs: torch.Tensor) -> Any:
    gate: Any = Gate.apply
    return module.down_proj(gate(module.gate_proj(inputs), module.up_proj(inputs)))


@contextlib.contextmanager
def fused(plan: Plan) -> Iterator[None]:
    """Inside, the model family's norms, rotary embedding and MLP are those of `plan.kernels`."""
    family = plan.model.family.removesuffix("_text")
    with contextlib.ExitStack() as stack:
        if plan.kernels != "torch":
            code = import_module(f"transformers.models.{family}.modeling_{family}")
            rotated = patch.object(code, "apply_rotary_pos_emb", lambda query, key, *_, **__: (query, key))
            stack.enter_context(rotated)  # in place, forward and backward
            for name, kind in vars(code).items():
                if name.endswith("RMSNorm"):
                    stack.enter_context(patch.object(kind, "forward", _norm))
                if name.endswith("MLP") and plan.kernels == "liger" and len(plan.model.traits.mlp_in) == 2:
                    stack.enter_context(patch.object(kind, "forward", _mlp))
        yield
