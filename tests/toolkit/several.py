"""One training on several processes, as `accelerate launch` starts it; the main one writes the losses.

    accelerate launch ... -m tests.toolkit.several METHOD OUT [CHECKPOINTS [die]]

With `die` every process is gone after step 4. With FSDP_ON_CPU in the environment the model is sharded.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState

from tests.toolkit.test_training import DATA, plan
from toolkit import checkpoint
from toolkit.base_model import base_model
from toolkit.loop import Loop
from toolkit.methods import Full, LoRA
from toolkit.shards import whole
from toolkit.training import train

METHODS = {"Full": Full(), "LoRA": LoRA(rank=4, targets="all-linear")}
SETTINGS = {"steps": 6, "learning_rate": 1e-2, "validation": DATA[:3], "checkpoint_every": 2}


def shard_on_cpu():
    """accelerate takes its FSDP2 way on cards only (state.py); here it takes it on the CPU too."""
    made = AcceleratorState.__init__

    def sharding(self, *args, **kwargs):
        made(self, *args, **kwargs)
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
        )

    AcceleratorState.__init__ = sharding


def main(method: str, out: str, checkpoints: str = "", die: str = "") -> None:
    torch.set_num_threads(1)
    tiny = base_model("tiny")
    if "FSDP_ON_CPU" in os.environ:
        shard_on_cpu()
    if die:
        show = Loop.show
        Loop.show = lambda loop, bar: os._exit(1) if len(loop.losses) == 4 else show(loop, bar)
    chosen = plan(tiny, METHODS[method], accumulation=2)
    run = train(chosen, DATA, tiny, checkpoint_dir=checkpoints or None, resume=True, **SETTINGS)
    weights = whole(checkpoint.trained(run.model))
    if Accelerator().is_main_process:
        total = sum(float(w.double().abs().sum()) for w in weights.values())
        Path(out).write_text(json.dumps([run.losses, run.validation, run.tokens, total]))


if __name__ == "__main__":
    main(*sys.argv[1:])
