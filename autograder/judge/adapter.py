"""A student's adapter on a trusted base: its configuration and tensors come over, no claim about it does.

What the rebuilt model does (its loss, its answers, its merge) can then be measured by the test itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import peft
import torch
from torch import nn

from autograder.judge.remote import Remote

# Of a configuration only this is read. The rest could name code to import, files to load, work without end.
FIELDS: dict[str, dict[str, type]] = {
    "LORA": {
        **{"r": int, "lora_alpha": float, "target_modules": list, "use_rslora": bool, "use_dora": bool},
        **{"rank_pattern": dict, "alpha_pattern": dict},
    },
    "IA3": {"target_modules": list, "feedforward_modules": list},
    "PROMPT_TUNING": {"num_virtual_tokens": int},
    "PREFIX_TUNING": {"num_virtual_tokens": int},
}
KINDS = {
    "LORA": peft.LoraConfig,
    "IA3": peft.IA3Config,
    "PROMPT_TUNING": peft.PromptTuningConfig,
    "PREFIX_TUNING": peft.PrefixTuningConfig,
}
LARGEST = 512  # a rank, alpha, a number of virtual tokens
MOST = 1000  # modules; characters of a name


class AdapterRefused(AssertionError):
    """The adapter is not one; the sentence is for the student, and shows nothing of the test."""


def adapter_on(base: nn.Module, given: Any, name: str = "default") -> peft.PeftModel:
    """`base` with the adapter of `given` on it, in eval mode; LoRA, IA3, prompt or prefix.

    For tests, where it is at hand without an import. `base` is the test's own model, which becomes part of
    the result; `given` is the student's peft model, of which the adapter called `name` is taken, or what was
    handed in as a file: the pair of the dict of adapter_config.json and the dict of its tensors.
    Raises AdapterRefused where the configuration or a tensor (its shape, its finiteness) does not fit `base`.
    """
    if isinstance(given, tuple):
        config, saved = given
        model = _wrap(base, _configuration(config.get), name)
        wanted = peft.get_peft_model_state_dict(model, adapter_name=name)
        if not isinstance(saved, Mapping) or saved.keys() - wanted.keys():
            raise AdapterRefused("O adaptador tem tensores a mais: só os do próprio adaptador são aceitos.")
        found = {key: _fitting(saved.get(key), like, key) for key, like in wanted.items()}
        peft.set_peft_model_state_dict(model, found, adapter_name=name)
        return model.eval()
    config = given.peft_config[name]
    model = _wrap(base, _configuration(lambda field: getattr(config, field)), name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(_fitting(given.get_parameter(key), parameter, key))
    return model.eval()


def _wrap(base: nn.Module, config: peft.PeftConfig, name: str) -> peft.PeftModel:
    try:
        return peft.get_peft_model(base, config, adapter_name=name)
    except Exception as error:  # of peft's many
        raise AdapterRefused("O adaptador não serve neste modelo: confira os módulos-alvo.") from error


def _configuration(field: Any) -> peft.PeftConfig:
    """The configuration made anew of the fields that may count; `field` gives one by its name."""
    kind = field("peft_type")
    kind = kind.value if isinstance(kind, (Remote, peft.PeftType)) else kind
    if type(kind) is not str or kind not in FIELDS:
        raise AdapterRefused(f"Um adaptador deste tipo não é aceito; use um de: {', '.join(FIELDS)}.")
    values = {name: _plain(field(name), wanted, name) for name, wanted in FIELDS[kind].items()}
    first = {"init_lora_weights": True} if kind == "LORA" else {}
    return KINDS[kind](task_type="CAUSAL_LM", **first, **{k: v for k, v in values.items() if v is not None})


def _plain(value: Any, wanted: type, name: str) -> Any:
    """A value of the kind wanted and of a bounded size; None is peft's own default."""
    if wanted is list and type(value) in (list, tuple, set):
        value = list(value)
    fits: dict[type, Callable[[], bool]] = {
        bool: lambda: type(value) is bool,
        int: lambda: type(value) is int and 0 < value <= LARGEST,
        float: lambda: type(value) in (int, float) and 0 < value <= LARGEST,
        list: lambda: type(value) is list and len(value) <= MOST and all(map(_is_name, value)),
        dict: lambda: type(value) is dict and not value,
    }
    if value is None or fits[wanted]():
        return value
    raise AdapterRefused(f"Na configuração do adaptador, {name} não é um valor aceito.")


def _is_name(value: Any) -> bool:
    return type(value) is str and len(value) <= MOST


def _fitting(tensor: Any, like: torch.Tensor, key: str) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor) or tensor.shape != like.shape or not tensor.is_floating_point():
        raise AdapterRefused(f"O adaptador não tem um tensor {key} de forma {tuple(like.shape)}.")
    if not torch.isfinite(tensor).all():
        raise AdapterRefused(f"O tensor {key} do adaptador tem valores que não são números finitos.")
    return tensor.detach().to(like.dtype)
