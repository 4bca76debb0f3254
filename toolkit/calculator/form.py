"""The calculator's fields: what each shows of a plan, and the plan that its new value makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from toolkit import catalogue
from toolkit.methods import ALL_LINEAR, IA3, Adapter, Full, LoRA, Method, PrefixTuning, PromptTuning, QLoRA
from toolkit.models import Architecture
from toolkit.plan import Plan
from toolkit.presets import PRESETS, preset
from toolkit.vram.gpus import gpu, gpus

Kind = Literal["select", "integer", "check", "text"]
UNCHOSEN = "choose"
LONGEST_CONFIG = 100_000  # characters of a pasted config.json


class FormError(ValueError):
    """A value that is not of the field's kind; the message is one sentence."""


@dataclass(frozen=True)
class Field:
    """One input: `read` and `write` turn a plan into its value and back; a plan may hide it (`shown`)."""

    name: str
    kind: Kind
    read: Callable[[Plan], Any]
    write: Callable[[Plan, Any], Plan]
    options: Callable[[Plan], list[str]] = lambda plan: []
    shown: Callable[[Plan], bool] = lambda plan: True
    advanced: bool = False


def edit(plan: Plan, name: str, value: Any) -> Plan:
    """The plan with field `name` set. Raises a ValueError (Plan's, Method's, the model's) of one sentence."""
    field = next(field for field in FIELDS if field.name == name)
    return field.write(plan, _integer(name, value) if field.kind == "integer" else value)


def _integer(name: str, value: Any) -> int:
    try:
        return int(str(value).strip())
    except ValueError:
        raise FormError(f"{name} deve ser um número inteiro; recebi {value!r}.") from None


def _of_plan(name: str, shown: Callable[[Plan], bool] = lambda plan: True, advanced: bool = True) -> Field:
    """The field of Plan called `name`, its kind and options read off its annotation."""
    hint = get_type_hints(Plan)[name]
    listed = [str(option) for option in get_args(hint)]
    kinds: dict[type, Kind] = {bool: "check", int: "integer"}
    return Field(
        name,
        kinds.get(hint, "select"),
        read=lambda plan: getattr(plan, name),
        write=lambda plan, value: plan.change(**{name: value}),
        options=lambda plan: listed,
        shown=shown,
        advanced=advanced,
    )


def _of_method(name: str, kind: Kind, kinds: tuple[type, ...], options: tuple[str, ...] = ()) -> Field:
    return Field(
        name if name != "num_virtual_tokens" else "virtual_tokens",
        kind,
        read=lambda plan: getattr(plan.method, name),
        write=lambda plan, value: plan.change(method=replace(plan.method, **{name: value})),
        options=lambda plan: list(options),
        shown=lambda plan: isinstance(plan.method, kinds),
        advanced=name in ("quant_type", "double_quant", "use_dora"),
    )


def _with_model(plan: Plan, source: Any) -> Plan:
    """The plan on another model, its sequence, targets and kernels cut to what that model has."""
    model = Architecture.from_config(source)
    changed: dict[str, Any] = {
        "seq_len": min(plan.seq_len, model.max_positions - plan.virtual_tokens),
        "model": model,
        "kernels": plan.kernels if model.traits.norm == "rms" else "torch",
    }
    names = {linear.name.rpartition(".")[2] for linear in model.linears()}
    method = plan.method
    if isinstance(method, LoRA) and method.targets != ALL_LINEAR and not set(method.targets) <= names:
        method = replace(method, targets=ALL_LINEAR)
    elif isinstance(method, IA3):
        method = _ia3(model)
    return plan.change(**changed, method=method)


