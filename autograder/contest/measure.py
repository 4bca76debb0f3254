"""The score of an adapter: rebuilt on a trusted base, in a process of its own with a budget of time."""

import multiprocessing
from typing import TYPE_CHECKING, Any

from autograder import Refusal
from autograder.contest.handin import HandIn
from autograder.contest.rules import Contest

if TYPE_CHECKING:
    from toolkit import Example


def base_dimensions(contest: Contest) -> dict[str, Any]:
    """The dimensions of the contest's base, as toolkit.save writes them beside an adapter."""
    from toolkit import base_model

    dimensions: dict[str, Any] = base_model(contest.base).architecture.to_dict()
    return dimensions


def hidden_set(contest: Contest) -> list["Example"]:
    """The examples that adapters are measured on; raises Refusal where they cannot be read."""
    from toolkit.data import DataError, read_examples

    try:
        instruction = (contest.folder / contest.instruction).read_text(encoding="utf-8").strip()
        return read_examples(contest.folder / contest.test, contest.prompt, contest.answer, instruction)
    except (DataError, OSError) as reason:
        raise Refusal(f"The hidden set in {contest.folder} cannot be read: {reason}") from None


def measure(handin: HandIn, contest: Contest) -> float:
    """Macro-F1 on the hidden set. Raises Refusal where the adapter does not fit, or time runs out."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_measure, args=(there, handin, contest), daemon=True)
    worker.start()
    there.close()
    try:
        if not here.poll(contest.seconds):
            raise Refusal(f"took more than {contest.seconds:g} s", "a avaliação passou do tempo permitido")
        answer = here.recv()
    except EOFError:
        raise Refusal("ended its measurement", "a avaliação do adaptador não terminou") from None
    finally:
        worker.kill()
        worker.join()
    if isinstance(answer, str):
        raise Refusal("does not fit the base", answer)
    return float(answer)


def _measure(answer: Any, handin: HandIn, contest: Contest) -> None:
    """In the worker: send the score, or a sentence for the student."""
    import torch

    from autograder.judge.adapter import AdapterRefused, adapter_on
    from toolkit import base_model
    from toolkit.evaluation import choose, macro_f1

    torch.set_num_threads(1)
    base = base_model(contest.base)
    try:
        model = adapter_on(base.load().float(), (handin.config, handin.tensors))
    except AdapterRefused as reason:
        answer.send(str(reason))
        return
    examples = hidden_set(contest)
    truth = [example.answer for example in examples]
    guesses = choose(model, base.tokenizer, [example.prompt for example in examples], sorted(set(truth)))
    answer.send(macro_f1(truth, guesses))
