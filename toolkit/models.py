"""A model's architecture: the dimensions that decide its parameters and memory, read from a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toolkit.configs import ModelError, dimensions, read, unknown
from toolkit.families import FAMILIES, Family
from toolkit.methods import is_size, not_a_size


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
            raise unknown(self.family)
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
            if not is_size(value := getattr(self, field)):
                raise ModelError(not_a_size(f"{field} do modelo", value))
        for field in ("experts", "experts_per_token", "shared_intermediate", "sliding_window", "embedding"):
            if (value := getattr(self, field)) != 0 and not is_size(value):
                raise ModelError(not_a_size(f"{field} do modelo, onde há,", value))
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
            config, spoken = read(source), str(source)
        elif isinstance(source, Mapping) or hasattr(source, "to_dict"):
            config = source if isinstance(source, Mapping) else source.to_dict()
            spoken = str(config.get("model_type") or "")
        else:
            raise ModelError(
                f"model deve ser um nome, um caminho, um dicionário ou um config; recebi {source!r}."
            )
        return cls(**dimensions(config), name=str(config.get("_name_or_path") or spoken))

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
