"""Estimate, simulation and other tools against published measurements: mean and worst error of each.

python -m benchmarks.vram_accuracy                      the closed form on all rows (instant)
python -m benchmarks.vram_accuracy --simulate           both; rows in data/vram_results.csv are not run again
python -m benchmarks.vram_accuracy --simulate --fresh   all rows anew (seconds each), as after a change
python -m benchmarks.vram_accuracy --simulate --every 4 --data OTHER.csv --out RESULTS.csv
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measured_rows import DATA, Row, rows
from benchmarks.vram_measure import LIBRARIES, lines
from toolkit.plan import Plan
from toolkit.vram import estimate, simulate
from toolkit.vram.sharding import shard

PEERS, RESULTS = DATA.parent / "vram_peers.csv", DATA.parent / "vram_results.csv"
Errors = dict[tuple[str, str, str], dict[str, list[float]]]
Result = dict[str, int]  # bytes by name: measured, simulated, and the ends of the reserved interval


def main() -> None:
    """Print one table of errors, the peers' on the same rows, and why rows were left out."""
    arguments, console = _arguments(), Console()
    found = [*rows(arguments.data), *_measured_here()]
    kept = [row for row in found if isinstance(row, Row)][:: arguments.every]
    errors: Errors = defaultdict(lambda: defaultdict(list))
    for row in kept:
        memory = estimate(row.plan) if row.cards == 1 else shard(row.plan, row.cards, "fsdp")
        errors[_key(row)]["estimate"].append(_percent(memory.allocated.value, row.allocated))
    results: dict[str, Result] = {}
    if arguments.simulate:
        results = dict(_simulated(kept, arguments.out, arguments.fresh))
        for row in kept:
            if row.name in results:
                _compare(results[row.name], errors[_key(row)])
    console.print(_table(errors, _peers(kept, errors) | _inside(kept, results)))
    for reason, number in Counter(reason for _, reason in _left(found)).items():
        console.print(f"{number} rows left out: {reason}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulate", action="store_true", help="run the simulation too")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that --out has already")
    parser.add_argument("--every", type=int, default=1, help="take every n-th row only")
    parser.add_argument("--data", type=Path, default=DATA, help="measurements, in the columns of the default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="what the simulation gave, row by row")
    return parser.parse_args()


def _measured_here() -> Iterator[Row]:
    """The runs of `vram_measure`, where there are any. Their 4-bit weights were made, not loaded: the
    allocator holds nothing that loading left."""
    for index, line in enumerate(lines()):
        plan, memory = Plan.from_dict(line["plan"]), line["measured"]
        method, reserved = type(plan.method).__name__.lower(), memory["reserved"]["value"]
        taken = memory["allocated"]["value"], None if plan.quantized else reserved
        yield Row(f"here-{index:03}", "measured here", method, plan.gpu, plan, *taken, line["versions"])


def _key(row: Row) -> tuple[str, str, str]:
    return row.group, row.method, row.gpu


def _simulated(kept: list[Row], out: Path, fresh: bool) -> Iterator[tuple[str, Result]]:
    """Each row's name and bytes; written as they come, so that a run that was stopped can go on."""
    done: dict[str, Result] = {}
    if out.exists() and not fresh:
        with out.open(encoding="utf-8", newline="") as file:
            done = {said["row"]: _bytes(said) for said in csv.DictReader(file)}
    versions = "; ".join(f"{name} {version(name)}" for name in LIBRARIES)
    with out.open("a" if done else "w", encoding="utf-8", newline="") as file:
        for row in track(kept, "rows"):
            # several cards, and experts as modules, which the installed code has not: the closed form alone
            if row.cards > 1 or (row.plan.model.experts and row.plan.transformers_version < (5, 0)):
                continue
            if row.name not in done:
                result = _result(row)
                columns = ["row", *result, "versions"]
                written = csv.DictWriter(file, columns, lineterminator="\n")
                if not file.tell():
                    written.writeheader()
                written.writerow({"row": row.name, **result, "versions": versions})
                file.flush()
                done[row.name] = result
            yield row.name, done[row.name]


def _result(row: Row) -> Result:
    memory = simulate(row.plan)
    return {
        "allocated": row.allocated,
        "simulated": memory.allocated.value,
        "reserved": row.reserved or 0,
        "reserved_low": memory.reserved.low,
        "reserved_simulated": memory.reserved.value,
        "reserved_high": memory.reserved.high,
    }


def _bytes(said: dict[str, str]) -> Result:
    return {name: int(text) for name, text in said.items() if name not in ("row", "versions")}


def _compare(result: Result, errors: dict[str, list[float]]) -> None:
    errors["simulate"].append(_percent(result["simulated"], result["allocated"]))
    if result["reserved"]:
        errors["reserved"].append(_percent(result["reserved_simulated"], result["reserved"]))


def _inside(kept: list[Row], results: dict[str, Result]) -> dict[tuple[str, ...], set[str]]:
    """How many reserved figures lie in their interval, where it is one: remarks by key and tool."""
    hits = defaultdict(list)
    for row in kept:
        result = results.get(row.name, {"reserved": 0})
        if result["reserved"] and result["reserved_low"] < result["reserved_high"]:
            hit = result["reserved_low"] <= result["reserved"] <= result["reserved_high"]
            hits[*_key(row), "reserved"].append(hit)
    return {key: {f"{sum(found)} of {len(found)} in the interval"} for key, found in hits.items()}


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
