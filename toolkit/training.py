"""The real fine-tune: one short loop on accelerate, measured, that can be interrupted and resumed."""

from __future__ import annotations

import hashlib
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from toolkit import checkpoint
from toolkit.adapters import adapter_weights, attach
from toolkit.base_model import BaseModel
from toolkit.count import count
from toolkit.data import Encoded, Example, collate, encode_all, order
from toolkit.peak import Peak
from toolkit.plan import Plan
from toolkit.recipe import Recipe, Schedule, TrainingError, make_optimizer
from toolkit.run import Run
from toolkit.vram.memory import GIB

# What the loop does, whatever the plan says; a plan that says otherwise is refused.
FIXED = ("loss", "upcast", "adapter_dtype", "set_to_none", "use_cache", "hold_output")


def train(
    plan: Plan,
    data: Sequence[Example],
    base: BaseModel,
    *,
    steps: int,
    learning_rate: float = 2e-4,
    schedule: Schedule = "cosine",
    warmup: int | None = None,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    seed: int = 0,
    validation: Sequence[Example] = (),
    validate_every: int = 0,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 50,
    resume: bool = False,
) -> Run:
    """Fine-tune a fresh copy of `base` as `plan` says, on `data`, for `steps` optimizer steps.

    A step sees `plan.batch * plan.accumulation` examples, padded to the longest of a micro-batch; its loss is
    the mean over all their answer tokens. `warmup` (steps) is a tenth of `steps` where not given, `clip` the
    largest norm of the gradients. `validation` is measured before, after, and `validate_every` steps.

    With `checkpoint_dir`, the state is written every `checkpoint_every` steps and on Ctrl-C, which ends the
    run after the step in hand; `resume=True` goes on from there with the same data order, and starts anew
    where there is no checkpoint. What goes wrong is said in one sentence: TrainingError, DataError,
    AdapterError, CheckpointError.
    """
    _check_plan(plan, base)
    warmup = steps // 10 if warmup is None else warmup
    recipe = Recipe(steps, learning_rate, schedule, warmup, weight_decay, clip, seed)
    encoded = encode_all(base.tokenizer, data, plan.seq_len)
    held_out = encode_all(base.tokenizer, validation, plan.seq_len) if validation else []
    folder = Path(checkpoint_dir) if checkpoint_dir else None
    _check_folder(folder, resume)
    try:
        loop = Loop(plan, recipe, base, encoded)
        if folder and resume and (newest := checkpoint.latest(folder)):
            loop.restore(newest)
        loop.run(held_out, validate_every, folder, checkpoint_every)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise TrainingError(_out_of_memory(plan)) from None
        raise
    return loop.report()


