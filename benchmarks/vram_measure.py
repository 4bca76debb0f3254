"""Measured runs on the GPU at hand: methods, models of 135M to 8B with random weights, three optimizers.

python -m benchmarks.vram_measure    adds to benchmarks/data/vram_measured_here.jsonl what it has not yet

Each run is a process of its own, so that nothing of the one before is left in the allocator. `vram_accuracy`
puts the file, with its card and versions, into the same table as the published rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import cycle, product
from pathlib import Path
from typing import Any

from toolkit.methods import IA3, Adapter, Full, LoRA, Method, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Optimizer, Plan
from toolkit.vram import MeasureError, estimate, measure
from toolkit.vram.gpus import GPU, GPUError, gpu

HERE = Path(__file__).parent / "data" / "vram_measured_here.jsonl"
MODELS = ("SmolLM2-135M", "SmolLM2-360M", "Qwen2.5-1.5B", "Llama-3.2-3B", "Qwen2.5-7B", "Llama-3.1-8B")
METHODS: tuple[Method, ...] = (Full(), LoRA(16, targets="all-linear"), QLoRA(16, targets="all-linear"))
OTHERS: tuple[Method, ...] = (PrefixTuning(), PromptTuning(), IA3(), Adapter(), LoRA(use_dora=True))
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "adamw_fused", "adamw_8bit")
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def plans(card: GPU) -> Iterator[Plan]:
    """The runs that may fit on `card`: with and without checkpointing, the optimizers in turn."""
    dtype = "bf16" if card.bf16 else "fp16"
    optimizers = cycle(OPTIMIZERS)
    grid = [*product(MODELS, METHODS, (False, True)), *product(MODELS[:2], OTHERS, (False, True))]
    for name, method, checkpointing in grid:
        plan = Plan(
            Architecture.from_config(name),
            method,
            batch=2,
            seq_len=1024,
            dtype="fp32" if isinstance(method, Full) and not card.bf16 else dtype,
            compute_dtype=dtype,
            optimizer=next(optimizers),
            checkpointing=checkpointing,
            gpu=card.name,
        )
        if card.verdict(estimate(plan).process) != "exceeds":
            yield plan


def main() -> None:
    """Measure what is missing, one process a run; with a plan as argument, measure it and print the line."""
    try:
        if len(sys.argv) > 1:
            print(json.dumps(_measured(Plan.from_dict(json.loads(sys.argv[1])))))
            return
        card = _card()
    except (MeasureError, GPUError) as error:
        sys.exit(str(error))
    known = {json.dumps(line["plan"]) for line in lines()}
    for plan in plans(card):
        text = json.dumps(plan.to_dict())
        if text not in known:
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks.vram_measure", text], capture_output=True, text=True
            )
            said = (run.stderr if run.returncode else run.stdout).strip().splitlines()[-1]
            print(plan.model.name, type(plan.method).__name__, plan.optimizer, said[-200:], flush=True)
            if run.returncode == 0:
                with HERE.open("a", encoding="utf-8") as file:
                    file.write(said + "\n")


def lines() -> list[dict[str, Any]]:
    """The runs recorded so far: plan, card, versions, and the `Memory` that was measured."""
    return [json.loads(line) for line in HERE.read_text("utf-8").splitlines()] if HERE.exists() else []


def _card() -> GPU:
    import torch

    if not torch.cuda.is_available():
        raise MeasureError("no CUDA GPU on this machine: these runs are measured, so start them on one.")
    return gpu(torch.cuda.get_device_name())


def _measured(plan: Plan) -> dict[str, Any]:
    return {
        "plan": plan.to_dict(),
        "card": plan.gpu,
        "versions": {name: version(name) for name in LIBRARIES},
        "measured": measure(plan).to_dict(),
    }


if __name__ == "__main__":
    main()
