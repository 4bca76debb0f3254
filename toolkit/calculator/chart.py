"""The picture: what is on the card at each moment of a training step, against the card's memory, as SVG."""

from __future__ import annotations

from html import escape
from math import floor, log10

from toolkit.calculator.words import Language, gib, number, say
from toolkit.vram.gpus import GPU
from toolkit.vram.memory import GIB, MOMENTS, Memory

# One hue a family of parts: the model blue, the optimizer orange, the activations green, the rest grey.
COLOURS = {
    "weights": "#1f5fa8",
    "quant_constants": "#5b93d1",
    "adapters": "#9cc3ec",
    "gradients": "#b3470f",
    "optimizer_states": "#e07b2e",
    "optimizer_temporaries": "#f3b27a",
    "activations": "#1c7a4f",
    "recompute": "#52b184",
    "logits": "#a9dcc0",
    "workspaces": "#6b7280",
    "batch": "#9aa1ab",
    "allocator": "#c3c8cf",
    "context": "#dde0e5",
}
WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 640, 116, 16, 34, 22, 34


def parts(memory: Memory) -> dict[str, int]:
    """Bytes at the peak by part, up to what nvidia-smi shows: the allocator's slack and the context last."""
    return {
        **memory.peak,
        "allocator": memory.reserved.value - memory.allocated.value,
        "context": memory.process.value - memory.reserved.value,
    }


def part_name(part: str, language: Language) -> str:
    """The part in words."""
    return say("batch_tensors" if part == "batch" else part, language)


def moment_name(moment: str, language: Language) -> str:
    """The moment in words."""
    return say("loss_moment" if moment == "loss" else moment, language)


def chart(memory: Memory, card: GPU, language: Language) -> str:
    """A figure (SVG) of one stacked bar a moment on a scale of GiB, and the card's memory as a line."""
    span = max(memory.process.high, card.memory) * 1.04
    scale = (WIDTH - LEFT - RIGHT) / span
    height = TOP + ROW * len(MOMENTS) + 30
    bars = [_row(memory, moment, TOP + ROW * i, scale, language) for i, moment in enumerate(MOMENTS)]
    label = say("by_moment", language)
    return (
        f'<div class="vram-figure"><svg class="vram-chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join([_axis(span, scale, height, language), *bars, _limit(card, scale, height, language)])}"
        "</svg></div>"
    )


def _row(memory: Memory, moment: str, top: int, scale: float, language: Language) -> str:
    peak = moment == memory.peak_moment
    sizes = parts(memory) if peak else memory.moments[moment]
    left, bars = float(LEFT), []
    for part, size in sizes.items():
        width = size * scale
        title = f"{part_name(part, language)}: {gib(size, language)}"
        bars.append(
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[part]}">'
            f"<title>{escape(title)}</title></rect>"
        )
        left += width
    name = f'<text class="{"peak" if peak else "name"}" x="{LEFT - 8}" y="{top + 15}" text-anchor="end">'
    whisker = _whisker(memory, top, scale) if peak else ""
    return f"{name}{escape(moment_name(moment, language))}</text>{''.join(bars)}{whisker}"


def _whisker(memory: Memory, top: int, scale: float) -> str:
    low, high, middle = LEFT + memory.process.low * scale, LEFT + memory.process.high * scale, top + BAR / 2
    return (
        f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 5}v10M{high:.1f} '
        f'{middle - 5}v10"/>'
    )


def _axis(span: float, scale: float, height: int, language: Language) -> str:
    power = 10.0 ** floor(log10(span / GIB / 7))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if span / GIB / step <= 7)
    marks = []
    for i in range(int(span / GIB / step) + 1):
        x = LEFT + i * step * GIB * scale
        text = number(i * step, language, 0 if step >= 1 else 1 if step >= 0.1 else 2)
        marks.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 26}"/>'
            f'<text class="tick" x="{x:.1f}" y="{height - 10}" text-anchor="middle">{text}</text>'
        )
    unit = f'<text class="tick" x="{LEFT - 8}" y="{height - 10}" text-anchor="end">GiB</text>'
    return "".join(marks) + unit


def _limit(card: GPU, scale: float, height: int, language: Language) -> str:
    x = LEFT + card.memory * scale
    anchor, shift = ("end", -6) if x > WIDTH / 2 else ("start", 6)
    label = escape(f"{card.name}: {gib(card.memory, language)}")
    return (
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{height - 24}"/>'
        f'<text class="limit-name" x="{x + shift:.1f}" y="18" text-anchor="{anchor}">{label}</text>'
    )
