"""Batched answers, likely options and perplexity against the same computed one by one, by hand."""

import math
from pathlib import Path

import pytest
import torch

from toolkit.adapters import attach
from toolkit.data import DataError, prompt_text
from toolkit.evaluation import choose, macro_f1, option_scores, perplexity
from toolkit.generation import answer, answers
from toolkit.methods import Adapter, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.tasks import clauses, facts_right, shop, tone

DATA = Path(__file__).parents[2] / "lessons/dados"
PROMPTS = ["uma pergunta?", "outra, bem mais longa, sobre cláusulas de contrato?", "e?", "quantas são?"]
OPTIONS = ["multa", "pagamento", "foro", "propriedade intelectual"]
METHODS = [None, LoRA(rank=4), QLoRA(rank=4), PrefixTuning(5), PromptTuning(5), Adapter(8)]


@pytest.fixture(params=METHODS, ids=lambda method: type(method).__name__)
def model(request, tiny):
    """The tiny model, its head untied so that it does not echo, with an adapter that changes its output."""
    torch.manual_seed(1)
    model = tiny.load(tiny.plan(request.param) if request.param else None)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    if not request.param:
        return model
    model = attach(model, request.param)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter), alpha=0.03)
    return model


def log_probability(model, tokenizer, prompt, option):
    """log p(option | prompt), from one plain forward over both, without a cache."""
    asked = tokenizer(prompt_text(tokenizer, prompt), add_special_tokens=False).input_ids
    ids = asked + tokenizer(option + tokenizer.eos_token, add_special_tokens=False).input_ids
    with torch.no_grad():
        chances = model(input_ids=torch.tensor([ids])).logits[0, -len(ids) :].log_softmax(-1)
    return sum(chances[at - 1, ids[at]].item() for at in range(len(asked), len(ids)))


def test_option_scores_are_those_of_a_plain_forward(tiny, model):
    model.eval()
    for prompt in PROMPTS[:2]:
        expected = [log_probability(model, tiny.tokenizer, prompt, option) for option in OPTIONS]
        assert option_scores(model, tiny.tokenizer, prompt, OPTIONS) == pytest.approx(expected, rel=1e-4)
        best = OPTIONS[expected.index(max(expected))]
        assert choose(model, tiny.tokenizer, [prompt], OPTIONS) == [best]


def test_batched_answers_are_those_given_alone(tiny, model):
    alone = [answer(model, tiny.tokenizer, prompt, 12) for prompt in PROMPTS]
    assert len(set(alone)) > 1 and all(alone)
    assert answers(model, tiny.tokenizer, PROMPTS, 12, batch=3) == alone


def test_evaluation_leaves_the_model_as_it_was(tiny):
    model = attach(tiny.load(), LoRA(dropout=0.5)).train()
    one, other = (option_scores(model, tiny.tokenizer, "p", OPTIONS) for _ in range(2))
    assert one == other and model.training  # no dropout while it looks
    assert answers(model, tiny.tokenizer, []) == []


def test_a_prompt_longer_than_the_context_is_one_sentence(tiny):
    longest = tiny.model.config.max_position_embeddings
    with pytest.raises(DataError, match=rf"tokens e o modelo só tem posições para {longest}"):
        answers(tiny.model, tiny.tokenizer, ["curta", "p" * longest])
    with pytest.raises(DataError, match="encurte-o"):
        option_scores(tiny.model, tiny.tokenizer, "p" * longest, OPTIONS)


def test_perplexity_by_hand_and_of_a_model_that_knows_nothing(tiny):
    texts = ["um texto qualquer", "e outro, mais longo do que o primeiro", "x"]
    model, total, tokens = tiny.load(), 0.0, 0
    for text in texts:
        ids = torch.tensor([tiny.tokenizer(text, add_special_tokens=False).input_ids])
        with torch.no_grad():
            chances = model(input_ids=ids).logits.log_softmax(-1)
        total -= chances[0, :-1].gather(-1, ids[0, 1:, None]).sum().item()
        tokens += ids.shape[1] - 1
    assert perplexity(model, tiny.tokenizer, texts) == pytest.approx(math.exp(total / tokens), rel=1e-4)
    assert perplexity(model, tiny.tokenizer, texts, longest=4) != pytest.approx(math.exp(total / tokens))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert perplexity(model, tiny.tokenizer, texts) == pytest.approx(model.config.vocab_size, rel=1e-4)


def test_macro_f1_by_hand():
    """a: 2 found, 1 wrong guess: 4/5. b: 1 found, 1 missed, 1 wrong guess: 2/4. c: missed: 0."""
    assert macro_f1(list("aabbc"), list("aabab")) == pytest.approx((4 / 5 + 2 / 4 + 0) / 3)
    assert macro_f1(list("ab"), list("ad")) == pytest.approx(1 / 2)


def oracle(monkeypatch, task):
    """Models that give every right answer, in place of the tiny one's."""
    told = {example.prompt: example.answer for example in task.test}
    monkeypatch.setattr("toolkit.tasks.choose", lambda m, t, prompts, kinds: [told[p] for p in prompts])
    monkeypatch.setattr("toolkit.tasks.answers", lambda m, t, prompts, **_: [told[p] for p in prompts])


def test_tasks_score_the_right_answers_with_one(tiny, monkeypatch):
    for task in (clauses(DATA), shop(DATA)):
        with monkeypatch.context() as patch:
            oracle(patch, task)
            perfect = task.metric(tiny.tokenizer)(tiny.model)
        assert set(perfect.values()) == {1.0}
        figures = task.metric(tiny.tokenizer, task.test[:12])(tiny.model)
        assert figures.keys() == perfect.keys() and max(figures.values()) < 0.7


def test_splits_are_those_of_the_files():
    assert [len(part) for part in (clauses(DATA).train, clauses(DATA).test)] == [864, 360]
    turn = shop(DATA).test[0]
    assert facts_right(turn.answer, turn.facts) and turn.facts and tone(turn.answer) == 1
    assert "Tangerina" in turn.prompt and "{" not in turn.prompt
