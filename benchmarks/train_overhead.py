"""`toolkit.train` against a bare peft loop and transformers' Trainer: time and peak memory, as ratios.

    python benchmarks/train_overhead.py [--base tiny] [--rounds 5] [--steps 10]

Each measurement runs in a process of its own (peaks do not mix), the three interleaved in every round, so
that whatever else the machine does falls on all of them. What counts is the time of the loop and the highest
resident set or CUDA allocation. Prints the median of the rounds' ratios; the aim is 1.03.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

from toolkit import BaseModel, Example, LoRA, base_model
from toolkit.adapters import attach
from toolkit.data import collate, encode_all, order
from toolkit.loop import Loop
from toolkit.peak import Peak
from toolkit.recipe import Recipe

LEARNING_RATE, BATCH, LONGEST = 2e-4, 4, 512
DATA = [Example(f"Cláusula {n}: " + "texto da cláusula " * 20, f"tipo {n % 5}") for n in range(32)]


def ours(base: BaseModel, steps: int) -> float:
    """Seconds of the loop: steps, progress bar and all."""
    plan = base.plan(LoRA(), batch=BATCH, seq_len=LONGEST)
    recipe = Recipe(steps, LEARNING_RATE, "linear", 0, weight_decay=0.0, clip=1.0, seed=0)
    loop = Loop(plan, recipe, base, encode_all(base.tokenizer, DATA, LONGEST))
    began = time.perf_counter()
    loop.run([], 0, None, steps)
    return time.perf_counter() - began


def bare(base: BaseModel, steps: int) -> float:
    """The loop that one would write by hand."""
    import torch

    plan = base.plan(LoRA(), batch=BATCH, seq_len=LONGEST)
    model = attach(base.load(plan), LoRA()).train()
    model.config.use_cache = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    encoded, indices = encode_all(base.tokenizer, DATA, LONGEST), order(len(DATA), 0)
    began = time.perf_counter()
    for _ in range(steps):
        batch = collate([encoded[next(indices)] for _ in range(BATCH)], base.tokenizer.pad_token_id)
        loss = model(**{key: value.to(model.device) for key, value in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    return time.perf_counter() - began


def trainer(base: BaseModel, steps: int) -> float:
    """transformers' Trainer on the same examples."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        began = 0.0

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.began = time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            weight_decay=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            optim="adamw_torch",
        )
        model = attach(base.load(base.plan(LoRA(), batch=BATCH, seq_len=LONGEST)), LoRA())
        model.config.use_cache = False
        Trainer(
            model=model,
            args=settings,
            train_dataset=encode_all(base.tokenizer, DATA, LONGEST),
            data_collator=lambda batch: collate(batch, base.tokenizer.pad_token_id),
            callbacks=[clock],
        ).train()
    return time.perf_counter() - clock.began


LOOPS = {"toolkit.train": ours, "bare loop": bare, "Trainer": trainer}


def one(loop: str, base: str, steps: int) -> None:
    """Run one loop here and print its figures as the last line."""
    peak = Peak()
    seconds = LOOPS[loop](base_model(base), steps)
    print(json.dumps({"seconds": seconds, "bytes": peak.bytes}))


def measure(loop: str, base: str, steps: int) -> dict[str, float]:
    """Run one loop in a process of its own."""
    command = [sys.executable, __file__, "--loop", loop, "--base", base, "--steps", str(steps)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(printed.splitlines()[-1])
    return figures


def main() -> None:
    """Measure in rounds and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--loop", choices=LOOPS)
    arguments = parser.parse_args()
    if arguments.loop:
        one(arguments.loop, arguments.base, arguments.steps)
        return
    rounds = []
    for number in range(arguments.rounds):
        rounds.append({loop: measure(loop, arguments.base, arguments.steps) for loop in LOOPS})
        print(f"round {number + 1}:", rounds[-1], flush=True)
    for peer in ("bare loop", "Trainer"):
        for figure in ("seconds", "bytes"):
            ratios = [r["toolkit.train"][figure] / r[peer][figure] for r in rounds]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"toolkit.train / {peer}, {figure}: {statistics.median(ratios):.3f} ({spread})")


if __name__ == "__main__":
    main()
