"""The training loop on accelerate: its state, one step, validation, checkpoints, the progress bar."""

from __future__ import annotations

import hashlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

from toolkit import checkpoint
from toolkit.adapters import attach
from toolkit.base_model import BaseModel
from toolkit.count import count
from toolkit.data import Encoded, collate, order, pack, padding_share
from toolkit.evaluation import Metric, mean_loss
from toolkit.folders import DiskError
from toolkit.generation import evaluating
from toolkit.peak import Peak
from toolkit.plan import Plan
from toolkit.recipe import Recipe, TrainingError, make_optimizer
from toolkit.run import Run
from toolkit.saved import saved_bytes
from toolkit.shards import sharded, whole
from toolkit.vram.memory import GIB

MEASURED = ("losses", "validation", "before", "seconds", "tokens", "longest")  # what a checkpoint keeps of it


class Loop:
    """The state of one run: model, optimizer, schedule, what was measured so far."""

    def __init__(self, plan: Plan, recipe: Recipe, base: BaseModel, data: Sequence[Encoded]) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from transformers import get_scheduler

        self.plan, self.recipe, self.data, self.pad = plan, recipe, data, base.tokenizer.pad_token_id
        AcceleratorState._reset_state()  # a notebook may have trained in another precision before
        self.accelerator = Accelerator(mixed_precision=plan.compute_dtype if plan.autocast else "no")
        self.peak = Peak()
        self.model = self.wrapped = prepare(plan, base, recipe.seed)
        optimizer = make_optimizer(plan, checkpoint.parameters(self.model), recipe)
        self.schedule = get_scheduler(recipe.schedule, optimizer, recipe.warmup, recipe.steps)
        if self.accelerator.num_processes == 1:
            self.optimizer = self.accelerator.prepare(optimizer)
        else:  # alone, a prepared model would only be made to give fp32 logits
            self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.trained = checkpoint.parameters(self.model)
        self.losses: list[float] = []
        self.validation: list[tuple[int, float]] = []
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.seconds, self.tokens, self.longest = 0.0, 0, 1

    def run(
        self,
        held_out: Sequence[Encoded],
        every: int,
        folder: Path | None,
        keep_every: int,
        metric: Metric | None = None,
    ) -> None:
        """Take the steps that are left; `metric` is not taken of an interrupted run."""
        batches = self.batches()
        self.say(self.layout())
        if metric and not self.losses:
            self.before = self.score(metric, base=True)
        with self.bar() as bar, interruptible() as interrupted:
            if held_out and not self.losses:
                self.validate(held_out)
            for step in range(len(self.losses) + 1, self.recipe.steps + 1):
                self.step([next(batches) for _ in range(self.group)])
                self.show(bar)
                stop = self.agreed(interrupted.is_set())
                last = step == self.recipe.steps or stop
                if held_out and (last or (every and step % every == 0)):
                    self.validate(held_out)
                if folder and (last or step % keep_every == 0):
                    self.keep(folder)
                if stop:
                    again = " Retome com resume=True." if folder else ""
                    return self.say(f"Interrompido depois do passo {step}.{again}")
        if metric:
            self.after = self.score(metric)

    @property
    def group(self) -> int:
        """Micro-batches of a step, those of all processes."""
        processes: int = self.accelerator.num_processes
        return self.plan.accumulation * processes

    def agreed(self, flag: bool) -> bool:
        """Whether the flag is set in any process: what one does differently, the others would wait for."""
        if self.accelerator.num_processes == 1:
            return flag
        import torch

        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device)))

    def say(self, text: str) -> None:
        """Print it once, whatever the number of processes."""
        self.accelerator.print(text)

    def score(self, metric: Metric, base: bool = False) -> dict[str, float]:
        """The metric of the model as it stands, or of its base, without the adapter."""
        alone = self.model.disable_adapter if base and hasattr(self.model, "peft_config") else nullcontext
        with evaluating(self.model), alone(), self.accelerator.autocast():
            return dict(metric(self.model))

    def batches(self) -> Iterator[list[Encoded]]:
        """Micro-batches from where the run stands, in the order that the seed gives."""
        size = self.plan.batch
        stream = itertools.islice(
            order(len(self.data), self.recipe.seed), len(self.losses) * self.group * size, None
        )
        while True:
            yield [self.data[index] for index in itertools.islice(stream, size)]

    def step(self, group: Sequence[Sequence[Encoded]]) -> None:
        """One optimizer step over the micro-batches of `group`."""
        import torch

        # dropout: the same after a resume, another in each process
        torch.manual_seed(self.recipe.seed + len(self.losses) + 2**32 * self.accelerator.process_index)
        began = time.perf_counter()
        answers = sum(len(e.ids) - e.prompt_length for batch in group for e in batch)
        mine = group[self.accelerator.process_index :: self.accelerator.num_processes]
        loss = sum(self.backward(batch, answers, last=batch is mine[-1]) for batch in mine)
        norm = self.accelerator.clip_grad_norm_(self.trained, self.recipe.clip)
        if not self.losses and not float(norm):
            raise TrainingError("os gradientes são todos 0, e nada seria aprendido: recarregue a base.")
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:  # an overflow in fp16
            self.schedule.step()
        self.optimizer.zero_grad()
        loss = self.accelerator.reduce(loss)
        self.losses.append(float(loss))
        self.seconds += time.perf_counter() - began
        self.tokens += sum(len(e.ids) for batch in group for e in batch)
        self.longest = max(self.longest, *map(self.width, group))
        if self.losses[-1] != self.losses[-1]:
            raise TrainingError(
                f"a perda virou NaN no passo {len(self.losses)}: diminua learning_rate e recomece."
            )

    def backward(self, batch: Sequence[Encoded], answers: int, last: bool) -> Any:
        """Gradients of one micro-batch's share of the step's mean loss over `answers` tokens.

        Processes average their gradients, after the last of their micro-batches: times their number, a sum.
        """
        together = nullcontext() if last else self.accelerator.no_sync(self.wrapped)
        with together:
            with self.accelerator.autocast():
                loss = self.wrapped(**self.tensors(batch), num_items_in_batch=answers).loss
            self.accelerator.backward(loss * self.accelerator.num_processes)
        return loss.detach()

    def tensors(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """The batch on the model's device."""
        laid_out = pack(batch) if self.recipe.packing else collate(batch, self.pad)
        return {key: value.to(self.model.device) for key, value in laid_out.items()}

    def width(self, batch: Sequence[Encoded]) -> int:
        """Tokens that each of the plan's sequences takes in this micro-batch."""
        lengths = [len(example.ids) for example in batch]
        return ceil(sum(lengths) / self.plan.batch) if self.recipe.packing else max(lengths)

    def layout(self) -> str:
        """How the examples of a micro-batch lie, in words."""
        if self.recipe.packing:
            return "Lotes emendados: sem enchimento, e sem atenção de um exemplo a outro."
        share = padding_share(self.data, self.plan.batch)
        return f"Lotes completados até o exemplo mais longo: {share:.0%} dos tokens são enchimento."

    def validate(self, held_out: Sequence[Encoded]) -> None:
        """Mean loss over the answer tokens of `held_out`, without training."""
        with self.accelerator.autocast():
            loss = mean_loss(self.model, held_out, self.plan.batch, self.pad)
        self.validation.append((len(self.losses), loss))

    def what(self) -> dict[str, Any]:
        """All that decides the run's result: a checkpoint that differs in any of it is another run's."""
        data = hashlib.sha256(repr([(e.ids, e.prompt_length) for e in self.data]).encode()).hexdigest()
        processes = self.accelerator.num_processes
        return {"plan": self.plan.to_dict(), "data": data, "processes": processes, **asdict(self.recipe)}

    def keep(self, folder: Path) -> None:
        """Write a checkpoint; the main process does, when all have handed it their shards."""
        weights = whole(checkpoint.trained(self.model))
        state = {
            "optimizer": whole(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "measured": {name: getattr(self, name) for name in MEASURED},
        }
        if self.accelerator.is_main_process:
            try:
                checkpoint.write(folder, len(self.losses), self.what(), weights, state)
            except DiskError as error:
                self.say(f"Aviso: {error} O treino continua, sem este checkpoint.")
        self.accelerator.wait_for_everyone()

    def restore(self, kept: Path) -> None:
        """Go back to where a checkpoint was written."""
        weights, state = checkpoint.read(kept, self.what())
        checkpoint.put(self.model, weights)
        self.optimizer.load_state_dict(sharded(state["optimizer"], self.trained))
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for name in MEASURED:
            setattr(self, name, state["measured"][name])
        self.say(f"Retomando depois do passo {len(self.losses)}.")

    def bar(self) -> Any:
        """A progress bar, with the time left."""
        from tqdm.auto import tqdm

        return tqdm(
            total=self.recipe.steps,
            initial=len(self.losses),
            desc="Treino",
            file=sys.stdout,
            disable=not self.accelerator.is_main_process,
        )

    def show(self, bar: Any) -> None:
        """Move the bar on: loss, speed, memory now and at its peak."""
        speed = f"{self.tokens / self.seconds:.0f} tokens/s"
        memory = f"memória {self.peak.now / GIB:.2f}, pico {self.peak.bytes / GIB:.2f} GiB"
        bar.set_postfix_str(f"perda {self.losses[-1]:.3f}, {speed}, {memory}")
        bar.update()

    def report(self) -> Run:
        """What was measured, and the trained model, ready to answer."""
        counted = count(self.model)
        return Run(
            plan=self.plan,
            parameters=counted.total,
            trainable=counted.trainable,
            seconds=self.seconds,
            tokens=self.tokens,
            longest=self.longest,
            measured=self.peak.memory(self.model, self.optimizer),
            memory_kind=self.peak.kind,
            losses=tuple(self.losses),
            validation=tuple(self.validation),
            before=self.before,
            after=self.after,
            adapter_bytes=saved_bytes(self.model),
            model=self.model.eval(),
        )


def prepare(plan: Plan, base: BaseModel, seed: int) -> Any:
    """A fresh copy of the base with the plan's method on it, ready for the first step."""
    import torch

    model = base.load(plan)
    torch.manual_seed(seed)  # the adapter starts at random
    model = attach(model, plan.method)
    if plan.checkpoints_memory:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": plan.reentrant})
        if plan.reentrant:
            model.enable_input_require_grads()
    model.config.use_cache = False
    return model.train()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of breaking a step in two; outside the main thread it stays as it is."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
