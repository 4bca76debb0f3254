"""Examples from a file to padded tensors: what is learnt is the answer, and what is wrong is named."""

import json
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.data import (
    IGNORED,
    DataError,
    Encoded,
    Example,
    collate,
    encode,
    encode_all,
    order,
    read_examples,
)


def jsonl(folder, *lines):
    path = folder / "dados.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_fields_and_instruction_make_the_prompt(tmp_path):
    path = jsonl(tmp_path, {"id": "1", "texto": "O foro é {Recife}.", "tipo": "foro"}, "")
    (example,) = read_examples(path, "texto", "tipo", "Cláusula: {texto}\nTipo:")
    assert example == Example("Cláusula: O foro é {Recife}.\nTipo:", "foro")
    assert read_examples(path, "texto", "tipo")[0].prompt == "O foro é {Recife}."


GOOD = {"prompt": "a", "answer": "b"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "não tem nenhum exemplo"),
        ([GOOD, "{"], "linha 2: não é JSON válido"),
        ([GOOD, GOOD, "[1]"], "linha 3: esperava um objeto JSON"),
        ([GOOD, {"prompt": "a"}], "linha 2: o campo 'answer' deve ser um texto"),
        ([{"prompt": 3, "answer": "b"}], "linha 1: o campo 'prompt'"),
        ([{"prompt": "a", "answer": "  "}], "linha 1: o campo 'answer'"),
        (["[" * 100_000], "linha 1: não é JSON válido"),
    ],
)
def test_malformed_data_names_line_and_field(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_examples(jsonl(tmp_path, *lines))


def test_a_file_of_another_encoding_is_one_sentence_and_a_mark_or_u2028_is_none(tmp_path):
    path = tmp_path / "dados.jsonl"
    path.write_text('{"prompt": "cláusula", "answer": "cessão"}', encoding="latin-1")
    with pytest.raises(DataError, match="não está em UTF-8"):
        read_examples(path)
    path.write_text('{"prompt": "a\u2028b", "answer": "c"}', encoding="utf-8-sig")
    assert read_examples(path) == [Example("a\u2028b", "c")]


@pytest.mark.parametrize("data", ["dados.jsonl", [{"prompt": "a", "answer": "b"}], [Example("a", None)]])
def test_what_is_no_list_of_examples_is_one_sentence(tiny, data):
    with pytest.raises(DataError, match="lista de Example"):
        encode_all(tiny.tokenizer, data, 64)


def test_missing_file_and_instruction_without_a_place(tmp_path):
    with pytest.raises(DataError, match="não encontrei"):
        read_examples(tmp_path / "nada.jsonl")
    with pytest.raises(DataError, match=r"deve ter \{prompt\}"):
        read_examples(jsonl(tmp_path, GOOD), instruction="Responda.")


def test_prompt_is_what_the_model_sees_when_it_generates(tiny):
    """Against the chat template itself: the ids are those of the whole conversation, split at the answer."""
    tokenizer, example = tiny.tokenizer, Example("Quanto é 2+2?", "quatro")
    encoded = encode(tokenizer, example, 200)
    conversation = [
        {"role": "user", "content": example.prompt},
        {"role": "assistant", "content": example.answer},
    ]
    whole = tokenizer.apply_chat_template(conversation, tokenize=False).removesuffix("\n")
    assert tokenizer.decode(encoded.ids) == whole
    assert tokenizer.decode(encoded.ids[encoded.prompt_length :]) == "quatro<|im_end|>"


def test_too_long_and_empty_are_one_sentence(tiny):
    example = Example("uma pergunta", "uma resposta")
    length = len(encode(tiny.tokenizer, example, 500).ids)
    with pytest.raises(DataError, match=f"'uma pergunta' tem {length} tokens e o plano aceita {length - 1}"):
        encode(tiny.tokenizer, example, length - 1)
    with pytest.raises(DataError, match="vazio"):
        encode_all(tiny.tokenizer, [], 500)


def test_labels_keep_only_the_answer_and_padding_is_masked():
    batch = collate([Encoded((5, 6, 7), 2), Encoded((8, 9, 10, 11, 12), 1)], pad=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 7, -100, -100], [-100, 9, 10, 11, 12]]


def test_padding_changes_no_loss(tiny):
    """The loss of a batch is the mean over both rows' answers, each computed alone without padding."""
    model, longest = tiny.model, 300
    pair = [encode(tiny.tokenizer, Example("a" * n, "b" * n), longest) for n in (3, 40)]
    answers = [len(e.ids) - e.prompt_length for e in pair]
    with torch.no_grad():
        alone = [model(**collate([e], 2)).loss.item() for e in pair]
        together = model(**collate(pair, 2)).loss.item()
    mean = sum(loss * n for loss, n in zip(alone, answers, strict=True)) / sum(answers)
    assert together == pytest.approx(mean, rel=1e-5)
    assert (collate(pair, 2)["labels"] != IGNORED).sum() == sum(answers)


@given(st.integers(1, 30), st.integers(0, 99))
def test_each_epoch_is_a_permutation_and_depends_on_the_seed_alone(examples, seed):
    first = list(islice(order(examples, seed), 2 * examples))
    assert sorted(first[:examples]) == sorted(first[examples:]) == list(range(examples))
    assert first == list(islice(order(examples, seed), 2 * examples))
