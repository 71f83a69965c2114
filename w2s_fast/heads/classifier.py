"""A fitted head as an `nn.Module` from features to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2s_fast.heads.head import Head


def classifier(head: Head, theta: dict[str, Tensor]) -> Classifier:
    """A module from the features that a head was fitted on f[b, e] to logits f[b, k], before the temperature.

    It lies on the CPU.
    """
    return Classifier(head, theta).cpu()  # where tables of features are, wherever the fit was


class Classifier(nn.Module):
    """A frozen head: weights, bias and what moves its features as buffers, the head's own scaling of the features."""

    def __init__(self, head: Head, theta: dict[str, Tensor]) -> None:
        super().__init__()
        self.unit_x, self.x_scale = head.unit_x, head.x_scale
        with torch.no_grad():
            weight, bias = head.weights(theta)
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", None if bias is None else bias.clone())
        moves = type(head).features is not Head.features
        self.head, self.names = (head, tuple(theta)) if moves else (None, ())
        for number, name in enumerate(self.names):
            # a buffer's name may hold no dot, as those of a text tower do
            self.register_buffer(f"theta{number}", theta[name].detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(self.x_scale * self.moved(features), self.get_buffer("weight"), self._bias())

    def moved(self, features: Tensor) -> Tensor:
        """phi of raw features f[b, e]: normalised where the head does so, and moved by an adapter; not yet scaled."""
        features = features.to(self.get_buffer("weight").dtype)
        x = nn.functional.normalize(features, dim=-1) if self.unit_x else features
        if self.head is None:
            return x
        theta = {name: self.get_buffer(f"theta{number}") for number, name in enumerate(self.names)}
        return self.head.features(theta, x)

    def _bias(self) -> Tensor | None:
        return self.bias if isinstance(self.bias, torch.Tensor) else None
