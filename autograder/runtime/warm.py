"""What is imported once, before any fork, and the proof that the process may still be forked."""

import contextlib
import gc
import os
import pkgutil
import sys
from pathlib import Path

# Classes too: transformers imports a module only when one of its names is asked for.
PRELOAD = """
    torch numpy safetensors.torch peft bitsandbytes matplotlib.pyplot matplotlib_inline.backend_inline
    accelerate sklearn.metrics fairlearn.metrics statsmodels.stats.proportion scipy.stats
    tqdm.auto rich.live rich.table rich.panel rich.jupyter
    peft.tuners.lora.bnb peft.utils.transformers_weight_conversion
    toolkit toolkit.environment toolkit.exercise
    transformers.AutoConfig transformers.AutoModelForCausalLM transformers.AutoTokenizer
    transformers.LlamaConfig transformers.LlamaForCausalLM transformers.DynamicCache
"""
# A thread of these names does nothing that a fork could miss.
HARMLESS_THREADS = {"jemalloc_bg_thd"}


def warm_up() -> None:
    """Import what lessons use; a package that is not installed is left for the kernel to miss."""
    gc.disable()  # a tenth of the time of imports, which leave nothing to collect
    # ipykernel would look for the debugger in each kernel anew, 70 ms for what nobody uses there.
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    table = "transformers.conversion_mapping:get_checkpoint_conversion_mapping"
    with contextlib.suppress(ImportError, AttributeError):
        pkgutil.resolve_name(table)("llama")  # 1,000 patterns, compiled at first use
    for name in PRELOAD.split():
        with contextlib.suppress(ImportError, AttributeError):  # the second where another version lacks it
            pkgutil.resolve_name(name)
    gc.collect()
    gc.freeze()  # else each fork's collector would copy every page that it looks at
    gc.enable()


def check_threads() -> None:
    """Raise RuntimeError where a thread runs beside this one: a lock that it holds would hang every child."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    names = {(task / "comm").read_text().strip() for task in tasks}
    if names - HARMLESS_THREADS:
        raise RuntimeError(f"threads before the fork ({', '.join(sorted(names))}): no kernel can be started")
