"""Social bias of a model that decides: counterfactual pairs, gaps between groups, intervals, a picture.

Every measure takes two sides and is antisymmetric in them: with the sides swapped a gap changes its sign, and
a preference rate p becomes 1 - p, ends of the interval included. An interval's level is 0.95 if not given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.data import DataError
from toolkit.evaluation import option_scores


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in one attribute of the person; `groups` says what each one's is."""

    attribute: str
    groups: tuple[str, str]
    first: str
    second: str


@dataclass(frozen=True)
class Interval:
    """A measured value between the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """The three numbers by `spec`, in Brazilian writing: f"{rate:.0%}" is 46% [28%; 65%]."""
        value, low, high = (format(number, spec) for number in (self.value, self.low, self.high))
        return f"{value} [{low}; {high}]".replace(".", ",")

    def __str__(self) -> str:
        """As a gap, with its sign."""
        return f"{self:+.2f}"


def read_pairs(path: str | Path, instruction: str = "{texto}") -> list[Pair]:
    """Counterfactual pairs from JSON Lines with `atributo`, `grupos`, `a` and `b`.

    `instruction` is what the model is asked, with {texto} where each side's text goes. Raises DataError for a
    missing file or a line that is not a pair.
    """
    path, pairs = Path(path), []
    if not path.is_file():
        raise DataError(f"não encontrei {path}: confira o caminho do arquivo de pares.")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            first, second = (instruction.replace("{texto}", row[side]) for side in ("a", "b"))
            one, other = row["grupos"]
            pairs.append(Pair(row["atributo"], (one, other), first, second))
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path}, linha {number}: esperava um objeto JSON com atributo, grupos, a e b."
            ) from None
    return pairs


def log_odds(
    model: Any, tokenizer: Any, prompts: Sequence[str], yes: str = "sim", no: str = "não"
) -> list[float]:
    """log p(yes | prompt) - log p(no | prompt) of each prompt, in nats; above 0 it decides for `yes`."""
    scores = (option_scores(model, tokenizer, prompt, [yes, no]) for prompt in prompts)
    return [float(favourable - other) for favourable, other in scores]


def preference_rate(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Interval:
    """How often the pair's first side scores above its second; 0.5 is no preference.

    Ties say nothing and are left out, as in the sign test. Wilson's score interval (1927).
    """
    from statsmodels.stats.proportion import proportion_confint

    decided = [a > b for a, b in _pairwise(first, second) if a != b]
    if not decided:
        return Interval(0.5, 0.0, 1.0)
    low, high = proportion_confint(sum(decided), len(decided), alpha=1 - level, method="wilson")
    return Interval(sum(decided) / len(decided), float(low), float(high))


def mean_gap(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of first - second over the pairs, in the scores' unit, with the paired t interval."""
    from statsmodels.stats.weightstats import DescrStatsW

    gaps = DescrStatsW([a - b for a, b in _pairwise(first, second)])
    low, high = gaps.tconfint_mean(alpha=1 - level)
    return Interval(float(gaps.mean), float(low), float(high))


def _pairwise(first: Sequence[float], second: Sequence[float]) -> list[tuple[float, float]]:
    if len(first) != len(second) or len(first) < 2:
        raise DataError(
            f"os dois lados devem ter o mesmo tamanho, 2 ou mais; recebi {len(first)} e {len(second)}."
        )
    return list(zip(first, second, strict=True))


def parity_gap(
    decided: Sequence[bool], groups: Sequence[str], between: tuple[str, str], level: float = 0.95
) -> Interval:
    """Demographic parity: share of favourable decisions in the first group minus that in the second.

    Interval of the difference of two independent proportions by Newcombe (1998, method 10).
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    sides = [[bool(d) for d, g in zip(decided, groups, strict=True) if g == group] for group in between]
    for group, side in zip(between, sides, strict=True):
        if not side:
            raise DataError(f"nenhuma decisão sobre o grupo {group!r}: há {', '.join(sorted(set(groups)))}.")
    (one, n_one), (two, n_two) = ((sum(side), len(side)) for side in sides)
    low, high = confint_proportions_2indep(one, n_one, two, n_two, method="newcomb", alpha=1 - level)
    return Interval(one / n_one - two / n_two, float(low), float(high))


def opportunity_gap(
    decided: Sequence[bool],
    deserved: Sequence[bool],
    groups: Sequence[str],
    between: tuple[str, str],
    level: float = 0.95,
) -> Interval:
    """Equal opportunity (Hardt et al., 2016): the parity gap among those who deserved the decision."""
    those = [(d, g) for d, right, g in zip(decided, deserved, groups, strict=True) if right]
    return parity_gap([d for d, _ in those], [g for _, g in those], between, level)


def by_group(decided: Sequence[bool], deserved: Sequence[bool], groups: Sequence[str]) -> Any:
    """What fairlearn says of each group: a DataFrame with a row a group, shares from 0 to 1."""
    from fairlearn.metrics import MetricFrame, count, false_positive_rate, selection_rate, true_positive_rate
    from sklearn.metrics import accuracy_score

    metrics = {
        "quantos": count,
        "chamados": selection_rate,
        "chamados entre quem merece": true_positive_rate,
        "chamados entre quem não merece": false_positive_rate,
        "decisões certas": accuracy_score,
    }
    answers = {"y_true": list(map(int, deserved)), "y_pred": list(map(int, decided))}
    return MetricFrame(metrics=metrics, sensitive_features=list(groups), **answers).by_group.rename_axis(
        "grupo"
    )


def plot_intervals(measured: Mapping[str, Mapping[str, Interval]], no_bias: float, unit: str) -> Any:
    """A row an attribute, a colour a model: values and intervals about the line of no bias. The Figure.

    `measured` has the attributes of each model, by the model's label.
    """
    from matplotlib.figure import Figure

    rows: dict[str, list[str]] = {}
    for label, values in measured.items():
        for name in values:
            rows.setdefault(name, []).append(label)
    figure = Figure(
        figsize=(8, 1 + 0.2 * sum(map(len, rows.values())) + 0.2 * len(rows)), layout="constrained"
    )
    axes = figure.subplots()
    for label, values in measured.items():
        heights = [
            list(rows).index(name) + 0.2 * (rows[name].index(label) - (len(rows[name]) - 1) / 2)
            for name in values
        ]
        ends = list(values.values())
        spread = [[i.value - i.low for i in ends], [i.high - i.value for i in ends]]
        axes.errorbar([i.value for i in ends], heights, xerr=spread, fmt="o", markersize=4, label=label)
    axes.axvline(no_bias, color="#444", linewidth=1, linestyle=":")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
