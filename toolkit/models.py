"""A model's architecture: the dimensions that decide its parameters and memory, read from a config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
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


@dataclass(frozen=True)
class Linear:
    """A linear module: peft's name for it inside a layer, its widths, and how many of them the model has."""

    name: str
    inputs: int
    outputs: int
    bias: bool
    count: int
    part: str = "attention"

    @property
    def weights(self) -> int:
        """Weights of all `count` modules, biases apart."""
        return self.inputs * self.outputs * self.count

    def matches(self, target: str) -> bool:
        """Whether peft's `target_modules=[target]` takes this module: the name, or its end after a dot."""
        return self.name == target or self.name.endswith("." + target)


@dataclass(frozen=True)
class Architecture:
    """Everything about a decoder-only language model that moves its parameter count or its memory.

    Widths are in elements: `hidden` of the residual stream, `head_dim` of one head, `intermediate` of the MLP
    (of one expert in a mixture), `shared_intermediate` of the expert that sees every token (0 = none).
    """

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    experts: int = 0
    experts_per_token: int = 0
    shared_intermediate: int = 0
    sliding_window: int = 0
    embedding: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise _unknown(self.family)
        for field in (
            "hidden",
            "layers",
            "heads",
            "kv_heads",
            "head_dim",
            "intermediate",
            "vocab",
            "max_positions",
        ):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(
                    f"{field} do modelo deve ser um inteiro maior ou igual a 1; recebi {value!r}."
                )
        if self.heads % self.kv_heads:
            raise ModelError(
                f"kv_heads ({self.kv_heads}) deve dividir heads ({self.heads}): cada cabeça de chave e valor "
                f"serve ao mesmo número de cabeças de consulta."
            )
        if not 0 <= self.experts_per_token <= self.experts:
            raise ModelError(
                f"experts_per_token ({self.experts_per_token}) deve estar entre 0 e experts ({self.experts})."
            )

    @classmethod
    def from_config(cls, source: Any) -> Architecture:
        """Describe a model from a config (dict, `config.json`, its folder, transformers object) or a name.

        A name is looked up on disk, in the catalogue (any case, organisation or not), then on the hub.
        Raises ModelError, in one sentence, for a missing or contradictory dimension, an unknown family, or a
        hub that does not answer.
        """
        if isinstance(source, Architecture):
            return source
        if isinstance(source, (str, Path)):
            config = _read(source)
            return cls._from_dict(config, str(config.get("_name_or_path") or source))
        config = source if isinstance(source, Mapping) else source.to_dict()
        return cls._from_dict(config, str(config.get("_name_or_path") or config.get("model_type") or ""))

    @classmethod
    def _from_dict(cls, config: Mapping[str, Any], name: str) -> Architecture:
        config = {**config, **config.get("text_config", {})}
        family = str(config.get("model_type", ""))
        if family not in FAMILIES:
            raise _unknown(family)
        traits, hidden, heads = FAMILIES[family], _need(config, "hidden"), _need(config, "heads")
        _check_uniform(config)
        experts = _need(config, "experts") if traits.router else 0
        return cls(
            family=family,
            name=name,
            hidden=hidden,
            layers=_need(config, "layers"),
            heads=heads,
            kv_heads=_kv_heads(config, family, heads),
            head_dim=_head_dim(config, traits, hidden, heads),
            intermediate=_intermediate(config, traits, hidden),
            vocab=_need(config, "vocab"),
            max_positions=int(_find(config, "max_positions") or 2**31 - 1),
            tied=bool(config.get("tie_word_embeddings", traits.tied)),
            qkv_bias=_switch(config, traits.qkv_bias),
            out_bias=_switch(config, traits.out_bias),
            mlp_bias=_switch(config, traits.mlp_bias),
            experts=experts,
            experts_per_token=int(config.get("num_experts_per_tok") or 2) if experts else 0,
            shared_intermediate=int(config.get(traits.shared_intermediate) or 0),
            sliding_window=_sliding_window(config),
            embedding=int(config.get("word_embed_proj_dim") or 0),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data; `Architecture(**data)` gives the same model back."""
        return asdict(self)

    @property
    def traits(self) -> Family:
        """What the family's layers are made of."""
        return FAMILIES[self.family]

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or value) heads together."""
        return self.kv_heads * self.head_dim

    def linears(self) -> list[Linear]:
        """The linear modules of all layers, as peft sees them, the head and mixtures' experts left out.

        transformers 5 keeps a mixture's experts in one parameter, not in linear modules: `expert_weights`.
        """
        return self._linears

    @cached_property
    def _linears(self) -> list[Linear]:
        return [*self._attention(), *self._mlp()]

    def _attention(self) -> list[Linear]:
        widths = [self.q_width, self.kv_width, self.kv_width]
        outputs = widths if len(self.traits.qkv) == 3 else [sum(widths)]
        qkv = [
            Linear(name, self.hidden, width, self.qkv_bias, self.layers)
            for name, width in zip(self.traits.qkv, outputs, strict=True)
        ]
        return [*qkv, Linear(self.traits.out, self.q_width, self.hidden, self.out_bias, self.layers)]

    def _mlp(self) -> list[Linear]:
        if self.experts and not self.shared_intermediate:
            return []
        width = self.shared_intermediate if self.experts else self.intermediate
        prefix = "mlp.shared_expert." if self.experts else "mlp."
        inner = width * (2 if self.traits.gated else 1) // len(self.traits.mlp_in)
        modules = [(name, self.hidden, inner) for name in self.traits.mlp_in]
        modules.append((self.traits.mlp_out, width, self.hidden))
        listed = [
            Linear(name.replace("mlp.", prefix), i, o, self.mlp_bias, self.layers, "mlp")
            for name, i, o in modules
        ]
        if self.experts:
            listed.append(Linear("mlp.shared_expert_gate", self.hidden, 1, False, self.layers, "mlp"))
        return listed

    @property
    def expert_weights(self) -> int:
        """Weights of all experts of all layers (three matrices each)."""
        return 3 * self.experts * self.hidden * self.intermediate * self.layers


def _unknown(family: str) -> ModelError:
    return ModelError(
        f"model_type {family!r} não é conhecido; as famílias descritas são {', '.join(FAMILIES)}."
    )


def _read(source: str | Path) -> Mapping[str, Any]:
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


def _find(config: Mapping[str, Any], field: str) -> Any:
    return next((config[key] for key in NAMES[field] if config.get(key) is not None), None)


def _need(config: Mapping[str, Any], field: str) -> int:
    keys = NAMES.get(field, (f"{field}_size",))
    value = next((config[key] for key in keys if config.get(key) is not None), None)
    if value is None:
        raise ModelError(
            f"falta {' ou '.join(keys)} no config do modelo: sem essa dimensão não há como contar."
        )
    if not isinstance(value, int) or isinstance(value, bool):
        raise ModelError(f"{keys[0]} no config do modelo deve ser um inteiro; recebi {value!r}.")
    return value


def _kv_heads(config: Mapping[str, Any], family: str, heads: int) -> int:
    if family == "gpt_bigcode":
        return 1 if config.get("multi_query", True) else heads
    return int(config.get("num_key_value_heads") or heads)


def _head_dim(config: Mapping[str, Any], traits: Family, hidden: int, heads: int) -> int:
    explicit = config.get("head_dim") or traits.head_dim
    if explicit:
        return int(explicit)
    if heads < 1 or hidden % heads:
        raise ModelError(
            f"hidden_size ({hidden}) não é divisível por num_attention_heads ({heads}) e falta head_dim."
        )
    return hidden // heads


def _intermediate(config: Mapping[str, Any], traits: Family, hidden: int) -> int:
    if traits.expert_intermediate and config.get(traits.expert_intermediate):
        return int(config[traits.expert_intermediate])
    value = _find(config, "intermediate")
    if value is None and not traits.gated:
        return 4 * hidden
    return _need(config, "intermediate")


def _switch(config: Mapping[str, Any], switch: Switch) -> bool:
    return switch if isinstance(switch, bool) else bool(config.get(*switch))


def _sliding_window(config: Mapping[str, Any]) -> int:
    if config.get("use_sliding_window") is False:
        return 0
    return int(config.get("sliding_window") or 0)


def _check_uniform(config: Mapping[str, Any]) -> None:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ModelError(
            "o config mistura camadas densas e de especialistas; só misturas iguais são descritas."
        )
