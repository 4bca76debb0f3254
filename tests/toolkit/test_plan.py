"""Plans: presets, round trips, and one sentence for what cannot be run."""

import json
import subprocess
import sys

import pytest

from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan, PlanError
from toolkit.presets import PRESETS, preset

LLAMA = Architecture("llama", 512, 4, 8, 4, 64, 1408, 8192, 2048)


@pytest.mark.parametrize(
    "method", [Full(), LoRA(), QLoRA(targets="all-linear"), PrefixTuning(), PromptTuning(), IA3(), Adapter()]
)
def test_plain_data_gives_the_plan_back(method):
    plan = Plan(LLAMA, method, batch=3, checkpointing=True)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert hash(plan) == hash(Plan.from_dict(plan.to_dict()))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_plans_that_run(name):
    plan = preset(name, LLAMA, QLoRA(), batch=2)
    assert plan.batch == 2
    assert all(getattr(plan, field) == value for field, value in PRESETS[name].switches.items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, ["batch", "1"]),
        ({"seq_len": -1}, ["seq_len"]),
        ({"seq_len": 4096}, ["seq_len", "2048"]),
        ({"batch": 1.5}, ["batch", "inteiro"]),
        ({"optimizer": "adam"}, ["optimizer", "adamw_8bit", "'adam'"]),
        ({"loss": "none"}, ["loss", "chunked"]),
        ({"method": "lora"}, ["method", "LoRA"]),
        ({"method": LoRA(targets=("query",))}, ["targets", "q_proj", "query"]),
        ({"method": Full(), "dtype": "fp16"}, ["dtype", "bf16"]),
        ({"attention": "flash", "dtype": "fp32"}, ["attention", "sdpa"]),
        ({"rank": 3}, ["rank", "batch"]),
        ({"kernels": "cuda"}, ["kernels", "liger"]),
        ({"checkpointing": "talvez"}, ["checkpointing", "True ou False", "talvez"]),
        ({"transformers": "cinco"}, ["transformers", "5.23", "cinco"]),
        ({"bitsandbytes": ""}, ["bitsandbytes"]),
    ],
)
def test_mistakes_are_one_sentence(changes, words):
    with pytest.raises(PlanError) as error:
        Plan(LLAMA, LoRA()).change(**changes)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_triton_norms_are_refused_where_there_is_layer_norm():
    with pytest.raises(PlanError, match="kernels deve ser 'torch'"):
        preset("Liger", Architecture.from_config("gpt2"), Full())


def test_importing_the_vram_room_imports_no_torch():
    code = (
        "import sys, toolkit.plan, toolkit.vram; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
