"""Estimate, simulation and other tools against published measurements: mean and worst error of each.

python -m benchmarks.vram_accuracy                     the closed form on all rows (instant)
python -m benchmarks.vram_accuracy --simulate          both (seconds a row)
python -m benchmarks.vram_accuracy --simulate --every 4 --data OTHER.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measured_rows import DATA, Row, rows
from toolkit.vram import estimate, simulate

PEERS = DATA.parent / "vram_peers.csv"
Errors = dict[tuple[str, str, str], dict[str, list[float]]]


def main() -> None:
    """Print one table of errors, the peers' on the same rows, and why rows were left out."""
    arguments = _arguments()
    found = list(rows(arguments.data))
    kept = [row for row in found if isinstance(row, Row)][:: arguments.every]
    errors: Errors = defaultdict(lambda: defaultdict(list))
    for row in track(kept, "rows", disable=not arguments.simulate):
        key = row.group, row.method, row.gpu
        errors[key]["estimate"].append(_percent(estimate(row.plan).allocated.value, row.allocated))
        if arguments.simulate:
            _simulated(row, errors[key], arguments.rows)
    console = Console()
    console.print(_table(errors, _peers(kept, errors)))
    for reason, number in Counter(reason for _, reason in _left(found)).items():
        console.print(f"{number} rows left out: {reason}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulate", action="store_true", help="run the simulation too")
    parser.add_argument("--every", type=int, default=1, help="take every n-th row only")
    parser.add_argument("--data", type=Path, default=DATA, help="measurements, in the columns of the default")
    parser.add_argument("--rows", action="store_true", help="print each row's errors")
    return parser.parse_args()


def _simulated(row: Row, errors: dict[str, list[float]], show: bool) -> None:
    if row.plan.model.experts and row.plan.transformers_version < (5, 0):
        return  # the installed transformers has no 4-bit experts any more: the closed form alone knows them
    memory = simulate(row.plan)
    errors["simulate"].append(_percent(memory.allocated.value, row.allocated))
    if row.reserved:
        errors["reserved"].append(_percent(memory.reserved.value, row.reserved))
    if show:
        print(row.name, *(f"{kind} {values[-1]:+.2f} %" for kind, values in errors.items()), flush=True)


def _percent(value: int, truth: int) -> float:
    return 100 * (value / truth - 1)


def _left(found: list[Row | tuple[str, str]]) -> list[tuple[str, str]]:
    return [row for row in found if not isinstance(row, Row)]


def _peers(kept: list[Row], errors: Errors) -> dict[tuple[str, ...], set[str]]:
    """Add what `vram_peers` asked other tools about these rows; returns the remarks by key and tool."""
    by_name, remarks = {row.name: row for row in kept}, defaultdict(set)
    with PEERS.open(encoding="utf-8", newline="") as file:
        for said in csv.DictReader(file):
            if (row := by_name.get(said["row"])) is None:
                continue
            key, tool = (row.group, row.method, row.gpu), f"{said['tool']} {said['version']}"
            values = errors[key][tool]  # stays empty, and is shown so, for a tool that answers nothing here
            if said["allocated_bytes"]:
                values.append(_percent(int(said["allocated_bytes"]), row.allocated))
            remarks[*key, tool].add(said["remark"])
    return remarks


def _table(errors: Errors, remarks: dict[tuple[str, ...], set[str]]) -> Table:
    table = Table("source", "method", "card", "tool", "rows", "mean |error| %", "worst %", "remark")
    together: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, kinds in sorted(errors.items()):
        for kind, values in kinds.items():
            remark = "; ".join(sorted(remarks.get((*key, kind), set()) - {""}))
            together["all", kind] += values
            if not remark.startswith("fitted"):
                together["all but the rows that it was fitted to", kind] += values
            table.add_row(*key, kind, *_summary(values), remark)
    for (label, kind), values in sorted(together.items()):
        if label == "all" or values != together["all", kind]:
            table.add_row(label, "", "", kind, *_summary(values), "", style="bold")
    return table


def _summary(values: list[float]) -> tuple[str, str, str]:
    if not values:
        return "0", "-", "-"
    mean, worst = statistics.fmean(map(abs, values)), max(values, key=abs)
    return str(len(values)), f"{mean:.2f}", f"{worst:+.2f}"


if __name__ == "__main__":
    main()
