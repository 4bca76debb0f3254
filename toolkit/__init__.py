"""Parameter-efficient fine-tuning for students: methods, plans, counts, memory and training.

Imports no torch: heavy libraries are imported where they are used. The names are bound here at once, because
several functions are called like their file (`toolkit.count.count` is `toolkit.count` to a student).
"""

import logging

from toolkit.adapters import attach, merge, switch, unmerge
from toolkit.base_model import BaseModel, base_model
from toolkit.check import conferir, entregar
from toolkit.count import count
from toolkit.data import Example, read_examples
from toolkit.environment import environment_card
from toolkit.evaluation import choose, macro_f1, option_scores, perplexity
from toolkit.generation import answer, answers
from toolkit.merging import drift, merged_copy
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.plots import compare, plot_loss
from toolkit.run import Run, table
from toolkit.saved import load, save
from toolkit.tasks import clauses, facts_right, shop, tone
from toolkit.training import train

__all__ = [
    "IA3",
    "Adapter",
    "Architecture",
    "BaseModel",
    "Example",
    "Full",
    "LoRA",
    "Plan",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "Run",
    "answer",
    "answers",
    "attach",
    "base_model",
    "choose",
    "clauses",
    "compare",
    "conferir",
    "count",
    "drift",
    "entregar",
    "environment_card",
    "facts_right",
    "load",
    "macro_f1",
    "merge",
    "merged_copy",
    "option_scores",
    "perplexity",
    "plot_loss",
    "read_examples",
    "save",
    "shop",
    "switch",
    "table",
    "tone",
    "train",
    "unmerge",
]

# At its import on some CPUs bitsandbytes warns of a faster kernel that it would have to fetch from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
