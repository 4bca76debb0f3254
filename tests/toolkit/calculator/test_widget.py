"""The notebook widget, its inputs driven from Python (a browser drives them in test_in_browser)."""

import pytest

from toolkit.calculator import calculator
from toolkit.calculator.form import FIELDS
from toolkit.methods import LoRA, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan


@pytest.fixture
def shown():
    return calculator()


def buttons(shown):
    return [child for child in shown.fixes.children if hasattr(child, "click")]


def test_opens_on_the_plan_that_it_is_given():
    plan = Plan(Architecture.from_config("Tucano-160m"), QLoRA(rank=4), batch=3, gpu="RTX 4090")
    assert calculator(plan).plan == plan
    assert calculator(plan).inputs["gpu"].value == "RTX 4090"


def test_an_input_changes_the_plan_and_the_picture(shown):
    before = shown.shown.value
    shown.inputs["batch"].value = "16"
    assert shown.plan.batch == 16 and shown.shown.value != before and "batch=16" in shown.code.value
    shown.inputs["method"].value = "QLoRA"
    assert isinstance(shown.plan.method, QLoRA)
    assert shown.inputs["double_quant"].layout.display is None
    shown.inputs["method"].value = "Full"
    assert shown.inputs["rank"].layout.display == "none"


def test_nonsense_is_shown_in_place_and_the_next_value_works(shown):
    shown.inputs["batch"].value = "<b>0"
    assert "&lt;b&gt;0" in shown.error.value and shown.inputs["batch"].value == "<b>0"
    assert shown.plan.batch == 4
    shown.inputs["batch"].value = "2"
    assert shown.error.value == "" and shown.plan.batch == 2


def test_a_fix_is_one_click_away(shown):
    shown.inputs["batch"].value = "32"
    assert "exceeds" in shown.shown.value
    first = buttons(shown)[0]
    first.click()
    assert "verdict fits" in shown.shown.value and not buttons(shown)
    assert shown.inputs["batch"].value == str(shown.plan.batch)


def test_english_by_a_switch(shown):
    shown.language.value = "en"
    assert shown.inputs["batch"].description == "Batch (sequences)"
    assert "on the T4" in shown.shown.value or "for the T4" in shown.shown.value


def test_every_field_has_an_input_and_the_advanced_ones_are_folded(shown):
    assert set(shown.inputs) == {field.name for field in FIELDS}
    assert shown.advanced.selected_index is None


def test_only_core_widgets_are_used(shown):
    models = {type(widget).__module__.partition(".")[0] for widget in [shown.widget, *shown.inputs.values()]}
    assert models == {"ipywidgets"}


def test_it_shows_itself(shown, capsys):
    assert isinstance(shown.plan.method, LoRA)
    shown._ipython_display_()
