"""What the calculator shows of a plan: verdict in words, picture, limits, fixes and code, as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from toolkit.calculator.chart import COLOURS, chart, part_name, parts
from toolkit.calculator.chart import moment_name as moment
from toolkit.calculator.code import code
from toolkit.calculator.words import Language, gib, number, say
from toolkit.count import count
from toolkit.plan import Plan
from toolkit.vram.fit import Fit, Fix, fit

LEAST_SHOWN = 2**20  # bytes below which a part is left out of the legend


@dataclass(frozen=True)
class View:
    """Everything to show: `html` has verdict (`sentence`), picture, legend, limits; `fixes` are buttons."""

    fit: Fit
    sentence: str
    html: str
    fixes: tuple[tuple[str, Fix], ...]
    code: str


def view(plan: Plan, language: Language = "pt") -> View:
    """What to show of `plan` on the card `plan.gpu`, in the language."""
    result = fit(plan, plan.gpu)
    html = "".join(
        [
            _verdict(result, language),
            chart(result.memory, result.gpu, language),
            _legend(result, language),
            _limits(result, language),
        ]
    )
    fixes = tuple((f"{fix.label(language)}: −{gib(fix.saves, language)}", fix) for fix in result.fixes)
    return View(result, sentence(result, language), html, fixes, code(plan))


def sentence(result: Fit, language: Language) -> str:
    """The verdict in one sentence, with what is left over or missing."""
    return say(
        result.verdict,
        language,
        gpu=result.gpu.name,
        margin=gib(result.margin.value, language),
        missing=gib(-(result.margin.low if result.verdict == "tight" else result.margin.value), language),
    )


def _verdict(result: Fit, language: Language) -> str:
    process, counted = result.memory.process, count(result.plan)
    facts = [
        say(
            "peak",
            language,
            value=gib(process.value, language),
            low=gib(process.low, language),
            high=gib(process.high, language),
            memory=gib(result.gpu.memory, language),
            moment=moment(result.memory.peak_moment, language),
        ),
        say(
            "trained",
            language,
            trainable=number(counted.trainable, language),
            total=number(counted.total, language),
            percent=number(counted.percentage, language, 3 if counted.percentage < 1 else 1),
        ),
    ]
    if not result.gpu.bf16 and "bf16" in (result.plan.dtype, result.plan.compute_dtype):
        facts.append(say("no_bf16", language, gpu=result.gpu.name))
    mark = {"fits": "✓", "tight": "!", "exceeds": "✕"}[result.verdict]
    return (
        f'<div class="vram-verdict {result.verdict}">'
        f'<span class="vram-mark" aria-hidden="true">{mark}</span>'
        f"<div><strong>{escape(sentence(result, language))}</strong>"
        f"<p>{escape(' '.join(facts))}</p></div></div>"
    )


def _legend(result: Fit, language: Language) -> str:
    shown = [(part, size) for part, size in parts(result.memory).items() if size >= LEAST_SHOWN]
    items = "".join(
        f'<li><i style="background:{COLOURS[part]}"></i><span>{escape(part_name(part, language))}</span>'
        f"<b>{gib(size, language)}</b></li>"
        for part, size in shown
    )
    return f'<ul class="vram-legend" aria-label="{escape(say("at_peak", language))}">{items}</ul>'


def _limits(result: Fit, language: Language) -> str:
    limits = [
        (say(name, language), number(value, language) if value else say("nothing", language))
        for name, value in result.largest.items()
    ]
    model = (result.largest_model or say("nothing", language)).rpartition("/")[2]
    limits.append((say("largest_model", language), model))
    limits.append((say("smallest_gpu", language), result.smallest_gpu or say("nothing", language)))
    items = "".join(f"<li><span>{escape(name)}</span><b>{escape(value)}</b></li>" for name, value in limits)
    return f'<h4>{escape(say("limits", language))}</h4><ul class="vram-limits">{items}</ul>'
