"""What is shown: the picture is to scale, the words fit the verdict, text from outside is escaped."""

import re

import pytest

from toolkit.calculator.chart import COLOURS, LEFT, chart, parts
from toolkit.calculator.view import view
from toolkit.calculator.words import WORDS, gib, number
from toolkit.methods import Full, LoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.vram.estimate import estimate
from toolkit.vram.fit import fit
from toolkit.vram.gpus import gpu
from toolkit.vram.memory import MOMENTS, PARTS

SMALL = Plan(Architecture.from_config("SmolLM2-135M"), LoRA(), gpu="T4")
LARGE = Plan(Architecture.from_config("Qwen2.5-7B"), Full(), gpu="T4")


def bars(svg):
    """(left, top, width) of every bar."""
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', svg)
    return [tuple(map(float, numbers)) for numbers in found]


@pytest.mark.parametrize("plan", [SMALL, LARGE])
def test_bars_are_to_the_cards_scale(plan):
    memory, card = estimate(plan), gpu("T4")
    svg = chart(memory, card, "pt")
    line = float(re.search(r'class="limit" x1="([\d.]+)"', svg)[1])
    scale = (line - LEFT) / card.memory
    widths = {}
    for _, top, width in bars(svg):
        widths[top] = widths.get(top, 0) + width
    for moment, width in zip(MOMENTS, widths.values(), strict=True):
        shown = memory.process.value if moment == memory.peak_moment else memory.total(moment)
        assert width == pytest.approx(shown * scale, abs=1)


def test_a_plan_too_large_crosses_the_line():
    svg = chart(estimate(LARGE), gpu("T4"), "pt")
    line = float(re.search(r'class="limit" x1="([\d.]+)"', svg)[1])
    assert max(left + width for left, _, width in bars(svg)) > line


@pytest.mark.parametrize("batch", [1, 10**3, 10**9, 2**31 - 1])
def test_the_scale_has_a_few_marks_at_any_size(batch):
    svg = chart(estimate(SMALL.change(batch=batch)), gpu("T4"), "pt")
    assert 2 <= svg.count('class="grid"') <= 9


def test_parts_add_up_to_what_nvidia_smi_shows():
    for plan in (SMALL, LARGE):
        assert sum(parts(estimate(plan)).values()) == estimate(plan).process.value


def test_every_part_has_a_colour_and_words_in_both_languages():
    assert set(PARTS) <= set(COLOURS)
    assert all(pt and en for pt, en in WORDS.values())
    for key, (pt, en) in WORDS.items():
        assert sorted(re.findall(r"{\w+}", pt)) == sorted(re.findall(r"{\w+}", en)), key


@pytest.mark.parametrize(
    ("plan", "pt", "en"),
    [(SMALL, "Cabe na T4", "It fits on the T4"), (LARGE, "Não cabe na T4", "Too large for the T4")],
)
def test_verdict_in_words(plan, pt, en):
    assert pt in view(plan, "pt").html and en in view(plan, "en").html


def test_fixes_say_what_they_save():
    labels = [label for label, _ in view(LARGE).fixes]
    assert labels and all(re.search(r": −[\d.]+(,\d+)? [GM]iB$", label) for label in labels)
    assert len(labels) == len(fit(LARGE, "T4").fixes)


def test_a_models_name_is_escaped():
    model = Architecture("llama", 64, 2, 4, 2, 16, 128, 1000, 256, name="<img src=x onerror=alert(1)>")
    shown = view(Plan(model, LoRA(), seq_len=8, gpu="T4"))
    assert "<img" not in shown.html and "<img" in shown.code


def test_numbers_in_both_languages():
    assert number(1234567.891, "pt", 2) == "1.234.567,89" and number(1234567.891, "en", 2) == "1,234,567.89"
    assert (
        gib(7.1 * 2**30, "pt") == "7,1 GiB"
        and gib(2**25, "en") == "32 MiB"
        and gib(2**29, "pt") == "0,50 GiB"
    )
