"""The calculator in a terminal: a table in words, or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from toolkit.calculator.chart import moment_name, part_name, parts
from toolkit.calculator.view import sentence
from toolkit.calculator.words import Language, gib, number, say
from toolkit.count import count
from toolkit.vram.fit import Fit
from toolkit.vram.memory import GIB, Memory

COLOURS = {"fits": "green", "tight": "yellow", "exceeds": "red"}


def show(result: Fit, language: Language = "pt") -> None:
    """Print the verdict, what is on the card at the peak, the limits and the fixes."""
    console = Console(highlight=False)
    console.print(f"[bold {COLOURS[result.verdict]}]{sentence(result, language)}[/]")
    console.print(_parts(result, language))
    limits = [f"{say(name, language)} {number(value, language)}" for name, value in result.largest.items()]
    models = [
        f"{say('largest_model', language)}: {result.largest_model or say('nothing', language)}",
        f"{say('smallest_gpu', language)}: {result.smallest_gpu or say('nothing', language)}",
    ]
    console.print(f"{say('limits', language)}: {' · '.join([*limits, *models])}")
    for key, enough in (("fixes", True), ("helps", False)):
        group = [fix for fix in result.fixes if (fix.verdict == "fits") == enough]
        if group:
            console.print(f"[bold]{say(key, language)}[/]")
        for fix in group:
            console.print(f"  {fix.label(language)}: -{gib(fix.saves, language)}")


def _parts(result: Fit, language: Language) -> Table:
    memory, counted = result.memory, count(result.plan)
    peak = moment_name(memory.peak_moment, language)
    kind = type(result.plan.method).__name__
    title = f"{result.plan.model.name} · {kind} · {say('at_peak', language)} ({peak})"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(say("part", language))
    table.add_column("GiB", justify="right")
    for part, size in parts(memory).items():
        if size:
            table.add_row(part_name(part, language), number(size / GIB, language, 2))
    table.add_section()
    low, value, high = (number(size / GIB, language, 2) for size in memory.process)
    table.add_row(say("total", language), f"{value}  ({low} – {high})")
    table.caption = say(
        "trained",
        language,
        trainable=number(counted.trainable, language),
        total=number(counted.total, language),
        percent=number(counted.percentage, language, 3),
    )
    return table


def show_shared(memory: Memory, cards: int, strategy: str, language: Language = "pt") -> None:
    """Print what each of several cards needs."""
    low, value, high = (gib(size, language) for size in memory.process)
    Console(highlight=False).print(
        say("shared", language, gpus=str(cards), strategy=strategy, value=value, low=low, high=high)
    )


def as_json(result: Fit, shared: Memory | None = None) -> str:
    """The same as JSON: sizes in bytes, the plan as `Plan.from_dict` takes it."""
    described: dict[str, Any] = {
        "plan": result.plan.to_dict(),
        "gpu": asdict(result.gpu),
        "verdict": result.verdict,
        "margin": result.margin._asdict(),
        "memory": result.memory.to_dict(),
        "largest": {**result.largest, "model": result.largest_model},
        "smallest_gpu": result.smallest_gpu,
        "fixes": [
            {
                "changes": fix.label("en"),
                "saves": fix.saves,
                "verdict": fix.verdict,
                "plan": fix.plan.to_dict(),
            }
            for fix in result.fixes
        ],
    }
    if shared:
        described["each_gpu"] = shared.to_dict()
    return json.dumps(described, ensure_ascii=False, indent=2)
