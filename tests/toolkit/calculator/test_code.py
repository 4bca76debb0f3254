"""The plan as code: whatever the plan, running the code gives it back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit import catalogue
from toolkit.calculator.code import code
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.presets import PRESETS, preset

METHODS = [
    Full(),
    LoRA(rank=7, alpha=3.5, targets=("q_proj", "v_proj"), dropout=0.1, use_dora=True),
    LoRA(targets="all-linear", use_rslora=True),
    QLoRA(rank=64, targets="all-linear", quant_type="fp4", double_quant=False),
    PrefixTuning(30),
    PromptTuning(5),
    IA3(),
    Adapter(12),
]
LLAMA_LIKE = [
    name for name in catalogue.names() if catalogue.config(name)["model_type"] in ("llama", "qwen2")
]


def run(text):
    scope = {}
    exec(text, scope)
    return scope["plan"]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(LLAMA_LIKE),
    method=st.sampled_from(METHODS),
    path=st.sampled_from(list(PRESETS)),
    batch=st.integers(1, 64),
    seq_len=st.integers(1, 1000),
    gpu=st.sampled_from(["", "T4", "RTX 4060 Ti 16 GB"]),
)
def test_code_gives_the_plan_back(name, method, path, batch, seq_len, gpu):
    plan = preset(path, Architecture.from_config(name), method, batch=batch, seq_len=seq_len, gpu=gpu)
    assert run(code(plan)) == plan


def test_a_model_that_is_in_no_catalogue_is_spelled_out():
    model = Architecture("llama", 64, 2, 4, 2, 16, 128, 1000, 256, name="minha/'coisa'\n")
    plan = Plan(model, LoRA(), seq_len=128)
    assert "from_config" not in code(plan).split("plan =")[1]
    assert run(code(plan)) == plan


def test_a_changed_catalogue_model_is_not_taken_for_the_original():
    model = Architecture.from_config("gpt2")
    plan = Plan(Architecture(**{**model.to_dict(), "layers": 3}), Full())
    assert run(code(plan)).model.layers == 3


def test_defaults_are_left_out():
    text = code(Plan(Architecture.from_config("gpt2"), Full()))
    assert "batch" not in text and "dtype" not in text


@pytest.mark.parametrize("method", METHODS)
def test_only_the_used_method_is_imported(method):
    plan = Plan(Architecture.from_config("Qwen2.5-0.5B"), method)
    (line,) = [line for line in code(plan).splitlines() if "import" in line]
    names = {"Architecture", "Plan", type(method).__name__}
    assert set(line.removeprefix("from toolkit import ").split(", ")) == names
