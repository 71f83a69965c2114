"""Reading features from inside a module: the input or output of a named part, pooled to one vector per image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from w2s_fast.core.errors import ModelError, nearest

LOGITS = "logits"


class Watch:
    """A hook on one part of `module`; `run` calls the whole and returns its output and what the part saw or gave.

    Arguments: `path` as in `named_modules`; `entering` to see the part's first input instead of its output; `prefix`
    how many leading tokens (class, registers) a token sequence f[b, n, c] has, which the mean leaves out;
    `channels_last` for maps f[b, h, w, c].
    """

    def __init__(
        self,
        module: nn.Module,
        path: str,
        *,
        model: str,
        entering: bool = False,
        prefix: int = 0,
        channels_last: bool = False,
    ) -> None:
        parts = dict(module.named_modules())
        if path not in parts or not path:
            raise ModelError(f"{model} has no part {path!r} to tap{nearest(path, [LOGITS, *filter(None, parts)])}")
        self.module, self.path, self.model = module, path, model
        self.prefix, self.channels_last = prefix, channels_last
        self._seen: Tensor | None = None
        if entering:
            parts[path].register_forward_pre_hook(lambda _, inputs: self._keep(inputs))
        else:
            parts[path].register_forward_hook(lambda _, __, output: self._keep(output))

    def run(self, x: Tensor) -> tuple[Any, Tensor]:
        """The module's output for f[b, 3, h, w], and the tapped features f[b, d]."""
        self._seen = None
        output = self.module(x)
        seen, self._seen = self._seen, None
        if seen is None:
            raise ModelError(f"{self.model}: the part {self.path!r} is not used in the forward pass; tap another")
        return output, self._pooled(seen)

    def width(self, size: tuple[int, ...]) -> int:
        """d, by one pass over a blank image of `size` = (3, h, w)."""
        with torch.no_grad():
            device = next(self.module.parameters()).device
            return self.run(torch.zeros(1, *size, device=device))[1].shape[1]

    def _keep(self, value: Any) -> None:
        while isinstance(value, tuple | list) and value:
            value = value[0]
        self._seen = value if isinstance(value, Tensor) else None

    def _pooled(self, value: Tensor) -> Tensor:
        if value.ndim == 4:
            return value.mean((1, 2) if self.channels_last else (2, 3))
        if value.ndim == 3:
            return value[:, self.prefix :].mean(1)
        if value.ndim == 2:
            return value
        raise ModelError(f"{self.model}: the part {self.path!r} gives shape {tuple(value.shape)}; tap another")
