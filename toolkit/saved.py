"""Trained weights on disk: saved whole or not at all, and put back on the base that they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toolkit.adapters import AdapterError, adapter_weights, add, set_adapter_weights
from toolkit.folders import written_whole
from toolkit.methods import Adapter
from toolkit.models import Architecture

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's names
BASE = "base.json"  # the dimensions of the base that the adapter is for
AGAIN = "copie a pasta de novo ou treine outra vez."


def save(model: Any, folder: str | Path) -> int:
    """Write the active adapter (of a full fine-tune, the whole model) to `folder`; bytes of its weights.

    safetensors and a config in peft's format. What `folder` held stays there until the new one is complete.
    """
    with written_whole(Path(folder)) as new:
        write(model, new)
    return adapter_bytes(folder)


def write(model: Any, folder: Path) -> None:
    """What `save` saves, into a folder that is there."""
    if hasattr(model, "peft_config"):
        _write_adapter(model, folder)
    else:
        model.save_pretrained(folder)
    dimensions = Architecture.from_config(model.config).to_dict()
    (folder / BASE).write_text(json.dumps(dimensions), encoding="utf-8")


def _write_adapter(model: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    name = model.active_adapter
    config = model.peft_config[name]
    weights = {key: value.detach().cpu().contiguous() for key, value in adapter_weights(model).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    if isinstance(config, Adapter):
        described = {"peft_type": "BOTTLENECK", "bottleneck": config.bottleneck}
        (folder / CONFIG).write_text(json.dumps(described), encoding="utf-8")
    else:
        config.save_pretrained(folder)


def adapter_bytes(folder: str | Path) -> int:
    """Size of the saved weights on disk, in bytes."""
    return sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))


def saved_bytes(model: Any) -> int:
    """What `save` would write, in bytes, without writing it."""
    if not hasattr(model, "peft_config"):
        return sum(p.numel() * p.element_size() for p in model.parameters())
    from safetensors.torch import save

    return len(save({key: value.contiguous() for key, value in adapter_weights(model).items()}))


def load(model: Any, folder: str | Path, name: str = "default") -> Any:
    """Put the adapter saved in `folder` on the model under `name`, make it active, and give the model back.

    Raises AdapterError when there is none, when it is for another base, or when its file is damaged.
    """
    folder = Path(folder)
    _check_base(model, folder)
    weights = _read_weights(folder / WEIGHTS)
    model = add(model, _read_config(folder), name)
    if _shapes(weights) != _shapes(adapter_weights(model)):
        raise AdapterError(f"os tensores de {folder} não são os que o seu {CONFIG} descreve: {AGAIN}")
    set_adapter_weights(model, weights)
    return model


def _shapes(weights: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _check_base(model: Any, folder: Path) -> None:
    if not (folder / BASE).is_file() or not (folder / CONFIG).is_file():
        raise AdapterError(f"não há adaptador em {folder}: aponte para a pasta que toolkit.save escreveu.")
    saved = {**_read_json(folder / BASE), "name": ""}
    here = {**Architecture.from_config(model.config).to_dict(), "name": ""}
    different = [
        f"{key} {value} em vez de {here.get(key)}" for key, value in saved.items() if value != here.get(key)
    ]
    if different:
        raise AdapterError(
            f"o adaptador de {folder} é de outra base ({', '.join(different)}): carregue-o sobre ela."
        )


def _read_config(folder: Path) -> Any:
    from peft import PeftConfig

    described = _read_json(folder / CONFIG)
    try:
        if described["peft_type"] == "BOTTLENECK":
            return Adapter(described["bottleneck"])
        return PeftConfig.from_pretrained(folder)
    except (KeyError, TypeError, ValueError):
        raise AdapterError(f"{folder / CONFIG} não descreve um adaptador: {AGAIN}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError):
        raise AdapterError(f"{path} está corrompido: {AGAIN}") from None


def _read_weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} está ausente, truncado ou corrompido ({error}): {AGAIN}") from None
