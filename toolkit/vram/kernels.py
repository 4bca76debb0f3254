"""What CUDA's kernels keep and take where a CPU's do otherwise: attention, softmax, autocast, 4 bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional

from toolkit.plan import Plan
from toolkit.vram.attention import attention_kernel, lacks_grouped_products, repeats_keys
from toolkit.vram.live import DTYPES

aten = torch.ops.aten
DEQUANTIZED = 512  # rows above which a 4-bit product makes the whole weight first (narrow ones on A100: 1536)
UPCAST = ("layer_norm", "cross_entropy", "softmax", "log_softmax")  # autocast runs them in fp32


class Flash(torch.autograd.Function):
    """Flash attention 2 as in flash_api.cpp: keeps q, k, v (not repeated), the output and its log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(batch, heads, length, width) each; keys and values may have fewer heads."""
        batch, heads, length, width = query.shape
        out = query.new_empty(batch, length, heads, width).transpose(1, 2)
        ctx.save_for_backward(
            query, key, value, out, query.new_empty(batch, heads, length, dtype=torch.float32)
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients and, while they are made, sums in fp32."""
        query, key, value, *_ = ctx.saved_tensors  # the kernel reads the others too
        batch, heads, length, width = query.shape
        rounded = -(-length // 128) * 128
        workspaces = [
            query.new_empty(batch, heads, rounded, dtype=torch.float32),
            query.new_empty(batch, rounded, heads, -(-width // 32) * 32, dtype=torch.float32),
        ]
        grads = [torch.empty_like(tensor) for tensor in (query, key, value)]
        if key.shape[1] != heads:  # gradients of repeated heads, then their sum
            workspaces += [query.new_empty(batch, key.shape[2], heads, width) for _ in range(2)]
        del workspaces
        return tuple(grads)


class Efficient(torch.autograd.Function):
    """Memory-efficient attention (mem_eff_attention/kernel_backward.h): keeps q, k, v, out, log-sum-exp."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """(batch, heads, length, width) each; the bias is kept too."""
        batch, heads, length, width = query.shape
        out = query.new_empty(batch, length, heads, width).transpose(1, 2)
        sums = query.new_empty(batch, heads, -(-length // 32) * 32, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums, bias)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients and, while they are made, sums in fp32."""
        query, key, value, *_ = ctx.saved_tensors
        batch, heads, length, width = query.shape
        grads = [torch.empty_like(tensor) for tensor in (query, key, value)]
        workspaces = [query.new_empty(batch, heads, length, dtype=torch.float32)]
        if (
            query.dtype != torch.float32
        ):  # sums in fp32: of dQ always, of dK and dV where a head outgrows registers
            accumulators = 1 if width <= 64 else 3
            workspaces.append(query.new_empty(accumulators, batch, heads, length, width, dtype=torch.float32))
        del workspaces
        return *grads, None


def attention(plan: Plan) -> Callable[..., Any]:
    """The kernel that `scaled_dot_product_attention` picks on the plan's card, as one function of its own."""

    flash: Any = Flash.apply
    efficient: Any = Efficient.apply

    def scaled_dot_product_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        if torch.is_autocast_enabled("cpu"):
            query, key, value = (t.to(torch.get_autocast_dtype("cpu")) for t in (query, key, value))
        elif plan.attention == "flash" and query.dtype == torch.float32:
            # the package's wrapper (integrations/flash_attention.py, get_target_dtype)
            query, key, value = (t.to(DTYPES[plan.dtype]) for t in (query, key, value))
        kernel = attention_kernel(plan)
        if key.shape[1] != query.shape[1] and repeats_keys(plan):
            repeats = query.shape[1] // key.shape[1]
            key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
        if kernel == "flash" and plan.attention == "flash" and plan.padding:
            # the package's wrapper takes padding out and puts it back (_upad_input, pad_input)
            return flash(query.clone(), key.clone(), value.clone()).clone()
        if kernel == "flash":
            return flash(query, key, value)
        if kernel == "math":  # sdpa is on autocast's list: what it calls is not
            with torch.autocast("cpu", enabled=False):
                return aten._scaled_dot_product_attention_math(
                    query, key, value, attn_mask, dropout_p, is_causal, enable_gqa=True
                )[0]
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # convert_boolean_attn_mask
            attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
        return efficient(query, key, value, attn_mask)

    return scaled_dot_product_attention


def temporaries(func: Any, args: tuple[Any, ...]) -> tuple[int, int]:
    """Bytes that CUDA's kernel of an operator takes inside itself: before its result, and after it."""
    if func is aten._softmax_backward_data.default:  # SoftMax.cu multiplies gradient and output
        return 0, int(args[0].numel() * args[0].element_size())
    if func.name() == "bitsandbytes::gemm_4bit":
        return _dequantized(*args[:5]), 0
    return 0, 0


def _dequantized(inputs: torch.Tensor, packed: Any, shape: Any, absmax: torch.Tensor, block: int) -> int:
    """Bytes of a dequantized weight (and scales), which bitsandbytes makes for many rows.

    Its thresholds (backends/cuda/ops.py) go by card and shape; a training step's rows are above nearly all.
    """
    weights, blocks = shape[0] * shape[1], shape[0] * shape[1] // block
    nested = 2 * 4 * blocks if absmax.numel() < blocks else 0
    rows = inputs.numel() // inputs.shape[-1]
    return weights * inputs.element_size() + nested if rows > DEQUANTIZED else 0


@contextlib.contextmanager
def cuda_operators() -> Iterator[None]:
    """CUDA's own choices of dtype: autocast's fp32 list, softmax from fp16 to fp32 without a copy, and
    dropout's mask of bytes. Patches, not a mode: a mode is off in autograd's recomputation."""
    with contextlib.ExitStack() as stack:
        for name in UPCAST:
            stack.enter_context(patch.object(functional, name, _upcast(getattr(functional, name))))
        stack.enter_context(patch.object(functional, "softmax", _softmax(functional.softmax)))
        stack.enter_context(patch.object(functional, "dropout", _dropout))
        yield


def _upcast(function: Callable[..., Any]) -> Callable[..., Any]:
    def in_fp32(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args = tuple(_float(arg) for arg in args)
            kwargs = {key: _float(value) for key, value in kwargs.items()}
        return function(*args, **kwargs)

    return in_fp32


def _softmax(function: Callable[..., Any]) -> Callable[..., Any]:
    def softmax(inputs: torch.Tensor, dim: int, dtype: torch.dtype | None = None, **others: Any) -> Any:
        if dtype == torch.float32 and inputs.dtype == torch.float16:
            return torch._softmax(inputs, dim, True)
        return function(inputs, dim=dim, dtype=dtype, **others)

    return softmax


def _dropout(inputs: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return torch.native_dropout(inputs, p, True)[0] if training and p > 0 else inputs


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


class GroupedProduct(torch.autograd.Function):
    """A mixture's experts over sorted tokens; `fallback` is transformers' own loop where the card has no
    kernel, an operator that keeps its input and makes the weight's gradient whether or not it is trained."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor, fallback: bool
    ) -> torch.Tensor:
        """(tokens, width), (experts, width, outputs) -> (tokens, outputs)."""
        ctx.fallback = fallback or weight.requires_grad
        ctx.save_for_backward(inputs if ctx.fallback else None, weight)
        return inputs.new_empty(len(inputs), weight.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Gradients of what has one."""
        weight = ctx.saved_tensors[1]
        inputs = grad.new_empty(len(grad), weight.shape[1])
        trained = torch.empty_like(weight) if ctx.fallback else None
        return inputs, trained if weight.requires_grad else None, None, None


@contextlib.contextmanager
def cuda_kernels(plan: Plan) -> Iterator[None]:
    """Inside, operators on CPU tensors keep and free what CUDA's would."""
    from transformers.integrations import moe

    fused, fallback = moe._grouped_mm, lacks_grouped_products(plan)

    def grouped(inputs: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor) -> Any:
        if weight.dtype == torch.bfloat16 and not fallback:
            return fused(inputs, weight, offs)
        product: Any = GroupedProduct.apply
        return product(inputs.to(weight.dtype), weight, offs, fallback)

    with contextlib.ExitStack() as stack:
        for patched in (
            patch.object(functional, "scaled_dot_product_attention", attention(plan)),
            patch.object(torch.Tensor, "item", lambda tensor: 1.0),  # optimizers read norms and steps
            patch.object(torch, "is_autocast_enabled", _autocast_enabled),
            patch.object(moe, "_grouped_mm", grouped),
            unpacked(),
            _packaged(plan),
            _products(plan),
            cuda_operators(),
        ):
            stack.enter_context(patched)
        yield


def _autocast_enabled(device: str = "cpu", asks: Any = torch.is_autocast_enabled) -> bool:
    """What peft asks about CUDA, which a CPU build answers with no."""
    return bool(asks(device))


def unpacked() -> Any:
    """transformers looks at positions' values to see that nothing is packed; fake tensors have none."""
    from transformers import masking_utils

    return patch.object(masking_utils, "find_packed_sequence_indices", lambda positions: None)


@contextlib.contextmanager
def _packaged(plan: Plan) -> Iterator[None]:
    """With the flash attention package transformers makes no square mask, and repeats no keys."""
    from transformers import masking_utils
    from transformers.integrations import sdpa_attention

    if plan.attention != "flash":
        yield
        return
    masks = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping
    with (
        patch.dict(masks, {"sdpa": lambda *_, attention_mask=None, **__: attention_mask}),
        patch.object(sdpa_attention, "use_gqa_in_sdpa", lambda *_: True),
    ):
        yield


def _products(plan: Plan) -> Any:
    """bitsandbytes before 0.43.2 kept the input of each 4-bit product (its pull request 1270)."""
    if not plan.quantized or plan.bitsandbytes_version >= (0, 43, 2):
        return contextlib.nullcontext()
    from bitsandbytes.autograd._functions import MatMul4Bit

    forward = MatMul4Bit.forward

    def keeping(ctx: Any, inputs: torch.Tensor, *others: Any) -> Any:
        ctx.inputs = inputs
        return forward(ctx, inputs, *others)

    return patch.object(MatMul4Bit, "forward", staticmethod(keeping))