class Loop:
    """The state of one run: model, optimizer, schedule, what was measured so far."""

    def __init__(self, plan: Plan, recipe: Recipe, base: BaseModel, data: Sequence[Encoded]) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from transformers import get_scheduler

        self.plan, self.recipe, self.data, self.pad = plan, recipe, data, base.tokenizer.pad_token_id
        self.peak = Peak()
        AcceleratorState._reset_state()  # a notebook may have trained in another precision before
        self.accelerator = Accelerator(mixed_precision=plan.compute_dtype if plan.autocast else "no")
        self.model = prepare(plan, base, recipe.seed)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = make_optimizer(plan, self.trained, recipe)
        schedule = get_scheduler(recipe.schedule, optimizer, recipe.warmup, recipe.steps)
        self.optimizer, self.schedule = self.accelerator.prepare(optimizer, schedule)
        self.losses: list[float] = []
        self.validation: list[tuple[int, float]] = []
        self.seconds, self.tokens = 0.0, 0

    def run(self, held_out: Sequence[Encoded], every: int, folder: Path | None, keep_every: int) -> None:
        """Take the steps that are left."""
        batches = self.batches()
        with self.bar() as bar, interruptible() as interrupted:
            if held_out and not self.losses:
                self.validate(held_out)
            for step in range(len(self.losses) + 1, self.recipe.steps + 1):
                self.step([next(batches) for _ in range(self.plan.accumulation)])
                self.show(bar)
                last = step == self.recipe.steps or interrupted.is_set()
                if held_out and (last or (every and step % every == 0)):
                    self.validate(held_out)
                if folder and (last or step % keep_every == 0):
                    self.keep(folder)
                if interrupted.is_set():
                    print(
                        f"Interrompido depois do passo {step}."
                        + (" Retome com resume=True." if folder else "")
                    )
                    break

    def batches(self) -> Iterator[list[Encoded]]:
        """Micro-batches from where the run stands, in the order that the seed gives."""
        size = self.plan.batch
        stream = itertools.islice(
            order(len(self.data), self.recipe.seed), len(self.losses) * self.plan.accumulation * size, None
        )
        while True:
            yield [self.data[index] for index in itertools.islice(stream, size)]

    def step(self, group: Sequence[Sequence[Encoded]]) -> None:
        """One optimizer step over the micro-batches of `group`."""
        import torch

        torch.manual_seed(self.recipe.seed + len(self.losses))  # dropout: the same after a resume
        began = time.perf_counter()
        answers = sum(len(e.ids) - e.prompt_length for batch in group for e in batch)
        loss = sum(self.backward(batch, answers) for batch in group)
        self.accelerator.clip_grad_norm_(self.trained, self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss))
        self.seconds += time.perf_counter() - began
        self.tokens += sum(len(e.ids) for batch in group for e in batch)
        if self.losses[-1] != self.losses[-1]:
            raise TrainingError(
                f"a perda virou NaN no passo {len(self.losses)}: diminua learning_rate e recomece."
            )

    def backward(self, batch: Sequence[Encoded], answers: int) -> Any:
        """Gradients of one micro-batch's share of the step's mean loss over `answers` tokens."""
        with self.accelerator.autocast():
            loss = self.model(**self.tensors(batch), num_items_in_batch=answers).loss
        self.accelerator.backward(loss)
        return loss.detach()

    def tensors(self, batch: Sequence[Encoded]) -> dict[str, Any]:
        """The batch on the model's device."""
        return {key: value.to(self.model.device) for key, value in collate(batch, self.pad).items()}

    def validate(self, held_out: Sequence[Encoded]) -> None:
        """Mean loss over the answer tokens of `held_out`, without training."""
        import torch

        self.model.eval()
        answers = sum(len(e.ids) - e.prompt_length for e in held_out)
        total = 0.0
        with torch.no_grad(), self.accelerator.autocast():
            for start in range(0, len(held_out), self.plan.batch):
                batch = self.tensors(held_out[start : start + self.plan.batch])
                total += float(self.model(**batch, num_items_in_batch=answers).loss)
        self.model.train()
        self.validation.append((len(self.losses), total))

    def what(self) -> dict[str, Any]:
        """All that decides the run's result: a checkpoint that differs in any of it is another run's."""
        data = hashlib.sha256(repr([(e.ids, e.prompt_length) for e in self.data]).encode()).hexdigest()
        return {"plan": self.plan.to_dict(), "data": data, **asdict(self.recipe)}

    def keep(self, folder: Path) -> None:
        """Write a checkpoint."""
        state = {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "measured": (self.losses, self.validation, self.seconds, self.tokens),
        }
        checkpoint.write(folder, len(self.losses), self.what(), self.model, state)

    def restore(self, kept: Path) -> None:
        """Go back to where a checkpoint was written."""
        state = checkpoint.read(kept, self.what(), self.model)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.losses, self.validation, self.seconds, self.tokens = state["measured"]
        print(f"Retomando depois do passo {len(self.losses)}.")

    def bar(self) -> Any:
        """A progress bar, with the time left."""
        from tqdm.auto import tqdm

        return tqdm(total=self.recipe.steps, initial=len(self.losses), desc="Treino", file=sys.stdout)

    def show(self, bar: Any) -> None:
        """Move the bar on: loss, speed, peak memory."""
        speed = f"{self.tokens / self.seconds:.0f} tokens/s"
        bar.set_postfix_str(f"perda {self.losses[-1]:.3f}, {speed}, pico {self.peak.bytes / GIB:.2f} GiB")
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
            peak_memory=self.peak.bytes,
            memory_kind=self.peak.kind,
            losses=tuple(self.losses),
            validation=tuple(self.validation),
            adapter_bytes=_saved_bytes(self.model),
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


def _saved_bytes(model: Any) -> int:
    """Bytes of the file that `toolkit.save` would write."""
    if not hasattr(model, "peft_config"):
        return sum(p.numel() * p.element_size() for p in model.parameters())
    from safetensors.torch import save

    return len(save({key: value.contiguous() for key, value in adapter_weights(model).items()}))


def _check_plan(plan: Plan, base: BaseModel) -> None:
    def dimensions(model: Any) -> dict[str, Any]:
        return {**model.to_dict(), "name": ""}

    if dimensions(plan.model) != dimensions(base.architecture):
        raise TrainingError(
            f"o plano é para {plan.model.name} e a base é {base.name}: faça-o com base.plan(...)."
        )
    for field in fields(Plan):
        if field.name in FIXED and getattr(plan, field.name) != field.default:
            raise TrainingError(
                f"train só roda com {field.name}={field.default!r}; o plano pede "
                f"{getattr(plan, field.name)!r}, que serve para estimar o treino de outras bibliotecas."
            )


def _check_folder(folder: Path | None, resume: bool) -> None:
    if folder and not resume and (newest := checkpoint.latest(folder)):
        raise TrainingError(
            f"já existe o checkpoint {newest}: use resume=True para retomá-lo, ou outra pasta."
        )


def _out_of_memory(plan: Plan) -> str:
    saver = "checkpointing=True" if not plan.checkpointing else "batch menor, com mais accumulation"
    if plan.batch > 1:
        saver = f"batch={plan.batch // 2} e accumulation={plan.accumulation * 2}"
    return f"a memória da GPU acabou: refaça o plano com {saver}, um seq_len menor ou QLoRA."
