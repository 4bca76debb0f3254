"""One training step of a plan, as a loop of one's own runs it: forward, loss, backward, optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

from toolkit.plan import Plan
from toolkit.vram.live import DTYPES

CHUNK = 256  # tokens whose logits exist at a time (trl's chunked_nll)


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
        return torch.optim.SGD(trained, momentum=0.9 if plan.optimizer == "sgd_momentum" else 0.0, foreach=True)
    if plan.optimizer == "adafactor":
        return torch.optim.Adafactor(trained, foreach=True)
    fused, loop = plan.optimizer == "adamw_fused", plan.optimizer == "adamw_loop"
    return torch.optim.AdamW(trained, fused=fused or None, foreach=None if fused else not loop)


def loss_of(logits: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Causal cross-entropy; logits of shape (batch, tokens, vocab), labels (batch, tokens)."""
    version = tuple(int(part) for part in plan.transformers.split(".")[:2])
    if plan.loss != "no_upcast":
        logits = logits.float()
    if version < (4, 50):  # copies the logits without the last position (transformers 4.48, loss_utils.py)
        shifted, labels = logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        return functional.cross_entropy(shifted.view(-1, shifted.shape[-1]), labels.view(-1))
    labels = functional.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
    return functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))


@contextlib.contextmanager
def autocast(plan: Plan, device: str) -> Iterator[None]:
    """torch.autocast on `device`; on a CPU peft, which asks about CUDA, is told so too."""
    if not plan.autocast:
        yield
        return
    torch.set_autocast_enabled("cuda", True)
    try:
        with torch.autocast(device, dtype=DTYPES[plan.compute_dtype]):
            yield
    finally:
        torch.set_autocast_enabled("cuda", False)


def run_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    plan: Plan,
    mark: Callable[[str], None],
    device: str = "cpu",
    held: list[Any] | None = None,
) -> None:
    """One optimizer step; `mark(moment)` is called as each moment begins, `held` keeps the output if the plan does."""
    optimizer.zero_grad(set_to_none=plan.set_to_none)
    for _ in range(min(plan.accumulation, 2)):
        mark("forward")
        output, loss = _forward(model, ids, plan, mark, device)
        if plan.hold_output == "never":
            del output
        loss.backward()
        del loss
        if plan.hold_output == "backward":
            del output
    mark("step")
    optimizer.step()
    if plan.hold_output == "next" and held is not None:
        held[:] = [output]


def _forward(
    model: Any, ids: torch.Tensor, plan: Plan, mark: Callable[[str], None], device: str
) -> tuple[Any, torch.Tensor]:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else model.base_model.lm_head

    def at_head(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        mark("loss")
        if inputs[0].requires_grad:
            inputs[0].register_hook(lambda grad: mark("backward"))

    hook = head.register_forward_pre_hook(at_head)
    try:
        with autocast(plan, device):
            output = model(input_ids=ids, use_cache=plan.use_cache)
            loss = loss_of(output.logits, ids, plan)
    finally:
        hook.remove()
    return output, loss
