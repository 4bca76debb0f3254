"""One training step of a plan, as a loop of one's own runs it: forward, loss, backward, optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from toolkit.methods import Adapter
from toolkit.plan import Plan
from toolkit.vram.live import DTYPES

CHUNK = 256  # tokens whose logits exist at a time (trl's chunked_nll)
ANGLES_UNTIL = (5, 19)  # transformers: before it a product makes the rotary embedding's angles


def optimizer_of(model: torch.nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer over the model's trained parameters."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan.optimizer.startswith("adamw_8bit") or plan.optimizer.startswith("paged"):
        import bitsandbytes.optim as bnb

        names = {
            "adamw_8bit": bnb.AdamW8bit,
            "paged_adamw_8bit": bnb.PagedAdamW8bit,
            "paged_adamw_32bit": bnb.PagedAdamW32bit,
        }
        return names[plan.optimizer](trained)  # type: ignore[no-any-return]
    if plan.optimizer.startswith("sgd"):
        return torch.optim.SGD(
            trained, momentum=0.9 if plan.optimizer == "sgd_momentum" else 0.0, foreach=True
        )
    if plan.optimizer == "adafactor":
        return torch.optim.Adafactor(trained)
    fused, loop = plan.optimizer == "adamw_fused", plan.optimizer == "adamw_loop"
    return torch.optim.AdamW(trained, fused=fused or None, foreach=None if fused else not loop)


class InPlaceLoss(torch.autograd.Function):
    """Cross-entropy by a Triton kernel: keeps the logits only, and writes their gradient over them."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(tokens, vocab), (tokens,) -> a number."""
        ctx.save_for_backward(logits)  # let go as soon as the gradient is out
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The logits' storage, which holds their gradient now."""
        (logits,) = ctx.saved_tensors
        return logits, None


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The mean loss of logits of shape (batch, tokens, vocab)."""
    kernel: Any = InPlaceLoss.apply if plan.loss == "in_place" else functional.cross_entropy
    loss: torch.Tensor = kernel(logits.view(-1, logits.shape[-1]), labels.view(-1))
    return loss


def loss_of(logits: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Causal cross-entropy; logits of shape (batch, tokens, vocab), labels (batch, tokens)."""
    if plan.loss != "no_upcast":
        logits = logits.float()
    if plan.transformers_version < (
        4,
        50,
    ):  # copies the logits without the last position (transformers 4.48, loss_utils.py)
        shifted, labels = logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        return cross_entropy(shifted, labels, plan)
    labels = functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
    return cross_entropy(logits, labels, plan)


def autocast(plan: Plan, device: str) -> contextlib.AbstractContextManager[Any]:
    """torch.autocast on `device`, where the plan has it."""
    if not plan.autocast:
        return contextlib.nullcontext()
    return torch.autocast(device, dtype=DTYPES[plan.compute_dtype])


def run_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    plan: Plan,
    mark: Callable[[str], None],
    device: str = "cpu",
    held: list[Any] | None = None,
) -> None:
    """One optimizer step; `mark(moment)` is called as each moment begins, `held` keeps the output."""
    optimizer.zero_grad(set_to_none=plan.set_to_none)
    for _ in range(min(plan.accumulation, 2)):
        mark("forward")
        output, loss = _forward(model, ids, plan, mark, device)
        if plan.hold_output == "next" and held is not None:
            held[:] = [output]
        if plan.hold_output in ("never", "next"):
            del output
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        if plan.hold_output == "backward":
            del output
    mark("step")
    optimizer.step()


class FusedLoss(torch.autograd.Function):
    """Liger's fused linear cross-entropy: logits and gradients by chunks, in the forward already."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(tokens, width), (vocab, width), (tokens,) -> a number."""
        tokens, width = hidden.shape
        chunks = -(-weight.shape[0] // width)
        size = 1 << (-(-tokens // chunks) - 1).bit_length()
        gradient = torch.zeros_like(hidden)
        weight_gradient = torch.zeros_like(weight) if weight.requires_grad else None
        for start in range(0, tokens, size):
            logits = hidden[start : start + size] @ weight.t()
            gradient[start : start + size] = logits @ weight
            if weight_gradient is not None:
                weight_gradient += logits.t() @ hidden[start : start + size]
        ctx.save_for_backward(gradient, weight_gradient)
        return hidden.new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Give out what the forward computed."""
        return *ctx.saved_tensors, None


def headless_loss(hidden: torch.Tensor, head: Any, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Cross-entropy that never holds all logits: fused, or by chunks that are recomputed in the backward."""
    flat: Any = hidden[:, :-1].reshape(-1, hidden.shape[-1])
    labels, weight = labels[:, 1:].reshape(-1), head.weight
    if plan.loss == "fused":
        fused: Any = FusedLoss.apply
        return fused(flat, weight.to(flat.dtype), labels)  # type: ignore[no-any-return]

    def chunk(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional.linear(states, weight).float(), targets, reduction="sum")

    parts = zip(torch.split(flat, CHUNK), torch.split(labels, CHUNK), strict=True)  # type: ignore[no-untyped-call]
    losses = [checkpoint(chunk, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(losses).sum() / len(labels)


def _inside(model: Any, plan: Plan) -> Any:
    """The transformers model in peft's or the toolkit's wrapper (which lesson 07's graded kernel hides)."""
    if isinstance(plan.method, Adapter):
        return model.base_model
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _angles(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A forward's first product, and so where cuBLAS takes its workspace."""
    positions = kwargs.get("position_ids", args[-1]).float()
    with torch.autocast(positions.device.type, enabled=False):
        _ = module.inv_freq.float()[None, :, None].expand(len(positions), -1, 1) @ positions[:, None]


def _forward(
    model: Any, ids: torch.Tensor, plan: Plan, mark: Callable[[str], None], device: str
) -> tuple[Any, torch.Tensor]:
    base = _inside(model, plan)
    head = base.get_output_embeddings()

    def at_head(_: Any, inputs: tuple[Any, ...]) -> None:
        mark("loss")
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda grad: mark("backward"))

    def loss(logits: torch.Tensor, labels: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        headless = plan.loss in ("chunked", "fused")
        return headless_loss(logits, head, labels, plan) if headless else loss_of(logits, labels, plan)

    hooks = [head.register_forward_pre_hook(at_head)]
    if plan.loss in ("chunked", "fused"):
        head.forward = lambda hidden: hidden
    elif plan.transformers_version < (4, 46):  # the model itself made its logits fp32
        hooks.append(head.register_forward_hook(lambda module, inputs, logits: logits.float()))
    if plan.transformers_version < ANGLES_UNTIL:
        rotary = (module for module in base.modules() if hasattr(module, "inv_freq"))
        hooks += [module.register_forward_pre_hook(_angles, with_kwargs=True) for module in rotary]
    base.loss_function = loss
    try:
        with autocast(plan, device):
            mask = torch.ones_like(ids) if plan.padding else None
            output = model(input_ids=ids, attention_mask=mask, labels=ids, use_cache=plan.use_cache)
    finally:
        head.__dict__.pop("forward", None)
        for hook in hooks:
            hook.remove()
    if plan.loss in ("chunked", "fused"):
        output["logits"] = None  # they give none
    return output, output.loss
