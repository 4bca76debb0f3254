"""The six ways to adapt a model that the course teaches, and IA3: plain descriptions, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ALL_LINEAR: Final = "all-linear"
Targets = tuple[str, ...] | Literal["all-linear"]
LARGEST: Final = 2**31 - 1  # of any size: beyond it nothing has a meaning, and figures overflow


class MethodError(ValueError):
    """A method whose numbers make no sense; the message names the field and what it may be."""


def is_size(value: object) -> bool:
    """Whether it is a whole number from 1 to LARGEST."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def not_a_size(name: str, value: object) -> str:
    """One sentence about a size that is none."""
    immense = isinstance(value, int) and abs(value) > 10**40  # Python refuses to write the longest ones out
    given = "um número imenso" if immense else repr(value)[:40]
    return f"{name} deve ser um inteiro maior ou igual a 1, até {LARGEST}; recebi {given}."


def _check_size(name: str, value: object) -> None:
    if not is_size(value):
        raise MethodError(not_a_size(name, value))


def _check_switches(method: object, *names: str) -> None:
    for name in names:
        if not isinstance(value := getattr(method, name), bool):
            raise MethodError(f"{name} deve ser True ou False; recebi {value!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _checked_targets(targets: object) -> Targets:
    if targets == ALL_LINEAR:
        return ALL_LINEAR
    if not isinstance(targets, (tuple, list)) or not targets or not all(isinstance(n, str) for n in targets):
        raise MethodError(
            f"targets deve ser uma tupla de nomes de módulos, como ('q_proj', 'v_proj'), "
            f"ou {ALL_LINEAR!r}; recebi {targets!r}."
        )
    return tuple(targets)


@dataclass(frozen=True)
class Full:
    """Full fine-tuning: every parameter is trained."""


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation, W0 + (alpha/rank) B A (Hu et al., 2021, eq. 3), on the modules named in `targets`.

    `rank` is peft's `r`, `alpha` its `lora_alpha`. With `use_rslora` the scaling is alpha/sqrt(rank)
    (Kalajdzievski, 2023); with `use_dora` magnitude and direction are trained apart (Liu et al., 2024).
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Targets = ("q_proj", "v_proj")
    dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False

    def __post_init__(self) -> None:
        _check_size("rank", self.rank)
        object.__setattr__(self, "targets", _checked_targets(self.targets))
        if not (_is_number(self.alpha) and 0 < self.alpha <= LARGEST):
            raise MethodError(f"alpha deve ser um número maior que 0; recebi {self.alpha!r}.")
        if not (_is_number(self.dropout) and 0 <= self.dropout < 1):
            raise MethodError(f"dropout deve ser um número em [0, 1); recebi {self.dropout!r}.")
        _check_switches(self, "use_rslora", "use_dora")

    @property
    def scaling(self) -> float:
        """The factor in front of B A: alpha/rank, or alpha/sqrt(rank) with rsLoRA."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)


@dataclass(frozen=True)
class QLoRA(LoRA):
    """LoRA on a base whose linear weights are stored in 4 bits (Dettmers et al., 2023)."""

    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quant_type not in ("nf4", "fp4"):
            raise MethodError(f"quant_type deve ser 'nf4' ou 'fp4'; recebi {self.quant_type!r}.")
        _check_switches(self, "double_quant")


@dataclass(frozen=True)
class PrefixTuning:
    """Trainable keys and values, zero at first, in front of every layer's (Li & Liang, 2021; no MLP)."""

    num_virtual_tokens: int = 20

    def __post_init__(self) -> None:
        _check_size("num_virtual_tokens", self.num_virtual_tokens)


@dataclass(frozen=True)
class PromptTuning:
    """Trainable embeddings, tokens' at first, in front of the input's (Lester et al., 2021)."""

    num_virtual_tokens: int = 20

    def __post_init__(self) -> None:
        _check_size("num_virtual_tokens", self.num_virtual_tokens)


@dataclass(frozen=True)
class IA3:
    """Trained element-wise scales (Liu et al., 2022): of `feedforward`'s inputs, of the others' outputs."""

    targets: tuple[str, ...] = ("k_proj", "v_proj", "down_proj")
    feedforward: tuple[str, ...] = ("down_proj",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _checked_targets(self.targets))
        part = self.feedforward
        if not isinstance(part, (tuple, list)) or not set(part) <= set(self.targets):
            raise MethodError(f"feedforward deve ser parte de targets {self.targets}; recebi {part!r}.")
        object.__setattr__(self, "feedforward", tuple(part))


@dataclass(frozen=True)
class Adapter:
    """Bottleneck adapters after attention and after the MLP (Houlsby et al., 2019): h + up(act(down(h)))."""

    bottleneck: int = 64

    def __post_init__(self) -> None:
        _check_size("bottleneck", self.bottleneck)


Method = Full | LoRA | QLoRA | PrefixTuning | PromptTuning | IA3 | Adapter
