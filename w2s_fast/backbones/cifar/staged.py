"""What distillers read of a network: its stages before and after their last activation, pooled features, logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import relu

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """One forward pass. `post` and `pre` run from the stem to the last stage, f[b, c, h, w] each.

    `post` is after a stage's last activation and `pre` before it; `pooled` f[b, d] is what enters the classifier.
    """

    post: tuple[Tensor, ...]
    pre: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor


class Staged(nn.Module):
    """A network that shows its stages; subclasses write `stages`, and `forward` is its logits f[b, k].

    `classifier` names the last layer, which `forward` of a subclass without one leaves out.
    """

    classifier_name: str = "fc"
    side: int = 32

    def stages(self, x: Tensor) -> Stages:
        """f[b, 3, h, w] -> `Stages`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(x).logits

    def layers(self) -> Iterator[nn.Module]:
        """`layer1`, `layer2`, ... in order."""
        return (part for name, part in self.named_children() if name.startswith("layer"))


def conv3(channels: int, out: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=1, groups=groups, bias=False)


def conv1(channels: int, out: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 1, stride, groups=groups, bias=False)


def initialise(net: nn.Module, *, nonlinearity: str = "relu") -> None:
    """Kaiming-normal convolutions (fan-out) with zero biases, norms at 1 and 0; linear layers stay as they are."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d):
            slope = 0.1 if nonlinearity == "leaky_relu" else 0.0
            nn.init.kaiming_normal_(part.weight, a=slope, mode="fan_out", nonlinearity=nonlinearity)  # type: ignore[arg-type]
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def through(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last of a layer's blocks before its ReLU, and after it; each block's ReLU is outside of it."""
    before = x
    for block in layer.children():
        before = block(x)
        x = relu(before)
    return before, x


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The channels of f[b, c, h, w] dealt round the groups."""
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)
