"""Several processes that train one network: batches are shared out, norms and gradients are of the whole batch.

Start with `torchrun --nproc-per-node 2 $(which w2s-fast) finetune ...`; gradients are summed after the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class World:
    """Which of how many processes this is; (0, 1) without torchrun."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def join() -> World:
    """The process group that torchrun's environment describes, joined once: NCCL on GPUs, else gloo."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(rank=dist.get_rank(), size=dist.get_world_size())


def sum_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Sum the gradients of all processes, as one tensor."""
    if world.size == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in grads])
    dist.all_reduce(flat)
    at = 0
    for g in grads:
        g.copy_(flat[at : at + g.numel()].view_as(g))
        at += g.numel()


def summed(values: Tensor, world: World) -> Tensor:
    """The sum over processes of a small tensor."""
    if world.size > 1:
        dist.all_reduce(values)
    return values


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of all processes' rows; torch's own SyncBatchNorm refuses CPUs."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = (0, 2, 3)
        count = input.new_tensor([input.numel() / input.shape[1]])
        both = torch.cat([input.sum(axes), count])
        total: Tensor = _Sum.apply(both)  # type: ignore[assignment]
        n = total[-1].detach()
        mean = total[:-1] / n
        centred = input - mean[:, None, None]
        squares: Tensor = _Sum.apply(centred.square().sum(axes))  # type: ignore[assignment]
        variance = squares / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                by = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
                self.running_mean.lerp_(mean, by)
                self.running_var.lerp_(variance * n / (n - 1), by)
        out = centred * (variance + self.eps).rsqrt()[:, None, None]
        return out if self.weight is None else out * self.weight[:, None, None] + self.bias[:, None, None]


def with_whole_norms(module: nn.Module, world: World) -> nn.Module:
    """Let every BatchNorm2d of a network see the whole batch; changes it in place, with one process not at all."""
    if world.size > 1:
        for part in module.modules():
            if type(part) is nn.BatchNorm2d:
                part.__class__ = WholeBatchNorm
    return module
