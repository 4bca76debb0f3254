"""The form and its session: what a field shows is what it sets, and nonsense leaves the plan as it was."""

import json

import pytest

from toolkit import catalogue
from toolkit.calculator.form import FIELDS, edit
from toolkit.calculator.session import Session, first_plan
from toolkit.methods import IA3, LoRA, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.presets import PRESETS
from toolkit.vram.gpus import gpus

KINDS = ("Full", "LoRA", "QLoRA", "PrefixTuning", "PromptTuning", "IA3", "Adapter")


@pytest.mark.parametrize("kind", KINDS)
def test_setting_a_field_to_what_it_shows_changes_nothing(kind):
    plan = edit(first_plan(), "method", kind)
    for field in FIELDS:
        if field.shown(plan):
            assert edit(plan, field.name, field.read(plan)) == plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["gpt2", "pythia-160m", "gemma-2-2b", "Phi-3.5-mini-instruct", "Mixtral-8x7B-v0.1"]
)
def test_every_method_on_every_family(name, kind):
    session = Session()
    session.edit("method", kind)
    session.edit("model", name)
    assert not session.error and type(session.plan.method).__name__ == kind
    assert session.view.html


def test_every_model_and_card_can_be_chosen():
    session = Session(Plan(Architecture.from_config("Llama-3.2-1B"), LoRA(), seq_len=8192, gpu="T4"))
    for name in catalogue.names():
        session.edit("model", name)
        assert not session.error and session.plan.model.name == name
        assert session.plan.seq_len <= session.plan.model.max_positions
    for card in gpus():
        session.edit("gpu", card)
        assert not session.error and session.plan.gpu == card


@pytest.mark.parametrize("field", [field for field in FIELDS if field.name not in ("model", "gpu", "method")])
def test_every_option_of_a_select_can_be_set_or_says_why_not(field):
    plan = edit(first_plan(), "method", "QLoRA")
    for option in field.options(plan):
        session = Session(plan)
        session.edit(field.name, option)
        shown = field.read(session.plan)
        assert shown == option or session.error or option == "choose"


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_recognised(name):
    session = Session()
    session.edit("preset", name)
    preset_field = next(field for field in FIELDS if field.name == "preset")
    assert preset_field.read(session.plan) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", "0"),
        ("batch", "-3"),
        ("batch", "dois"),
        ("batch", ""),
        ("seq_len", "9999999"),
        ("rank", "1.5"),
    ],
)
def test_nonsense_is_one_sentence_and_the_plan_stays(name, value):
    session = Session()
    before = session.plan
    session.edit(name, value)
    assert session.plan == before and name in session.error and session.error.endswith(".")
    assert session.view.html  # it keeps running
    session.edit(name, "2")
    assert not session.error and session.plan != before


def test_methods_keep_rank_and_targets():
    plan = edit(edit(first_plan(), "rank", "48"), "method", "QLoRA")
    assert isinstance(plan.method, QLoRA) and plan.method.rank == 48
    assert edit(plan, "method", "LoRA").method.rank == 48


def test_targets_that_the_next_model_lacks_become_all_linear():
    plan = edit(first_plan(), "targets", "q_proj, v_proj")
    assert edit(plan, "model", "gpt2").method.targets == "all-linear"
    assert edit(edit(plan, "method", "IA3"), "model", "gpt2").method == IA3(("c_attn", "c_proj"), ("c_proj",))


def test_a_pasted_config_and_a_file(tmp_path):
    config = catalogue.config("TinyLlama/TinyLlama_v1.1")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for text in (json.dumps(config), str(tmp_path), str(tmp_path / "config.json")):
        assert edit(first_plan(), "other_model", text).model.hidden == 2048
    session = Session()
    nested = json.dumps({**config, "text_config": [1]})
    huge = json.dumps({**config, "vocab_size": 10**400})
    for text in (
        nested,
        huge,
        "{",
        "{}",
        '{"model_type": "llama"}',
        '{"model_type": "alien", "hidden_size": 3}',
    ):
        session.edit("other_model", text)
        assert session.error and session.plan == first_plan()
