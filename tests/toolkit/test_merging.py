"""A merged 16-bit copy against the live adapter, and its drift against merging into 4 bits."""

import pytest
import torch

from tests.toolkit.test_adapters import fresh, logits, scramble
from toolkit.adapters import AdapterError, merge
from toolkit.merging import drift, merged_copy
from toolkit.methods import Adapter, LoRA, QLoRA

TEXTS = ["uma frase qualquer", "e outra, de contrato"]
METHODS = [QLoRA(rank=4, targets="all-linear"), LoRA(rank=4), LoRA(rank=4, use_rslora=True)]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_a_copy_in_fp32_is_the_trained_model_and_16_bits_only_round_it(tiny, method):
    model = scramble(fresh(tiny, method))
    ids = tiny.tokenizer(TEXTS[0], return_tensors="pt").input_ids
    before = logits(model, ids)
    exact, half = merged_copy(model, "fp32"), merged_copy(model)
    assert not hasattr(exact, "peft_config") and half.dtype == torch.bfloat16
    assert torch.allclose(logits(exact, ids), before, atol=1e-4)
    assert torch.equal(logits(model, ids), before)  # the trained one stays
    assert drift(model, exact, tiny.tokenizer, TEXTS).weights < 1e-6
    rounded = drift(model, half, tiny.tokenizer, TEXTS)
    assert 1e-4 < rounded.weights < 2**-8  # bf16 has 8 bits of precision: at most half a unit in the last
    assert rounded.same_choice > 0.8 and rounded.logits < 0.05


def test_merging_into_4_bits_drifts_much_further(tiny):
    """Requantizing the sum costs what quantizing costs: about a tenth of the weights' size, by NF4."""
    method = METHODS[0]
    model, other = (scramble(fresh(tiny, method)) for _ in range(2))
    merge(other)
    requantized = drift(model, other, tiny.tokenizer, TEXTS)
    rounded = drift(model, merged_copy(model), tiny.tokenizer, TEXTS)
    assert 0.03 < requantized.weights < 0.2
    assert requantized.weights > 20 * rounded.weights and requantized.logits > 5 * rounded.logits


def test_drift_by_hand(tiny):
    """Every adapted matrix one per cent larger: a relative distance of one per cent."""
    model = scramble(fresh(tiny, LoRA(rank=4)))
    other = merged_copy(model, "fp32")
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.mul_(1.01 if "q_proj" in name or "v_proj" in name else 5)
    assert drift(model, other, tiny.tokenizer, TEXTS).weights == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("method", [Adapter(8), LoRA(use_dora=True)], ids=lambda m: type(m).__name__)
def test_what_has_no_merged_copy_is_one_sentence(tiny, method):
    with pytest.raises(AdapterError, match="têm cópia fundida"):
        merged_copy(fresh(tiny, method))
    with pytest.raises(AdapterError, match="têm cópia fundida"):
        merged_copy(tiny.load())
