"""The one adapter that peft lacks: a bottleneck after attention and after the MLP (Houlsby et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.methods import Adapter
from toolkit.models import Architecture


class Bottleneck(nn.Module):
    """h + up(gelu(down(h))), h of shape (..., width); `up` starts at zero, so nothing changes at first."""

    def __init__(self, width: int, bottleneck: int, device: torch.device) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck, device=device)
        self.up = nn.Linear(bottleneck, width, device=device)
        nn.init.normal_(self.down.weight, std=0.01)  # Houlsby et al., section 2.1
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """Computed in fp32, as peft does with its adapters, and given back in the dtype of `h`."""
        change: Tensor = self.up(nn.functional.gelu(self.down(h.to(self.down.weight.dtype))))
        return h + change.to(h.dtype)


class Adapted(nn.Module):
    """A projection that writes to the residual stream, followed by the active one of its adapters."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck = nn.ModuleDict()
        self.active = ""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., width)."""
        h: Tensor = self.base_layer(x)
        return self.bottleneck[self.active](h) if self.active else h


class BottleneckModel(nn.Module):
    """A model with bottleneck adapters, with the habits (and the method names) of peft's `PeftModel`."""

    def __init__(self, model: Any, method: Adapter, name: str = "default") -> None:
        super().__init__()
        self.base_model = model.requires_grad_(False)
        self.peft_config: dict[str, Adapter] = {}
        traits = Architecture.from_config(model.config).traits
        self.ends = (traits.out, traits.mlp_out)
        for path, module in list(model.named_modules()):
            if path.endswith(self.ends):
                model.set_submodule(path, Adapted(module))
        self.add_adapter(name, method)
        self.set_adapter(name)

    def __getattr__(self, name: str) -> Any:
        """What the wrapper lacks (config, device, generate) is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the base model."""
        return self.base_model(*args, **kwargs)

    @property
    def adapted(self) -> dict[str, Adapted]:
        """The adapted projections by their path in the base model."""
        return {path: m for path, m in self.base_model.named_modules() if isinstance(m, Adapted)}

    @property
    def active_adapter(self) -> str:
        """The name of the adapter in use ("" = none)."""
        return next(iter(self.adapted.values())).active

    def add_adapter(self, name: str, method: Adapter) -> None:
        """Add a new, untrained adapter."""
        width = Architecture.from_config(self.config).hidden
        for module in self.adapted.values():
            module.bottleneck[name] = Bottleneck(width, method.bottleneck, self.device)
        self.peft_config[name] = method

    def set_adapter(self, name: str) -> None:
        """Use the adapter called `name`, and train only that one."""
        for module in self.adapted.values():
            module.active = name
            for other, adapter in module.bottleneck.items():
                adapter.requires_grad_(other == name)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """The base model alone, for the length of the block."""
        name = self.active_adapter
        for module in self.adapted.values():
            module.active = ""
        try:
            yield
        finally:
            for module in self.adapted.values():
                module.active = name

    def adapter_weights(self, name: str) -> dict[str, Tensor]:
        """The weights of the adapter called `name`, by the path of their projection."""
        return {
            f"{path}.{key}": value
            for path, module in self.adapted.items()
            for key, value in module.bottleneck[name].state_dict().items()
        }

    def set_adapter_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        """Put back what `adapter_weights` gave."""
        for path, module in self.adapted.items():
            keys = module.bottleneck[name].state_dict()
            module.bottleneck[name].load_state_dict({key: weights[f"{path}.{key}"] for key in keys})
