"""What typed answers say, however they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.quiz import close, credit_for, drawn, letter, letters, number, ordering, quantity
from toolkit.quiz.draws import same_student


@pytest.mark.parametrize("answer", ["c", "C", " c ", "(C)", "c)", "ｃ", "с", "\u00a0c.\n"])
def test_one_letter_however_it_is_written(answer):
    assert letter(answer, "abcd") == "c"


@pytest.mark.parametrize(
    "answer", ["a b", "a,b", "abcd", "e", "z", "cc", "1", "c d", "alternativa c", "c" * 300]
)
def test_exactly_one_option_is_asked(answer):
    with pytest.raises(ValueError, match=r"alternativa|letras|caracteres"):
        letter(answer, "abcd")


@pytest.mark.parametrize("answer", ["", "   ", "\u00a0"])
def test_blank_is_not_attempted(answer):
    for read in (lambda a: letter(a, "abcd"), lambda a: ordering(a, "abc"), number, quantity):
        with pytest.raises(NotImplementedError):
            read(answer)


@pytest.mark.parametrize("answer", [None, 3, True, ["a"], b"a"])
def test_what_is_no_text_is_refused(answer):
    with pytest.raises(ValueError, match="texto"):
        letter(answer, "abcd")


def test_several_letters():
    assert letters("a, C e d", "abcd") == ("a", "c", "d")
    assert letters("a e c", "abcde") == ("a", "e", "c"), "where e is an option, it is one"
    assert letters({"a": True, "b": False, "c": "sim", "d": 1}, "abcd") == ("a",), "only a tick is a tick"


def test_an_order_has_every_letter_once():
    assert ordering("b → c → a", "abc") == ("b", "c", "a")
    for wrong in ("b, c", "b, c, a, a"):
        with pytest.raises(ValueError):
            ordering(wrong, "abc")


@pytest.mark.parametrize(
    ("answer", "readings"),
    [
        ("8000", {8000}),
        ("8.000", {8, 8000}),
        ("8,000", {8, 8000}),
        ("1.000.000", {10**6}),
        ("1 000 000", {10**6}),
        ("1_000", {1000}),
        ("1.234,5", {1234.5}),
        ("1,234.5", {1234.5}),
        ("0,125", {0.125}),
        ("4,127", {4.127, 4127}),
        ("4,5", {4.5}),
        ("-1,5e3", {-1500}),
        ("８", {8}),
        ("1e999999999", {float("inf")}),  # at once
        (7, {7}),
    ],
)
def test_numbers_as_brazilians_and_others_write_them(answer, readings):
    assert set(number(answer)) == readings


@pytest.mark.parametrize("answer", ["1..2e", "oito", "1e", "--1", "nan", "inf", "1/2", True, "0x10"])
def test_what_is_no_number_is_refused(answer):
    with pytest.raises(ValueError):
        number(answer)


@given(st.floats(0.01, 1e9), st.sampled_from(["B", "KB", "MB", "GB", "KiB", "MiB", "GiB"]))
def test_a_quantity_is_the_same_in_the_text_and_in_the_unit_field(value, unit):
    text = f"{value:.4f}".replace(".", ",")
    assert quantity(text, unit) == quantity(f"{text} {unit}") == quantity(f"{text}{unit.lower()}")


def test_units_are_not_one_another():
    assert not close(quantity("1", "GiB"), 10**9, 0.01)
    assert close(quantity("1", "GB"), 10**9, 0)
    with pytest.raises(ValueError, match="unidade"):
        quantity("5")
    with pytest.raises(ValueError, match="unidade"):
        quantity("5", "GBit")


@given(st.sets(st.sampled_from("abcde")), st.sets(st.sampled_from("abcde"), min_size=1))
def test_credit_is_a_share_full_only_for_the_right_set(chosen, right):
    share = credit_for(chosen, right)
    assert 0 <= share <= 1
    assert (share == 1) == (chosen == right)
    assert credit_for(set("abcde"), right) <= max(0, (2 * len(right) - 5) / len(right)), (
        "ticking all gains little"
    )


CHOICES = {"d": range(100), "k": range(100), "r": range(100)}


@given(st.text(alphabet="abcdefgh0123456789", min_size=1, max_size=12))
def test_a_student_always_gets_the_same_numbers(student):
    assert drawn(student, "q", CHOICES) == drawn(f"  {student.upper()}-", "q", CHOICES)
    assert same_student(student, f" {student}. ")


def test_two_students_rarely_get_the_same_numbers():
    got = {tuple(drawn(str(n), "q", CHOICES).values()) for n in range(1000)}
    assert len(got) > 990
    assert drawn("1", "q", CHOICES) != drawn("1", "r", CHOICES)
    with pytest.raises(NotImplementedError):
        drawn(" - ", "q", CHOICES)
