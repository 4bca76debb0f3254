"""The closed form against the simulation of the real code, over random plans: where they differ most.

python -m benchmarks.vram_agreement                  200 plans, the 20 largest differences by part
python -m benchmarks.vram_agreement --plans 50 --seed 7
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from toolkit import catalogue
from toolkit.methods import IA3, Adapter, Full, LoRA, Method, MethodError, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan, PlanError
from toolkit.presets import PRESETS, preset
from toolkit.vram import estimate, simulate
from toolkit.vram.memory import GIB, Memory

LAYERS = 2, 4, 8  # a simulation's time goes with them; what a layer takes does not
MEMORY = 160 * GIB  # of plans that someone might run
SWITCHES: dict[str, tuple[Any, ...]] = {
    "batch": (1, 1, 2, 4, 8, 16),
    "seq_len": (64, 256, 512, 1024, 2048, 4096, 8192),
    "accumulation": (1, 1, 4),
    "dtype": ("bf16", "bf16", "fp16", "fp32"),
    "autocast": (False, True),
    "compute_dtype": ("bf16", "bf16", "fp16", "fp32"),
    "adapter_dtype": ("fp32", "fp32", "bf16", "fp16"),
    "optimizer": (
        "adamw", "adamw_fused", "adamw_loop", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit",
        "adafactor", "sgd", "sgd_momentum",
    ),
    "checkpointing": (False, True),
    "reentrant": (False, True),
    "attention": ("sdpa", "eager", "efficient", "flash"),
    "loss": ("fp32", "in_place", "no_upcast", "chunked", "fused"),
    "kernels": ("torch", "torch", "norms", "liger", "lora"),
    "upcast": ("none", "none", "norms", "all"),
    "set_to_none": (True, True, False),
    "use_cache": (False, False, True),
    "padding": (False, True),
    "hold_output": ("never", "never", "backward", "step", "next"),
    "gpu": ("", "T4", "RTX A6000", "A100 80 GB", "H100 80 GB"),
    "transformers": ("5.23", "5.23", "4.55", "4.48", "4.45"),
    "peft": ("0.21", "0.19"),
    "bitsandbytes": ("0.50", "0.50", "0.43.1"),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A plan and both of its figures."""

    plan: Plan
    estimated: Memory
    simulated: Memory

    @property
    def difference(self) -> float:
        """Estimate over simulation, in percent."""
        return 100 * (self.estimated.allocated.value / self.simulated.allocated.value - 1)


def main() -> None:
    """Draw, compare, and print the summary by method and the largest differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plans", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--worst", type=int, default=20, help="how many of the largest differences to print")
    arguments, console = parser.parse_args(), Console()
    chance = random.Random(arguments.seed)
    pairs = [_pair(drawn(chance)) for _ in track(range(arguments.plans), "plans")]
    console.print(_summary(pairs))
    for pair in sorted(pairs, key=lambda pair: -abs(pair.difference))[: arguments.worst]:
        console.print(described(pair.plan), f"{pair.difference:+.2f} %", _parts(pair), sep="\n")


def drawn(chance: random.Random) -> Plan:
    """A plan that the checks accept: half of them a preset with a few switches changed, half all switches."""
    while True:
        try:
            plan = _drawn(chance)
        except (PlanError, MethodError):
            continue
        if estimate(plan).allocated.value < MEMORY:
            return plan


def _drawn(chance: random.Random) -> Plan:
    model = Architecture.from_config(chance.choice(catalogue.names()))
    model = replace(model, layers=min(model.layers, chance.choice(LAYERS)))
    method = _method(chance, model)
    switches = {name: chance.choice(values) for name, values in SWITCHES.items()}
    if "fp32" not in (switches["dtype"], switches["compute_dtype"]):
        switches["compute_dtype"] = switches["dtype"]  # autocast refuses to mix fp16 and bf16
    if model.experts:
        switches["transformers"] = "5.23"  # the installed code keeps experts in one parameter
    if chance.random() < 0.5:
        return Plan(model, method, **switches)
    plan = preset(chance.choice(list(PRESETS)), model, method)
    names = "batch", "seq_len", "gpu", *chance.sample(sorted(SWITCHES), 2)
    changes = {name: switches[name] for name in names}
    if "dtype" in changes and "compute_dtype" not in changes:
        changes["compute_dtype"] = switches["dtype"] if switches["dtype"] != "fp32" else "bf16"
    moved = plan.change(**changes)
    return moved.change(transformers="5.23") if model.experts else moved


def _method(chance: random.Random, model: Architecture) -> Method:
    names = [linear.name for linear in model.linears()]
    some = tuple(chance.sample(names, chance.randint(1, len(names))))
    targets = chance.choice(["all-linear", some])
    switches = {
        "rank": min(chance.choice([1, 8, 16, 64, 256]), *(linear.outputs for linear in model.linears())),
        "targets": targets,
        "dropout": chance.choice([0.0, 0.0, 0.1]),
        "use_rslora": chance.random() < 0.2,
        "use_dora": chance.random() < 0.2,
    }
    tokens = chance.choice([1, 20, 100])
    feedforward = tuple(name for name in some if name == model.traits.mlp_out)
    return chance.choice(
        [
            Full(),
            LoRA(**switches),
            QLoRA(**switches, double_quant=chance.random() < 0.7),
            QLoRA(**switches),
            chance.choice([PrefixTuning(tokens), PromptTuning(tokens), IA3(some, feedforward), Adapter(64)]),
        ]
    )


def _pair(plan: Plan) -> Pair:
    return Pair(plan, estimate(plan), simulate(plan))


def described(plan: Plan) -> str:
    """The plan in a line: what differs from the default."""
    plain = Plan(plan.model, plan.method).to_dict()
    changed = [f"{key}={value!r}" for key, value in plan.to_dict().items() if plain[key] != value]
    return f"{plan.model.name}[:{plan.model.layers}] {plan.method} {' '.join(changed)}"


def _summary(pairs: list[Pair]) -> Table:
    table = Table("method", "plans", "mean |difference| %", "worst %", "over 4 %")
    kinds = sorted({type(pair.plan.method).__name__ for pair in pairs})
    for kind in [*kinds, "all"]:
        found = [pair.difference for pair in pairs if kind in (type(pair.plan.method).__name__, "all")]
        table.add_row(
            kind,
            str(len(found)),
            f"{statistics.fmean(map(abs, found)):.2f}",
            f"{max(found, key=abs):+.2f}",
            str(sum(abs(one) > 4 for one in found)),
        )
    return table


def _parts(pair: Pair) -> Table:
    """MiB by part at each one's peak; both sources at each moment on the last lines."""
    first, second = pair.estimated, pair.simulated
    table = Table("", f"estimate ({first.peak_moment})", f"simulate ({second.peak_moment})")
    for part in {**first.peak, **second.peak}:
        table.add_row(part, *(f"{memory.peak.get(part, 0) / 2**20:.0f}" for memory in (first, second)))
    for moment in first.moments:
        table.add_row(f"at {moment}", *(f"{memory.total(moment) / 2**20:.0f}" for memory in (first, second)))
    return table


if __name__ == "__main__":
    main()