def _other_model(plan: Plan, text: str) -> Plan:
    text = text.strip()[:LONGEST_CONFIG]
    if not text.startswith("{"):
        return _with_model(plan, text) if text else plan
    try:
        return _with_model(plan, json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormError(f"o config.json colado não é JSON válido ({error}).") from None


def _with_method(plan: Plan, kind: str) -> Plan:
    kept = plan.method if isinstance(plan.method, LoRA) else LoRA(rank=16, alpha=32, targets=ALL_LINEAR)
    shared = {name: getattr(kept, name) for name in LoRA.__dataclass_fields__}
    makers: dict[str, Callable[[], Method]] = {
        "Full": Full,
        "LoRA": lambda: LoRA(**shared),
        "QLoRA": lambda: QLoRA(**shared),
        "PrefixTuning": PrefixTuning,
        "PromptTuning": PromptTuning,
        "IA3": lambda: _ia3(plan.model),
        "Adapter": Adapter,
    }
    return plan.change(method=makers[kind]())


def _ia3(model: Architecture) -> IA3:
    qkv = [name.rpartition(".")[2] for name in model.traits.qkv]
    out = model.traits.mlp_out
    down = (
        (out.rpartition(".")[2],) if any(x.matches(out) for x in model.linears()) else ()
    )  # not in mixtures
    return IA3(targets=(*qkv[-2:], *down), feedforward=down)


def _target_sets(plan: Plan) -> list[str]:
    qkv = [name.rpartition(".")[2] for name in plan.model.traits.qkv]
    out = plan.model.traits.out.rpartition(".")[2]
    sets = [ALL_LINEAR, ", ".join({qkv[0]: 0, qkv[-1]: 0}), ", ".join([*qkv, out])]
    return list(dict.fromkeys([*sets, _targets(plan)]))


def _targets(plan: Plan) -> str:
    targets = plan.method.targets if isinstance(plan.method, LoRA) else ALL_LINEAR
    return targets if isinstance(targets, str) else ", ".join(targets)


def _with_targets(plan: Plan, text: str) -> Plan:
    if not isinstance(plan.method, LoRA):
        return plan
    names = tuple(name.strip() for name in text.split(","))
    return plan.change(method=replace(plan.method, targets=ALL_LINEAR if text == ALL_LINEAR else names))


def _preset_of(plan: Plan) -> str:
    return next((name for name in PRESETS if _with_preset(plan, name) == plan), UNCHOSEN)


def _with_preset(plan: Plan, name: str) -> Plan:
    if name == UNCHOSEN:
        return plan
    kept = {key: getattr(plan, key) for key in ("batch", "seq_len", "accumulation", "gpu")}
    return preset(name, plan.model, plan.method, **kept)


def _has_adapter(plan: Plan) -> bool:
    return not isinstance(plan.method, Full)


def _has_rms_norm(plan: Plan) -> bool:
    return plan.model.traits.norm == "rms"


def _computes(plan: Plan) -> bool:
    return plan.quantized or plan.autocast


FIELDS: tuple[Field, ...] = (
    Field(
        "model",
        "select",
        read=lambda plan: plan.model.name,
        write=_with_model,
        options=lambda plan: list(dict.fromkeys([*catalogue.names(), plan.model.name])),
    ),
    Field(
        "method",
        "select",
        read=lambda plan: type(plan.method).__name__,
        write=_with_method,
        options=lambda plan: [kind.__name__ for kind in get_args(Method)],
    ),
    Field(
        "gpu",
        "select",
        read=lambda plan: plan.gpu,
        write=lambda plan, name: plan.change(gpu=gpu(name).name),
        options=lambda plan: list(gpus()),
    ),
    _of_plan("batch", advanced=False),
    _of_plan("seq_len", advanced=False),
    _of_method("rank", "integer", (LoRA,)),
    Field(
        "targets",
        "select",
        read=_targets,
        write=_with_targets,
        options=_target_sets,
        shown=lambda plan: isinstance(plan.method, LoRA),
    ),
    _of_method("num_virtual_tokens", "integer", (PrefixTuning, PromptTuning)),
    _of_method("bottleneck", "integer", (Adapter,)),
    _of_plan("checkpointing", advanced=False),
    Field(
        "preset",
        "select",
        read=_preset_of,
        write=_with_preset,
        options=lambda plan: [UNCHOSEN, *PRESETS],
        advanced=True,
    ),
    _of_plan("optimizer"),
    _of_plan("loss"),
    _of_plan("kernels", _has_rms_norm),
    _of_plan("attention"),
    _of_plan("accumulation"),
    _of_plan("dtype"),
    _of_plan("adapter_dtype", _has_adapter),
    _of_plan("compute_dtype", _computes),
    _of_plan("upcast", _has_adapter),
    _of_method("quant_type", "select", (QLoRA,), ("nf4", "fp4")),
    _of_plan("autocast"),
    _of_method("double_quant", "check", (QLoRA,)),
    _of_method("use_dora", "check", (LoRA,)),
    _of_plan("set_to_none"),
    _of_plan("use_cache"),
    _of_plan("hold_output"),
    _of_plan("padding"),
    Field(
        "other_model",
        "text",
        read=lambda plan: "" if catalogue.find(plan.model.name) else plan.model.name,
        write=_other_model,
        advanced=True,
    ),
)
