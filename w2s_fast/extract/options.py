"""What an extraction is asked to do; the part of it that changes numbers enters the bank's key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from w2s_fast.core.errors import UsageError, nearest

Compute = Literal["fp32", "bf16"]
Stored = Literal["f16", "f32"]


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How features are computed and stored.

    `compute`: fp32, or bf16 autocast. `tf32`: allow TF32 GEMMs on CUDA. `stored`: f16 or f32 on disk.
    `random_weights`, `allow_mismatch`: see `backbones.open_encoder`. These enter the key.
    `device`, `batch_size`, `workers` (decoding processes; None = one per core but one), `max_failures`
    (unreadable images before the extraction is given up; None = any number) do not.
    """

    compute: Compute = "fp32"
    stored: Stored = "f16"
    tf32: bool = False
    random_weights: bool = False
    allow_mismatch: bool = False
    device: str = "auto"
    batch_size: int = 256
    workers: int | None = None
    max_failures: int | None = None

    def in_key(self) -> dict[str, Any]:
        """The choices that change numbers, as JSON."""
        return {
            "compute": self.compute,
            "stored": self.stored,
            "tf32": self.tf32,
            "random_weights": self.random_weights,
            "allow_mismatch": self.allow_mismatch,
        }

    def checked(self) -> ExtractOptions:
        """Itself, or a `UsageError` for a value out of range."""
        if self.compute not in get_args(Compute):
            raise UsageError(f"--compute {self.compute!r} is unknown{nearest(self.compute, get_args(Compute))}")
        if self.stored not in get_args(Stored):
            raise UsageError(f"--stored {self.stored!r} is unknown{nearest(self.stored, get_args(Stored))}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers must be at least 0, not {self.workers}")
        return self

    def decoders(self, rows: int) -> int:
        """Decoding processes for a part of `rows` images; 0 = in this process, for parts too small to fork for."""
        asked = max(0, (os.cpu_count() or 1) - 1) if self.workers is None else self.workers
        return 0 if rows < 256 and self.workers is None else asked
