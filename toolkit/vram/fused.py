"""What Triton's RMSNorm, rotary embedding, SwiGLU and LoRA keep (Unsloth, fms-acceleration, Liger-Kernel).

The stand-ins allocate what those kernels allocate and compute nothing. Sources: fms-acceleration,
`kernels/unsloth/rms_layernorm.py`, `rope_embedding.py` and `fused_ops/unsloth_lora/bnb/fast_lora.py`;
Liger-Kernel, `ops/rms_norm.py`, `rope.py` and `swiglu.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch

from toolkit.plan import Plan
from toolkit.vram.closed_form.route import route_of


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


class Update(torch.autograd.Function):
    """W x + B A x as one: keeps the input of a block, and each module's after dropout."""

    @staticmethod
    def forward(
        ctx: Any, module: Any, keeps: bool, inputs: torch.Tensor, *trained: torch.Tensor
    ) -> torch.Tensor:
        """(..., inputs) -> (..., outputs); a dequantized weight, then the update, come and go."""
        drops = any(isinstance(dropout, torch.nn.Dropout) for dropout in module.lora_dropout.values())
        ctx.save_for_backward(
            inputs if keeps else None, torch.empty_like(inputs) if drops else None, *trained
        )
        ctx.module = module
        _weight(module, inputs)
        outputs = inputs.new_empty(*inputs.shape[:-1], module.out_features)
        torch.empty_like(outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The gradients of the input, and of A and B."""
        _weight(ctx.module, grad)
        inputs = grad.new_empty(*grad.shape[:-1], ctx.module.in_features)
        return None, None, inputs, *map(torch.empty_like, ctx.saved_tensors[2:])


def _weight(module: Any, like: torch.Tensor) -> None:
    if hasattr(module.get_base_layer(), "quant_state"):
        like.new_empty(module.out_features, module.in_features)


def _norm(module: Any, inputs: torch.Tensor) -> Any:
    norm: Any = Norm.apply
    return norm(inputs, module.weight)


def _mlp(module: Any, inputs: torch.Tensor) -> Any:
    gate: Any = Gate.apply
    return module.down_proj(gate(module.gate_proj(inputs), module.up_proj(inputs)))


def _update(module: Any, keeps: bool, inputs: torch.Tensor) -> Any:
    update: Any = Update.apply
    trained = [part[module.active_adapters[0]].weight for part in (module.lora_A, module.lora_B)]
    return update(module, keeps, inputs, *trained)


@contextlib.contextmanager
def fused(plan: Plan, model: Any) -> Iterator[None]:
    """Inside, the family's norms, rotary embedding and MLP, and the model's LoRA, are `plan.kernels`'."""
    family = plan.model.family.removesuffix("_text")
    route = route_of(plan)
    updated = [linear for linear in plan.model.linears() if route.fuses(linear.name)]
    with contextlib.ExitStack() as stack:
        if plan.kernels != "torch":
            code = import_module(f"transformers.models.{family}.modeling_{family}")
            rotated = patch.object(code, "apply_rotary_pos_emb", lambda query, key, *_, **__: (query, key))
            stack.enter_context(rotated)  # in place, forward and backward
            gates = plan.kernels == "liger" or any(linear.part == "mlp" for linear in updated)
            for name, kind in vars(code).items():
                if name.endswith("RMSNorm"):
                    stack.enter_context(patch.object(kind, "forward", _norm))
                if name.endswith("MLP") and gates and len(plan.model.traits.mlp_in) == 2:
                    stack.enter_context(patch.object(kind, "forward", _mlp))
        ends = (
            plan.model.traits.out,
            plan.model.traits.mlp_out,
        )  # their inputs are kept before them, or made anew
        for name, module in model.named_modules():
            for linear in updated:
                if hasattr(module, "lora_A") and name.endswith("." + linear.name):
                    module.forward = partial(_update, module, linear.name not in ends)
        yield
