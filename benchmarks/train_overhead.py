"""`toolkit.train` against a bare peft loop and transformers' Trainer: time and peak memory, as ratios.

    python -m benchmarks.train_overhead [--base tiny] [--pairs 12] [--rounds 3] [--steps 8]

Against the bare loop, time is paired step by step: both models live in one process and take turns, each
first in every other pair, so that whatever else the machine does falls on both. The aim is a median ratio of
at most 1.03. The Trainer cannot be stepped from outside: there, and for the peaks (highest resident set or
CUDA allocation), each loop runs in a process of its own, interleaved in rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence

from toolkit import BaseModel, Example, LoRA, base_model
from toolkit.adapters import attach
from toolkit.data import collate, encode_all, order
from toolkit.loop import Loop
from toolkit.peak import Peak
from toolkit.recipe import Recipe

LEARNING_RATE, BATCH, LONGEST = 2e-4, 4, 512
DATA = [Example(f"Cláusula {n}: " + "texto da cláusula " * 20, f"tipo {n % 5}") for n in range(32)]


def ours(base: BaseModel, steps: int) -> Generator[None]:
    """The toolkit's loop, progress bar and all; a step each time it is asked."""
    plan = base.plan(LoRA(), batch=BATCH, seq_len=LONGEST)
    recipe = Recipe(steps, LEARNING_RATE, "linear", 0, weight_decay=0.0, clip=1.0, seed=0)
    loop = Loop(plan, recipe, base, encode_all(base.tokenizer, DATA, LONGEST))
    batches = loop.batches()
    with loop.bar() as bar:
        yield
        for _ in range(steps):
            loop.step([next(batches)])
            loop.show(bar)
            loop.agreed(False)
            yield


def bare(base: BaseModel, steps: int) -> Generator[None]:
    """The loop that one would write by hand; a step each time it is asked."""
    import torch

    plan = base.plan(LoRA(), batch=BATCH, seq_len=LONGEST)
    model = attach(base.load(plan), LoRA()).train()
    model.config.use_cache = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    encoded, indices = encode_all(base.tokenizer, DATA, LONGEST), order(len(DATA), 0)
    yield
    for _ in range(steps):
        batch = collate([encoded[next(indices)] for _ in range(BATCH)], base.tokenizer.pad_token_id)
        loss = model(**{key: value.to(model.device) for key, value in batch.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        yield


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


STEPPED = {"toolkit.train": ours, "bare loop": bare}
LOOPS = (*STEPPED, "Trainer")


def timed(loop: Generator[None]) -> tuple[float, float]:
    """Seconds of one step: by the clock, and of the processor (which a busy machine does not stretch)."""
    began = time.perf_counter(), time.process_time()
    next(loop)
    return time.perf_counter() - began[0], time.process_time() - began[1]


def paired(base: BaseModel, pairs: int) -> list[tuple[float, float]]:
    """The toolkit's times over the bare loop's, step by step; the first pair warms up."""
    loops = {name: make(base, pairs + 1) for name, make in STEPPED.items()}
    for loop in loops.values():
        next(loop)
    ratios = []
    for pair in range(pairs + 1):
        names = list(loops) if pair % 2 else list(loops)[::-1]
        seconds = {name: timed(loops[name]) for name in names}
        clock, processor = zip(seconds["toolkit.train"], seconds["bare loop"], strict=True)
        ratios.append((clock[0] / clock[1], processor[0] / processor[1]))
    return ratios[1:]


def one(name: str, base: BaseModel, steps: int) -> None:
    """Run one loop here and print its figures as the last line."""
    peak = Peak()
    if name == "Trainer":
        seconds = trainer(base, steps)
    else:
        loop = STEPPED[name](base, steps)
        next(loop)
        seconds = sum(timed(loop)[0] for _ in range(steps))
        loop.close()  # and the bar with it, before the figures are printed
    print(json.dumps({"seconds": seconds, "bytes": peak.bytes}))


def apart(name: str, base: str, steps: int) -> dict[str, float]:
    """Run one loop in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train_overhead", "--loop", name]
    command += ["--base", base, "--steps", str(steps)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(printed.splitlines()[-1])
    return figures


def tell(what: str, ratios: Sequence[float]) -> None:
    """Print the median of the ratios and their spread."""
    print(f"toolkit.train / {what}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    """Measure and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="SmolLM2-135M-Instruct")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--loop", choices=LOOPS)
    arguments = parser.parse_args()
    if arguments.loop:
        return one(arguments.loop, base_model(arguments.base), arguments.steps)
    if arguments.pairs:
        clock, processor = zip(*paired(base_model(arguments.base), arguments.pairs), strict=True)
        tell("bare loop, seconds a step, paired", clock)
        tell("bare loop, processor seconds a step, paired", processor)
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({name: apart(name, arguments.base, arguments.steps) for name in LOOPS})
        print(rounds[-1], flush=True)
    for peer, figure in (("bare loop", "bytes"), ("Trainer", "bytes"), ("Trainer", "seconds")):
        if rounds:
            tell(f"{peer}, {figure}", [r["toolkit.train"][figure] / r[peer][figure] for r in rounds])


if __name__ == "__main__":
    main()
