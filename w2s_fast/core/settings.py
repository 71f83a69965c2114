"""How a run's optimisation is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.options import option
from w2s_fast.core.specs import parse

EPOCHS, BATCH_SIZE = 10, 512
LEAST_BATCHES, LEAST_STEPS = 16, 300
"""Of a run on data that bring no recipe. Ten epochs of 512 are twelve steps on 614 rows, after which a linear probe
stands at 37.5 % where it easily reaches 51.5 %."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run's optimisation is made of. `lr` None is the head's own; `batch_size` and `epochs` None the data's."""

    epochs: int | None = option(None, "Passes over hold-train (default: the data's, else 10 or 300 steps).")
    batch_size: int | None = option(None, "Rows per step (default: the data's, else 512 or a sixteenth of the rows).")
    lr: float | None = option(None, "Learning rate (default: the head's, 0.01).")
    weight_decay: float = option(0.0, "Weight decay, as the solver takes it.")
    solver: str = option("adam", "adam, adamw, sgd(momentum=0.9), lbfgs or ridge.")
    schedule: str = option("linear(warmup=0.1)", "linear, cosine or constant, each with (warmup=SHARE).")
    w_gt: float = option(0.0, "Weight of a ground-truth term in the loss; 0 for students of a weak model.")

    def resolved(self, defaults: Mapping[str, Any], *, rows: int | None = None) -> Settings:
        """These settings with what is unset taken from the manifest's `[train]` defaults, then 10 epochs of 512.

        rows: of hold-train; on data without defaults, what is unset then becomes batches of at most a sixteenth of
        them, and epochs of `LEAST_STEPS` steps at least. None for solvers that see all rows at once.
        """
        rows = None if defaults else rows
        known = {f.name for f in fields(Settings)}
        for key in defaults:
            if key not in known:
                raise UsageError(f"the manifest's [train] table has an unknown key {key!r}{nearest(key, known)}")
        batch_size = self.batch_size if self.batch_size is not None else defaults.get("batch_size")
        if batch_size is None:
            batch_size = BATCH_SIZE if rows is None else min(BATCH_SIZE, max(1, rows // LEAST_BATCHES))
        epochs = self.epochs if self.epochs is not None else defaults.get("epochs")
        if epochs is None:
            batches = 1 if rows is None else math.ceil(rows / batch_size)
            epochs = EPOCHS if rows is None else max(EPOCHS, math.ceil(LEAST_STEPS / batches))
        found = replace(
            self,
            epochs=int(epochs),
            batch_size=int(batch_size),
            lr=self.lr if self.lr is not None else defaults.get("lr"),
        )
        return found.checked()

    def checked(self) -> Settings:
        """Itself, or a `UsageError` for a value out of range."""
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be a finite number above 0, not {self.lr}")
        for name in ("weight_decay", "w_gt"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} must be a finite number of at least 0, not {value}")
        parse(self.solver)
        parse(self.schedule)
        return self
