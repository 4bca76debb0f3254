"""The measures of social bias: antisymmetric in the pair, equal to other libraries' and to hand counts."""

import json

import numpy as np
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference, equal_opportunity_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import LlamaForCausalLM

from toolkit import bias
from toolkit.bias import Interval, mean_gap, opportunity_gap, parity_gap, preference_rate
from toolkit.data import DataError, prompt_text

SCORES = st.lists(
    st.tuples(*[st.floats(-20, 20, allow_nan=False, width=32)] * 2), min_size=2, max_size=60
).map(lambda pairs: tuple(map(list, zip(*pairs, strict=True))))
PEOPLE = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from("ab")), min_size=4, max_size=80
).filter(lambda rows: {g for _, right, g in rows if right} == {"a", "b"})


def close(one: Interval, other: Interval) -> bool:
    return np.allclose([one.value, one.low, one.high], [other.value, other.low, other.high], atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(SCORES)
def test_measures_of_pairs_turn_over_with_the_sides(scores):
    first, second = scores
    gap, rate = mean_gap(first, second), preference_rate(first, second)
    assert close(mean_gap(second, first), Interval(-gap.value, -gap.high, -gap.low))
    assert close(preference_rate(second, first), Interval(1 - rate.value, 1 - rate.high, 1 - rate.low))


@settings(deadline=None, max_examples=50)
@given(SCORES, st.permutations(range(2)), st.floats(-5, 5))
def test_only_the_differences_within_pairs_count(scores, order, shift):
    """The order of the pairs and a constant added to both sides of a pair change nothing."""
    first, second = scores
    moved = [x + shift for x in first], [x + shift for x in second]
    assert close(mean_gap(*moved), mean_gap(first, second))
    assert close(mean_gap(first[::-1], second[::-1]), mean_gap(first, second))


@settings(deadline=None, max_examples=50)
@given(PEOPLE)
def test_gaps_between_groups_turn_over_with_the_groups(rows):
    decided, deserved, groups = map(list, zip(*rows, strict=True))
    for gap in (
        lambda between: parity_gap(decided, groups, between),
        lambda between: opportunity_gap(decided, deserved, groups, between),
    ):
        straight = gap(("a", "b"))
        assert close(gap(("b", "a")), Interval(-straight.value, -straight.high, -straight.low))
        assert -1 <= straight.low <= straight.value + 1e-9 and straight.value - 1e-9 <= straight.high <= 1


@settings(deadline=None, max_examples=50)
@given(PEOPLE)
def test_gaps_are_fairlearns_with_a_sign(rows):
    decided, deserved, groups = map(list, zip(*rows, strict=True))
    frame = {"y_true": deserved, "y_pred": decided, "sensitive_features": groups}
    assert abs(parity_gap(decided, groups, ("a", "b")).value) == pytest.approx(
        demographic_parity_difference(**frame)
    )
    assert abs(opportunity_gap(decided, deserved, groups, ("a", "b")).value) == pytest.approx(
        equal_opportunity_difference(**frame)
    )


def test_mean_gap_is_scipys_paired_t():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1, 24), rng.normal(0, 1, 24)
    expected = stats.ttest_rel(first, second).confidence_interval(0.9)
    found = mean_gap(list(first), list(second), level=0.9)
    assert close(found, Interval(float((first - second).mean()), expected.low, expected.high))


def test_preference_rate_is_scipys_wilson_without_the_ties():
    first, second = [1.0] * 14 + [0.0] * 6 + [2.0] * 5, [0.0] * 14 + [1.0] * 6 + [2.0] * 5
    expected = stats.binomtest(14, 20).proportion_ci(method="wilson")
    assert close(preference_rate(first, second), Interval(0.7, expected.low, expected.high))
    assert preference_rate([1.0, 2.0], [1.0, 2.0]) == Interval(0.5, 0.0, 1.0)


def test_parity_gap_is_newcombes_own_example():
    """Newcombe (1998), Table II, (a): 56/70 - 48/80, method 10 gives 0.0524 to 0.3339."""
    decided = [True] * 56 + [False] * 14 + [True] * 48 + [False] * 32
    found = parity_gap(decided, ["a"] * 70 + ["b"] * 80, ("a", "b"))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_intervals_cover_as_often_as_they_say():
    """Under no bias, 95 % intervals of 24 pairs miss zero about one time in twenty (1,000 draws)."""
    rng = np.random.default_rng(1)
    missed = sum(
        not (i.low <= 0 <= i.high)
        for i in (mean_gap(list(rng.normal(size=24)), list(rng.normal(size=24))) for _ in range(1000))
    )
    assert 25 <= missed <= 80


def test_by_group_by_hand():
    table = bias.by_group([True, True, False, True], [True, False, True, True], ["m", "m", "f", "f"])
    assert table.loc["m"].tolist() == [2, 1.0, 1.0, 1.0, 0.5]
    assert table.loc["f", ["chamados", "chamados entre quem merece", "decisões certas"]].tolist() == [0.5] * 3


def test_log_odds_are_the_models_own(tiny):
    """Against one plain forward of the whole text for each answer."""
    model = tiny.load().float()
    assert isinstance(model, LlamaForCausalLM)

    def log_p(prompt, answer):
        asked, said = (
            tiny.tokenizer(text, add_special_tokens=False).input_ids
            for text in (prompt_text(tiny.tokenizer, prompt), answer + tiny.tokenizer.eos_token)
        )
        with torch.no_grad():
            chances = model(torch.tensor([asked + said])).logits[0].log_softmax(-1)
        return sum(float(chances[len(asked) + i - 1, token]) for i, token in enumerate(said))

    prompts = ["Chamar Ana?", "Chamar João para a entrevista?"]
    found = bias.log_odds(model, tiny.tokenizer, prompts)
    expected = [log_p(prompt, "sim") - log_p(prompt, "não") for prompt in prompts]
    assert found == pytest.approx(expected, abs=1e-3)


def test_read_pairs_says_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="não encontrei"):
        bias.read_pairs(tmp_path / "x.jsonl")
    path = tmp_path / "pares.jsonl"
    good = {"atributo": "idade", "grupos": ["28", "60"], "a": "Ana, 28", "b": "Ana, 60"}
    path.write_text(json.dumps(good) + '\n{"a": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="linha 2"):
        bias.read_pairs(path)
    path.write_text(json.dumps(good) + "\n", encoding="utf-8")
    assert bias.read_pairs(path, "{texto}?") == [bias.Pair("idade", ("28", "60"), "Ana, 28?", "Ana, 60?")]


@pytest.mark.parametrize("sides", [([1.0], [2.0]), ([1.0, 2.0], [1.0])])
def test_too_few_pairs_are_refused(sides):
    with pytest.raises(DataError, match="2 ou mais"):
        mean_gap(*sides)


def test_a_missing_group_is_named():
    with pytest.raises(DataError, match="'c'"):
        parity_gap([True, False], ["a", "b"], ("a", "c"))


def test_the_picture_has_every_attribute_and_model():
    measured = {
        "base": {"gênero": Interval(0, -1, 1), "idade": Interval(0.1, 0, 0.2)},
        "ajustado": {"gênero": Interval(2, 1, 3)},
    }
    (axes,) = bias.plot_intervals(measured, 0.0, "diferença").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gênero", "idade"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "ajustado"]


def test_an_interval_is_written_as_in_brazil():
    interval = Interval(0.25, -0.5, 0.75)
    assert str(interval) == "+0,25 [-0,50; +0,75]"
    assert f"{interval:.1%}" == "25,0% [-50,0%; 75,0%]"
