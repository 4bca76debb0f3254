"""The Portuguese that students read keeps to the glossary."""

import re

import pytest

from .scoring import ROOT

FORBIDDEN = {
    r"classificaç(ão|ões) (baixa|do LoRA|da matriz)|baixa classificação|rango": "posto",
    r"\brank[s]? baixo|baixo rank|\bo rank\b|\bum rank\b": "posto, de baixo posto",
    r"\bafinação\b|\bafinamento\b|sintonia fina": "ajuste fino",
    r"\bfine-?tun(ing|ado|ar)": "ajuste fino",
    r"\bpesos? frozen\b|\bpesos? fixados\b": "pesos congelados",
    r"\bmerge(ar|ado|ada)\b|\bmescla": "fundir, fusão",
    r"dequantiza": "desquantização",
    r"\bloss\b(?!\.|\()": "perda",
    r"\bbatch(es)?\b(?!\[|_)": "lote",
    r"\boverfitting\b": "sobreajuste",
    r"\bhot[- ]swap\b": "troca a quente",
}
TEXTS = sorted(
    p
    for folder in (ROOT / "lessons", ROOT / "toolkit" / "quiz" / "bank")
    for p in folder.rglob("*")
    if p.suffix in (".py", ".md", ".toml") and p.name != "mutantes.py"
)


def read(path):
    """What a student reads: Markdown, or a percent source's commented lines."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = "\n".join(line[2:] for line in text.split("\n") if line.startswith("# ") and "%%" not in line)
    return text


def prose(text):
    """Without code, the English in parentheses and the addresses of links."""
    return re.sub(r"`[^`]*`|\*\([^)]*\)|\(\*[^)]*\*\)|\]\([^)]*\)", "", text)


def faults(text):
    return [
        (m.group(), right)
        for wrong, right in FORBIDDEN.items()
        for m in re.finditer(wrong, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_glossary(path):
    assert faults(prose(read(path))) == []


def test_the_glossary_test_finds_faults():
    assert faults("A Adaptação de Baixa Classificação usa um rank baixo, e a loss cai no fine-tuning.")
    assert not faults("A classificação de cláusulas com posto baixo; a perda cai a cada lote.")
