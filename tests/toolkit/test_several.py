"""Several processes learn what one learns: `accelerate launch` for real, gloo between them on the CPU."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.toolkit.several import METHODS, SETTINGS
from tests.toolkit.test_training import DATA, plan
from toolkit import checkpoint
from toolkit.training import train

PLAIN = [
    "--multi_gpu",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--num_machines",
    "1",
    "--num_processes",
    "2",
]
TOLERANCE = 1e-4  # relative: sums over two processes round in another order, and Adam carries it on
WAYS = pytest.mark.parametrize("way", [{}, {"FSDP_ON_CPU": "1"}], ids=["DDP", "FSDP2"])


def launch(tiny, way, *arguments):
    """`--multi_gpu` is how accelerate asks for several processes; the environment puts them on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", *PLAIN, "--main_process_port", port]
    command += ["-m", "tests.toolkit.several", *map(str, arguments)]
    forced = {**way, "ACCELERATE_USE_CPU": "true", "TOOLKIT_CACHE": str(tiny.folder.parent)}
    return subprocess.run(command, env={**os.environ, **forced}, capture_output=True, text=True)


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_learn_what_one_does_with_the_same_global_batch(tiny, tmp_path, method, way):
    done = launch(tiny, way, method, tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    losses, validation, tokens, _ = json.loads((tmp_path / "out.json").read_text())
    alone = train(plan(tiny, METHODS[method], accumulation=4), DATA, tiny, **SETTINGS)
    assert losses == pytest.approx(alone.losses, rel=TOLERANCE)
    assert [loss for _, loss in validation] == pytest.approx(
        [loss for _, loss in alone.validation], rel=TOLERANCE
    )
    assert tokens == alone.tokens
    assert done.stdout.count("Lotes completados") == 1


@pytest.mark.slow
@WAYS
def test_two_processes_that_were_killed_end_as_if_they_had_not_been(tiny, tmp_path, way):
    assert launch(tiny, way, "LoRA", tmp_path / "whole.json").returncode == 0
    assert launch(tiny, way, "LoRA", tmp_path / "killed.json", tmp_path / "run", "die").returncode != 0
    assert checkpoint.latest(tmp_path / "run").name == "step-00000002"
    assert launch(tiny, way, "LoRA", tmp_path / "killed.json", tmp_path / "run").returncode == 0
    assert (tmp_path / "killed.json").read_text() == (tmp_path / "whole.json").read_text()
