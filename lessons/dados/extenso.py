"""Whole numbers below a million in Portuguese words."""

UNITS = [
    "zero",
    "um",
    "dois",
    "três",
    "quatro",
    "cinco",
    "seis",
    "sete",
    "oito",
    "nove",
    "dez",
    "onze",
    "doze",
    "treze",
    "catorze",
    "quinze",
    "dezesseis",
    "dezessete",
    "dezoito",
    "dezenove",
]
TENS = ["-", "-", "vinte", "trinta", "quarenta", "cinquenta", "sessenta", "setenta", "oitenta", "noventa"]
HUNDREDS = [
    "-",
    "cento",
    "duzentos",
    "trezentos",
    "quatrocentos",
    "quinhentos",
    "seiscentos",
    "setecentos",
    "oitocentos",
    "novecentos",
]


def in_words(number: int, *, feminine: bool = False) -> str:
    """`number` (0 to 999,999) as a Brazilian contract spells it: 1250 is "mil duzentos e cinquenta"."""
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{number} is not between 0 and 999,999")
    thousands, rest = divmod(number, 1000)
    words = _below_thousand(rest)
    if thousands:
        head = "mil" if thousands == 1 else f"{_below_thousand(thousands)} mil"
        link = " e " if rest < 100 or rest % 100 == 0 else " "
        words = head + (link + words if rest else "")
    return _feminine(words) if feminine else words


def _below_thousand(number: int) -> str:
    """`number` below 1000; 100 alone is "cem"."""
    if number == 100:
        return "cem"
    hundreds, rest = divmod(number, 100)
    parts = [HUNDREDS[hundreds]] if hundreds else []
    if rest < 20:
        parts += [UNITS[rest]] if rest or not hundreds else []
    else:
        parts += [TENS[rest // 10]] + ([UNITS[rest % 10]] if rest % 10 else [])
    return " e ".join(parts)


def _feminine(words: str) -> str:
    """The feminine of a cardinal: "duzentos e dois" becomes "duzentas e duas"."""
    forms = {"um": "uma", "dois": "duas"}
    return " ".join(
        forms.get(word, word.replace("entos", "entas").replace("hentos", "hentas")) for word in words.split()
    )
