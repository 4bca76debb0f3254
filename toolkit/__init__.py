"""Parameter-efficient fine-tuning for students: methods, plans, counts, memory and training.

Imports no torch: heavy libraries are imported where they are used. The names are bound here at once, because
several functions are called like their file (`toolkit.count.count` is `toolkit.count` to a student).
"""

from toolkit.base_model import BaseModel, base_model
from toolkit.count import count
from toolkit.environment import environment_card
from toolkit.methods import IA3, Adapter, Full, LoRA, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan

__all__ = [
    "IA3",
    "Adapter",
    "Architecture",
    "BaseModel",
    "Full",
    "LoRA",
    "Plan",
    "PrefixTuning",
    "PromptTuning",
    "QLoRA",
    "base_model",
    "count",
    "environment_card",
]
