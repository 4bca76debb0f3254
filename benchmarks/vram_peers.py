"""What other public tools answer for the rows of `vram_accuracy`: peak allocated bytes, row by row.

The tools stay out of the project's environment. In one of their own, beside the project:

    pip install -e . fitcheck-llm==0.3.1 vramcalc==0.1.2 hf-mem==0.5.6 accelerate transformers torch
    pip install setuptools wheel
    DS_BUILD_OPS=0 pip install --no-build-isolation deepspeed==0.19.8
    python -m benchmarks.vram_peers                    writes benchmarks/data/vram_peers.csv

Each is given the model's config on disk and every switch that it accepts; a row that it cannot express has a
reason in place of a number, never a number for another run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measured_rows import DATA, Row, rows
from toolkit import catalogue
from toolkit.methods import Full, LoRA, QLoRA

PEERS = DATA.parent / "vram_peers.csv"
OWN_ROWS = {"fitcheck-llm": "fitcheck-t4", "vramcalc": "vramcalc-a6000"}
CARDS = {"T4": "t4", "RTX A6000": "a6000", "A100 80 GB": "a100-80"}
MIB = 2**20
Ask = Callable[[Row, Path], float]


class NoAnswerError(Exception):
    """The tool cannot express this row; the message says why."""


def accelerate(row: Row, config: Path) -> float:
    """`accelerate estimate-memory`, "Training using Adam", from its own functions: the command reads the hub
    only. It takes a dtype; batch, sequence, checkpointing, attention and adapters it does not know."""
    import torch
    from accelerate import init_empty_weights
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModel

    _full_only(row)
    with init_empty_weights():
        model = AutoModel.from_config(AutoConfig.from_pretrained(config), dtype=torch.float32)
    return float(max(estimate_training_usage(calculate_maximum_sizes(model)[0], "float16").values()))


def deepspeed(row: Row, config: Path) -> float:
    """`estimate_zero2_model_states_mem_needs` for one GPU without offload: it takes the parameters alone, and
    answers weights, gradients and optimizer states, without activations."""
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    _full_only(row)
    parameters = catalogue.parameters(row.plan.model.name)
    return float(estimate_zero2_model_states_mem_needs(parameters, 1, 1, cpu_offload=False)[1])


def fitcheck(row: Row, config: Path) -> float:
    """`fitcheck`'s total without its overhead (context and fragmentation), that is, its tensors. It reads the
    hub's cache, so the config is put there; `flash_attn` stands for every kernel that keeps no scores."""
    from fitcheck import TrainingConfig, UnsupportedModelError, estimate, fetch_model_config, get_gpu

    plan, method = row.plan, row.plan.method
    switches: dict[str, Any] = {"lora_rank": None}
    if isinstance(method, LoRA):
        switches = {"lora_rank": method.rank, "lora_targets": list(method.targets)}
    if isinstance(method, QLoRA):
        switches |= {"quantization": "nf4", "double_quant": method.double_quant}
    training = TrainingConfig(
        precision=plan.compute_dtype if plan.autocast else plan.dtype,
        batch_size=plan.batch,
        seq_len=plan.seq_len,
        grad_checkpoint=plan.checkpointing,
        flash_attn=plan.attention != "eager",
        optimizer_dtype="bf16" if isinstance(method, Full) and plan.dtype == "bf16" else "fp32",
        **switches,
    )
    try:
        report = estimate(fetch_model_config(plan.model.name), training, get_gpu(CARDS[plan.gpu]))
    except UnsupportedModelError:
        raise NoAnswerError("refuses a mixture of experts") from None
    return (report.total_mib - report.overhead_mib) * MIB


def vramcalc(row: Row, config: Path) -> float:
    """`vramcalc`'s total, which leaves the context out. Its adapters are always on q, k, v and o,
    and its "amp" keeps fp32 weights, so bf16 weights under autocast are "pure" to it."""
    from vramcalc.estimate import estimate

    plan, method = row.plan, row.plan.method
    if isinstance(method, QLoRA):
        raise NoAnswerError("has no 4-bit weights")
    answer = estimate(
        str(config),
        mode="train",
        dtype=plan.compute_dtype if plan.autocast else plan.dtype,
        batch=plan.batch,
        seq_len=plan.seq_len,
        lora_rank=method.rank if isinstance(method, LoRA) else None,
        grad_checkpoint=plan.checkpointing,
        precision="amp" if plan.autocast and plan.dtype == "fp32" else "pure",
        attn_impl="sdpa" if plan.attention == "efficient" else plan.attention,
    )
    return float(answer.total)


def hf_mem(row: Row, config: Path) -> float:
    """`hf-mem` counts inference alone. Its command reads the headers of a hub repository's weights; its own
    function over such headers is called here on those that the checkpoint of this config has."""
    from accelerate import init_empty_weights
    from hf_mem.safetensors.metadata import parse_safetensors_metadata
    from transformers import AutoConfig, AutoModelForCausalLM

    if row.plan.quantized:
        raise NoAnswerError("reads the dtype of the checkpoint, not one that is quantized on loading")
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config))
    header = {
        name: {"dtype": "F32" if row.plan.dtype == "fp32" else "BF16", "shape": list(parameter.shape)}
        for name, parameter in model.named_parameters()
    }
    return float(parse_safetensors_metadata({"Transformer": header}).bytes_count)


ASKED: dict[str, Ask] = {
    "accelerate": accelerate,
    "deepspeed": deepspeed,
    "fitcheck-llm": fitcheck,
    "vramcalc": vramcalc,
    "hf-mem": hf_mem,
}


def main() -> None:
    """Ask every tool about every row, and write what it said."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="measurements, in the columns of the default")
    parser.add_argument("--out", type=Path, default=PEERS)
    arguments = parser.parse_args()
    kept = [row for row in rows(arguments.data) if isinstance(row, Row)]
    with tempfile.TemporaryDirectory() as cache, arguments.out.open("w", encoding="utf-8", newline="") as out:
        os.environ |= {"HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": "1"}  # read when the hub's client is imported
        written = csv.writer(out, lineterminator="\n")
        written.writerow(["tool", "version", "row", "allocated_bytes", "remark"])
        for tool, ask in ASKED.items():
            for row in kept:
                said = _said(tool, ask, row, _on_disk(Path(cache), row.plan.model.name))
                written.writerow([tool, version(tool), row.name, *said])


def _said(tool: str, ask: Ask, row: Row, config: Path) -> tuple[int | str, str]:
    own = "fitted to these rows by its author" if OWN_ROWS.get(tool) == row.group else ""
    try:
        return round(ask(row, config)), own
    except NoAnswerError as reason:
        return "", str(reason)


def _on_disk(cache: Path, name: str) -> Path:
    """The folder with the model's config.json, where the hub's client looks for a downloaded one."""
    repo = cache / f"models--{name.replace('/', '--')}"
    folder = repo / "snapshots" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(catalogue.config(name)), encoding="utf-8")
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text("0", encoding="utf-8")
    return folder


def _full_only(row: Row) -> None:
    if not isinstance(row.plan.method, Full):
        raise NoAnswerError("has no frozen weights: all are trained")


if __name__ == "__main__":
    main()
