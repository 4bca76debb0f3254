"""What a Hugging Face config.json says of a model: where it is found, and the dimensions in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from toolkit import catalogue
from toolkit.families import FAMILIES, Family, Switch

# config.json calls the same dimension by several names (transformers' `attribute_map`s)
NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "max_positions": ("max_position_embeddings", "n_positions", "seq_length"),
    "experts": ("num_local_experts", "num_experts"),
}


class ModelError(ValueError):
    """A model that cannot be described; the message says what is missing or does not fit, and what to do."""


def dimensions(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an `Architecture`, its name apart. Raises ModelError for one that is missing or wrong."""
    inner = config.get("text_config") or {}
    if not isinstance(inner, Mapping):
        raise ModelError(f"text_config no config do modelo deve ser um objeto; recebi {inner!r}.")
    config = {**config, **inner}
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise unknown(family)
    traits, hidden, heads = FAMILIES[family], _need(config, "hidden"), _need(config, "heads")
    _check_uniform(config)
    experts = _need(config, "experts") if traits.router else 0
    if traits.router and experts < 1:
        raise ModelError(f"o config de uma mistura deve ter um especialista ou mais; recebi {experts}.")
    return {
        "family": family,
        "hidden": hidden,
        "layers": _need(config, "layers"),
        "heads": heads,
        "kv_heads": _kv_heads(config, family, heads),
        "head_dim": _head_dim(config, traits, hidden, heads),
        "intermediate": _intermediate(config, traits, hidden),
        "vocab": _need(config, "vocab"),
        "max_positions": _optional(config, *NAMES["max_positions"]) or 2**31 - 1,
        "tied": _switch(config, ("tie_word_embeddings", traits.tied)),
        "qkv_bias": _switch(config, traits.qkv_bias),
        "out_bias": _switch(config, traits.out_bias),
        "mlp_bias": _switch(config, traits.mlp_bias),
        "experts": experts,
        "experts_per_token": (_optional(config, "num_experts_per_tok") or 2) if experts else 0,
        "shared_intermediate": _optional(config, traits.shared_intermediate),
        "sliding_window": _sliding_window(config),
        "embedding": _optional(config, "word_embed_proj_dim"),
    }


def unknown(family: str) -> ModelError:
    """What to raise for a family that is not described here."""
    return ModelError(
        f"model_type {family!r} não é conhecido; as famílias descritas são {', '.join(FAMILIES)}."
    )


def read(source: str | Path) -> Mapping[str, Any]:
    """The config at a path (file or folder), of the catalogue, or of the hub, in this order."""
    path = Path(source)
    path = path / "config.json" if path.is_dir() else path
    if path.is_file():
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path} não é um config.json válido ({error}).") from None
        if not isinstance(loaded, dict):
            raise ModelError(f"{path} não é um config.json válido: esperava um objeto JSON.")
        return loaded
    known = catalogue.find(str(source))
    return {**catalogue.config(known), "_name_or_path": known} if known else _from_hub(str(source))


def _from_hub(repo: str) -> Mapping[str, Any]:
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        from toolkit.hub import answers

        path = try_to_load_from_cache(repo, "config.json")
        if not isinstance(path, str):
            path = hf_hub_download(repo, "config.json") if answers(repo) else None
        return dict(json.loads(Path(str(path)).read_text(encoding="utf-8")))
    except (
        Exception
    ):  # no network, no such model, a gated one, a browser: whatever it was, there is no config
        meant = " ou ".join(get_close_matches(repo, catalogue.names(), n=2, cutoff=0.4))
        raise ModelError(
            f"não encontrei o modelo {repo!r} no disco, no catálogo nem no Hugging Face Hub"
            f"{meant and f' (quis dizer {meant}?)'}; confira o nome e a conexão, ou passe o caminho de um "
            f"config.json."
        ) from None


def _need(config: Mapping[str, Any], field: str) -> int:
    keys = NAMES.get(field, (f"{field}_size",))
    if all(config.get(key) is None for key in keys):
        raise ModelError(
            f"falta {' ou '.join(keys)} no config do modelo: sem essa dimensão não há como contar."
        )
    return _optional(config, *keys)


def _optional(config: Mapping[str, Any], *keys: str) -> int:
    """The first of these numbers that is there, 0 if none is."""
    key = next((key for key in keys if config.get(key) is not None), None)
    value = 0 if key is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelError(f"{key} no config do modelo deve ser um inteiro; recebi {value!r}.")
    return value


def _kv_heads(config: Mapping[str, Any], family: str, heads: int) -> int:
    if family == "gpt_bigcode":
        return 1 if config.get("multi_query", True) else heads
    return heads if config.get("num_key_value_heads") is None else _optional(config, "num_key_value_heads")


def _head_dim(config: Mapping[str, Any], traits: Family, hidden: int, heads: int) -> int:
    explicit = _optional(config, "head_dim") or traits.head_dim
    if explicit:
        return explicit
    if heads < 1 or hidden % heads:
        raise ModelError(
            f"hidden_size ({hidden}) não é divisível por num_attention_heads ({heads}) e falta head_dim."
        )
    return hidden // heads


def _intermediate(config: Mapping[str, Any], traits: Family, hidden: int) -> int:
    if traits.expert_intermediate and (value := _optional(config, traits.expert_intermediate)):
        return value
    if not traits.gated and not _optional(config, *NAMES["intermediate"]):
        return 4 * hidden
    return _need(config, "intermediate")


def _switch(config: Mapping[str, Any], switch: Switch) -> bool:
    if isinstance(switch, bool):
        return switch
    key, default = switch
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, bool):
        raise ModelError(f"{key} no config do modelo deve ser true ou false; recebi {value!r}.")
    return value


def _sliding_window(config: Mapping[str, Any]) -> int:
    if config.get("use_sliding_window") is False:
        return 0
    return _optional(config, "sliding_window")


def _check_uniform(config: Mapping[str, Any]) -> None:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ModelError(
            "o config mistura camadas densas e de especialistas; só misturas iguais são descritas."
        )
