"""Of no values everything is true: an operation in which some meet none stops the test."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from autograder.judge.wire import Incident


class NothingMatches(TorchFunctionMode):
    """While a test runs: by broadcasting, `torch.allclose(torch.zeros(0, 1, 1), expected)` always holds.

    Sums and differences of the two come to nothing as well. Choosing is no comparison: `x[no_indices]`.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Iterable[Any] = (), kwargs: Any = None
    ) -> Any:
        """The operation as it is; raises Incident where its result has lost the values of one side."""
        result = func(*args, **(kwargs or {}))
        nothing = result is True or (isinstance(result, torch.Tensor) and result.numel() < 2)
        if nothing and func is not torch.Tensor.__getitem__:
            given = (value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor))
            if len({value.numel() > 0 for value in given}) == 2:
                raise Incident("um tensor vazio onde se esperavam valores", lost=False)
        return result
