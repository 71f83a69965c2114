"""What all stacks of one call share: features, splits, supervisions, precision, compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.heads.head import Head, Start
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.batch import Tables
from w2s_fast.train.compiled import Compiler
from w2s_fast.train.features import Resident, Streamed
from w2s_fast.train.gemm import Precision
from w2s_fast.train.layout import Layout
from w2s_fast.train.step import Shape, is_linear_in_x


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitTensors:
    """One split's row numbers: train on the host for the order, val and test on the device."""

    train: NDArray[np.int64]
    val: Tensor
    test: Tensor


class Epochs(Protocol):
    """Another way to train a whole epoch of a stack, such as by kernels."""

    def train_epoch(self, layout: Layout) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class EngineContext:
    """What all stacks of a call share."""

    raw: Resident | Streamed
    shaped: dict[Shape, Resident | Streamed]
    splits: Sequence[SplitTensors]
    supervisions: Sequence[Supervision]
    start: Start
    truth: Tensor
    tables: Tables
    precision: Precision
    fuse: Callable[[Any], Epochs | None]
    compiler: Compiler
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        return self.precision.master

    def precision_of(self, head: Head) -> str:
        """What a head's rows say: reduced precision concerns products of features as they are, and TF32 a GPU."""
        reduced = self.precision.tf32 or self.precision.operand != self.precision.master
        served = self.device.type == "cuda" if self.precision.tf32 else is_linear_in_x(head)
        return self.precision.name if served or not reduced else "fp32"
