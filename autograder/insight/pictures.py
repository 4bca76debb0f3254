"""The report's pictures, each as SVG that a page can hold."""

import base64
import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autograder.insight.statistics import Item

BLUE, GREY, RED = "#1f5fa8", "#9aa7b5", "#b3402b"


def score_picture(scores: Sequence[float], best: float) -> str:
    """How many students have how many points; the median is marked."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.hist(scores, bins=[best * n / 20 for n in range(21)], color=BLUE, edgecolor="white")
    middle = sorted(scores)[len(scores) // 2]
    axes.axvline(middle, color=RED, linewidth=1.5)
    axes.text(middle, 1, f" median {middle:g}", color=RED, va="top", transform=axes.get_xaxis_transform())
    axes.set(xlabel="points", ylabel="students", xlim=(0, best))
    axes.margins(y=0.15)  # room for the median's label
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def item_picture(items: Sequence[Item]) -> str:
    """Each exercise: full marks, part of them, none."""
    figure = Figure(figsize=(7, 0.9 + 0.38 * len(items)), layout="constrained")
    axes = figure.subplots()
    names = [_short(item.title) for item in items]
    full, none = [item.full for item in items], [item.none for item in items]
    part = [max(0.0, 1 - a - b) for a, b in zip(full, none, strict=True)]
    places = range(len(items))
    axes.barh(places, full, color=BLUE, label="all points")
    axes.barh(places, part, left=full, color="#8fb3dc", label="some")
    axes.barh(places, none, left=[a + b for a, b in zip(full, part, strict=True)], color=GREY, label="none")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of students")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    return _svg(figure)


def time_picture(hours: Sequence[float], scores: Sequence[float]) -> str:
    """Points against hours before (below 0) or after the deadline."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.scatter(hours, scores, s=14, color=BLUE, alpha=0.6, linewidths=0)
    axes.axvline(0, color=RED, linewidth=1.5)
    axes.set(xlabel="hours after the deadline", ylabel="points")
    return _svg(figure)


def _short(title: str) -> str:
    return title if len(title) <= 40 else f"{title[:39]}…"


def _svg(figure: Figure) -> str:
    """A data: address; no student's text is in a picture."""
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode()
