"""What an extraction is asked to do; the part of it that changes numbers enters the bank's key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.options import option

Compute = Literal["fp32", "bf16"]
Stored = Literal["f16", "f32"]


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How features are computed and stored.

    `compute`: fp32, or bf16 autocast. `tf32`: allow TF32 GEMMs on CUDA. `stored`: f16 or f32 on disk.
    `random_weights`, `allow_mismatch`: see `backbones.open_encoder`. These enter the key.
    `device`, `batch_size`, `workers` (decoding processes; None = all cores but one beside a GPU, a quarter of the cores
    beside an encoder on the CPU) and `max_failures` (unreadable images before giving up; None = any number) do not.
    """

    compute: Compute = option("fp32", "fp32, or bf16 autocast; enters the cache key.")
    stored: Stored = option("f16", "Stored as f16 or f32; enters the cache key.")
    tf32: bool = option(False, "Allow TF32 on CUDA; enters the cache key.")
    random_weights: bool = option(False, "Take an untrained network, knowingly.")
    allow_mismatch: bool = option(False, "Accept weights that do not fit the model.")
    device: str = option("auto", "auto, cpu or cuda.", numbers=False)
    batch_size: int = option(256, "Images per forward pass.", name="extract_batch_size", numbers=False)
    workers: int | None = option(None, "Decoding processes (default: by cores and device).", numbers=False)
    max_failures: int | None = option(None, "Give up after so many unreadable images.", numbers=False)

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

    def decoders(self, rows: int, device: str) -> int:
        """Decoding processes for a part of `rows` images; 0 = in this process, for parts too small to fork for."""
        if self.workers is not None:
            return self.workers
        cores = os.cpu_count() or 1
        if rows < 256 or cores == 1:
            return 0
        return cores - 1 if device != "cpu" else max(1, cores // 4)
