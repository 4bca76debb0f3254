"""Nonsense, one piece at a time: a sentence that names the field and what it may be, never a traceback."""

import re

import pytest

from toolkit.calculator.session import Session
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.plan import Plan
from toolkit.vram import estimate, fit
from toolkit.vram.sharding import shard

SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
}
HUGE = 10**5000  # beyond what Python writes out


def model(**changes):
    return lambda: Plan({**SMALL, **changes}, LoRA())


def with_switch(method=None, **switches):
    return lambda: Plan(SMALL, method or LoRA(), **switches)


API = {
    "model None": (lambda: Plan(None, LoRA()), "model"),
    "model a list": (lambda: Plan([1], LoRA()), "model"),
    "model empty": (lambda: Plan({}, LoRA()), "model_type.*llama"),
    "model unknown": (model(model_type="bert"), "model_type.*llama"),
    "no heads": (model(num_attention_heads=0), "num_attention_heads"),
    "heads that do not divide": (model(num_key_value_heads=3), "kv_heads.*heads"),
    "negative width": (model(hidden_size=-64), "hidden.*maior ou igual a 1"),
    "width of no integer": (model(hidden_size=64.5), "hidden_size.*inteiro"),
    "immense width": (model(hidden_size=4 * HUGE), "hidden.*até 2147483647"),
    "immense depth": (model(num_hidden_layers=HUGE), "layers.*até 2147483647"),
    "vocabulary missing": (model(vocab_size=None), "vocab_size"),
    "negative window": (model(model_type="mistral", sliding_window=-3), "sliding_window"),
    "negative embedding": (model(model_type="opt", word_embed_proj_dim=-5), "embedding"),
    "more experts a token than there are": (
        model(model_type="mixtral", num_local_experts=4, num_experts_per_tok=9),
        "experts_per_token",
    ),
    "method by name": (lambda: Plan(SMALL, "lora"), "method.*LoRA"),
    "method as a class": (lambda: Plan(SMALL, Full), "method.*LoRA"),
    "unknown target": (with_switch(LoRA(targets=("nope",))), "targets.*q_proj.*nope"),
    "unknown target of IA3": (with_switch(IA3(targets=("nope",), feedforward=())), "targets.*q_proj.*nope"),
    "targets as a word": (lambda: LoRA(targets="q_proj"), "targets.*tupla"),
    "rank 0": (lambda: LoRA(rank=0), "rank.*maior ou igual a 1"),
    "rank as text": (lambda: LoRA(rank="8"), "rank.*inteiro.*'8'"),
    "immense rank": (lambda: LoRA(rank=HUGE), "rank.*até 2147483647"),
    "alpha as text": (lambda: LoRA(alpha="x"), "alpha.*número"),
    "dropout as text": (lambda: LoRA(dropout="a"), "dropout.*número"),
    "DoRA as text": (lambda: LoRA(use_dora="sim"), "use_dora.*True ou False"),
    "double quantization as text": (lambda: QLoRA(double_quant="x"), "double_quant.*True ou False"),
    "feedforward of no names": (lambda: IA3(feedforward=3), "feedforward.*targets"),
    "immense bottleneck": (lambda: Adapter(HUGE), "bottleneck.*até 2147483647"),
    "more prefix than positions": (with_switch(PrefixTuning(10**6)), "num_virtual_tokens.*512"),
    "as much prompt as positions": (with_switch(PromptTuning(512)), "num_virtual_tokens.*512"),
    "batch 0": (with_switch(batch=0), "batch.*maior ou igual a 1"),
    "negative batch": (with_switch(batch=-1), "batch.*maior ou igual a 1"),
    "immense batch": (with_switch(batch=HUGE), "batch.*até 2147483647"),
    "beyond the positions": (with_switch(seq_len=513), "seq_len.*entre 1 e 512"),
    "no accumulation": (with_switch(accumulation=0), "accumulation"),
    "card of no name": (with_switch(gpu=4), "gpu.*T4"),
    "unknown card": (lambda: estimate(Plan(SMALL, LoRA(), gpu="RTX 9999")), "RTX 9999.*T4"),
    "unknown card to fit": (lambda: fit(Plan(SMALL, LoRA()), None), "T4"),
    "unknown optimizer": (with_switch(optimizer="lion"), "optimizer.*adamw"),
    "fp32 norms before 16-bit weights": (with_switch(upcast="norms"), "upcast.*autocast"),
    "flash in a model made fp32": (with_switch(upcast="all", attention="flash"), "attention.*sdpa"),
    "a version too long": (with_switch(transformers="5" + "0" * 5000), "transformers.*versão"),
    "data of no plan": (lambda: Plan.from_dict({}), "model e method"),
    "data of a plan, and more": (
        lambda: Plan.from_dict({**Plan(SMALL, LoRA()).to_dict(), "nope": 1}),
        "campos",
    ),
    "no cards": (lambda: shard(Plan(SMALL, LoRA()), 0, "fsdp"), "gpus.*maior ou igual a 1"),
}
FIELDS = [  # a field of the calculator, what is typed into it, and what its sentence says
    ("batch", "0", "batch"),
    ("batch", "9" * 30, "batch.*até 2147483647"),
    ("batch", "muitas", "batch.*inteiro"),
    ("seq_len", "99999999", "seq_len.*entre 1 e"),
    ("rank", "-4", "rank"),
    ("rank", "", "rank.*inteiro"),
    ("gpu", "RTX 9999", "RTX 9999.*T4"),
    ("targets", "nope", "targets"),
    ("model", "no/such-model", "no/such-model"),
    ("other_model", "{", "JSON"),
    ("other_model", '{"a":' * 15000, "JSON"),
    ("other_model", '{"model_type": "llama", "hidden_size": -1}', "num_attention_heads|hidden"),
    ("other_model", '{"model_type": "llama", "hidden_size": {}}', "hidden_size"),
]


@pytest.mark.parametrize("name", API)
def test_the_api_says_what_is_wrong(name):
    make, sentence = API[name]
    with pytest.raises(ValueError, match=re.compile(sentence, re.DOTALL)) as caught:
        make()
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 1000


@pytest.mark.parametrize(("field", "typed", "sentence"), FIELDS)
def test_the_calculator_says_it_in_place_and_goes_on(field, typed, sentence):
    session = Session()
    before = session.plan
    session.edit(field, typed)
    assert re.search(sentence, session.error, re.DOTALL)
    assert session.plan == before
    session.edit("batch", "2")
    assert (session.error, session.plan.batch) == ("", 2)


def test_an_enormous_batch_is_answered():
    session = Session()
    session.edit("batch", str(2**31 - 1))
    assert session.error == ""
    assert session.view.fit.verdict == "exceeds"


def test_a_list_of_targets_is_as_good_as_a_tuple():
    assert LoRA(targets=["q_proj"]) == LoRA(targets=("q_proj",))
