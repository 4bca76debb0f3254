"""A Method put on a live model over peft; adapters switched, merged, and their weights read and set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from toolkit.environment import mend_torchao
from toolkit.methods import ALL_LINEAR, IA3, Adapter, Full, LoRA, Method, PrefixTuning, PromptTuning, QLoRA
from toolkit.quantization import keep_gradients, linears_4bit
from toolkit.shards import whole


class AdapterError(ValueError):
    """A method that does not fit the model, or a saved adapter that cannot be used; one sentence."""


def attach(model: Any, method: Method, name: str = "default") -> Any:
    """Put `method` on the model and give back what is to be trained; on a model with adapters, add one more.

    The adapter called `name` becomes the active one. Its weights are fp32 (peft's `autocast_adapter_dtype`)
    and start at random, so set the seed before; the base is frozen. `Full()` makes every parameter trainable.
    Raises AdapterError for a rank above the matrix' own, targets that name no module, a QLoRA on a base
    that is not in 4 bits, a name that is taken, or methods that cannot share a model.
    """
    if isinstance(method, Full):
        return model.requires_grad_(True)
    if isinstance(method, (LoRA, IA3)):
        _check_targets(model, method.targets)
    if isinstance(method, LoRA):
        _check_rank(model, method)
    if isinstance(method, QLoRA) and not linears_4bit(model):
        raise AdapterError(
            "QLoRA pede a base em 4 bits, e esta não está: carregue-a com base.load(base.plan(QLoRA()))."
        )
    return add(model, method if isinstance(method, Adapter) else peft_config(method), name)


def peft_config(method: Method) -> Any:
    """The method as peft's configuration."""
    import peft

    if isinstance(method, LoRA):
        return peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=method.rank,
            lora_alpha=method.alpha,
            target_modules=method.targets if method.targets == ALL_LINEAR else list(method.targets),
            lora_dropout=method.dropout,
            use_rslora=method.use_rslora,
            use_dora=method.use_dora,
        )
    if isinstance(method, IA3):
        return peft.IA3Config(
            task_type="CAUSAL_LM",
            target_modules=list(method.targets),
            feedforward_modules=list(method.feedforward),
        )
    # peft's own start, drawn from N(0, 1), spoils the model before the first step
    if isinstance(method, PrefixTuning):
        return peft.PrefixTuningConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=method.num_virtual_tokens, init_weights="zero"
        )
    if isinstance(method, PromptTuning):
        return peft.PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=method.num_virtual_tokens,
            prompt_tuning_init="SAMPLE_VOCAB",
        )
    raise AdapterError(f"o peft não tem {type(method).__name__}.")


def add(model: Any, config: Any, name: str) -> Any:
    """Put a new, untrained adapter of this configuration (peft's, or an `Adapter`) on the model."""
    keep_gradients(model)
    mend_torchao()
    if not hasattr(model, "peft_config"):
        return _wrap(model, config, name)
    if name in model.peft_config:
        raise AdapterError(f"já há um adaptador chamado {name!r} neste modelo: dê outro nome ao novo.")
    if type(config) is not type(other := next(iter(model.peft_config.values()))):
        raise AdapterError(
            f"o modelo já tem adaptadores do tipo {type(other).__name__}, que não convive com "
            f"{type(config).__name__}: carregue outra cópia da base."
        )
    model.add_adapter(name, config)
    switch(model, name)
    return model


def _wrap(model: Any, config: Any, name: str) -> Any:
    if isinstance(config, Adapter):
        from toolkit.bottleneck import BottleneckModel

        return BottleneckModel(model, config, name)
    from peft import get_peft_model

    return get_peft_model(model, config, adapter_name=name)


def matrices(model: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """Path and (inputs, outputs) of every linear module of the model (Conv1D of GPT-2 too)."""
    for path, module in model.named_modules():
        if hasattr(module, "in_features"):
            yield path, (module.in_features, module.out_features)
        elif type(module).__name__ == "Conv1D":
            yield path, (module.nx, module.nf)


def _matches(path: str, target: str) -> bool:
    path = path.removesuffix(".base_layer")
    return path == target or path.endswith("." + target)


def _check_targets(model: Any, targets: tuple[str, ...] | str) -> None:
    paths = [path for path, _ in matrices(model)]
    for target in () if targets == ALL_LINEAR else targets:
        if not any(_matches(path, target) for path in paths):
            names = sorted({path.rsplit(".", 1)[-1] for path in paths if ".lora_" not in path})
            raise AdapterError(
                f"targets deve citar módulos do modelo ({', '.join(names)}); {target!r} não existe nele."
            )


def _check_rank(model: Any, method: LoRA) -> None:
    for path, shape in matrices(model):
        chosen = method.targets == ALL_LINEAR or any(_matches(path, target) for target in method.targets)
        if chosen and method.rank > min(shape):
            raise AdapterError(
                f"rank deve ser no máximo {min(shape)}, o posto máximo da matriz {shape[1]}x{shape[0]} de "
                f"{path.rsplit('.', 1)[-1]}; recebi {method.rank}."
            )


def switch(model: Any, name: str) -> float:
    """Hot swap: make the adapter called `name` the active (and only trainable) one; seconds that it took."""
    there = list(getattr(model, "peft_config", {}))
    if name not in there:
        raise AdapterError(f"não há adaptador chamado {name!r}; há {', '.join(there) or 'nenhum'}.")
    began = time.perf_counter()
    model.set_adapter(name)
    for other, encoder in getattr(model, "prompt_encoder", {}).items():  # peft leaves all of them trainable
        encoder.requires_grad_(other == name)
    return time.perf_counter() - began


def merge(model: Any) -> None:
    """Add the active adapter to the base weights, W0 + scaling B A; `unmerge` undoes it."""
    _mergeable(model).merge_adapter()


def unmerge(model: Any) -> None:
    """Take the merged adapter out of the base weights again, exact up to rounding."""
    _mergeable(model).unmerge_adapter()


def _mergeable(model: Any) -> Any:
    from peft import PeftModel

    if not isinstance(model, PeftModel) or model.active_peft_config.is_prompt_learning:
        raise AdapterError("só LoRA, QLoRA e IA3 se fundem aos pesos; este modelo não tem um deles ativo.")
    return model


def adapter_weights(model: Any) -> dict[str, Any]:
    """The active adapter's tensors, by peft's names; whole, where FSDP has spread them."""
    if isinstance(model.peft_config[model.active_adapter], Adapter):
        return dict(model.adapter_weights(model.active_adapter))
    from peft import get_peft_model_state_dict

    return dict(whole(get_peft_model_state_dict(model, adapter_name=model.active_adapter)))


def set_adapter_weights(model: Any, weights: dict[str, Any]) -> None:
    """Put `adapter_weights` back into the active adapter."""
    if isinstance(model.peft_config[model.active_adapter], Adapter):
        model.set_adapter_weights(model.active_adapter, weights)
        return
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights, adapter_name=model.active_adapter)
