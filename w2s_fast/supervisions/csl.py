"""Co-supervised learning: many specialised weak teachers in place of one generalist, level by level."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import Spec
from w2s_fast.losses import ground_truth
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.supervisions.specialists import Specialist, Units, collected, knows, level_of, ordered
from w2s_fast.supervisions.strategy import Strategy
from w2s_fast.train import Fit
from w2s_fast.train.stream import Stream

HEAD, LOSS = Spec(name="linear"), Spec(name="ce")
"""What a specialist is: a linear head, trained by cross-entropy on ground truth of D_train."""


@dataclass(frozen=True, kw_only=True)
class CSL(Strategy):
    """Levels of ever more specialised weak heads; each row is taught by the specialist the last student picks.

    Level m has m specialists: linear heads for all k classes on cached features of a weak encoder, each trained on the
    ground truth of its part of D_train, all in the same number of steps. A fresh student is fitted per level, on the
    rows of hold-train that survive denoising, in as many steps as on all of them. The last level's is the result.

    levels: teachers per level, from 1 up.
    by: whether a specialist knows a block of the `class`es or of the `domain`s (of a pooled task); blocks are
    contiguous and differ by one unit at most.
    order: of the units before they are cut: `label` (as they are numbered: alphabetical on folders, WordNet's on
    ImageNet), `random` (by run seed), `semantic` (halved again and again along the first principal direction of their
    mean weak features on D_train).
    assign: a row's teacher is the one whose block holds the class that the previous student names (`block`), the one
    whose prediction is nearest to the previous student's (`kl`), or the one that knows the row's true class or domain
    (`oracle`, an upper bound).
    keep: `all`, a share, or `topC`: as many rows as those whose new label is among the previous student's C likeliest
    classes (ties count); those with the smallest cross-entropy of the label under the previous student stay, in the
    order of hold-train where equal.
    hard: labels instead of probabilities.
    level1: the first teacher is a `head` like the others, trained on all of D_train, or the task's own `weak` model.
    backbone: an encoder in place of the weak model's own, such as `timm:resnet18.a1_in1k`.
    teacher_steps: Adam's steps for the specialists, on batches of their rows, repeated, of the student's size or
    D_train's.
    teacher_lr: Adam's rate for the specialists; None is 0.01.
    const_iters: the student takes int(E / share kept) epochs; else E.

    Differs from the released code: blocks may be uneven; ranks and shares are counted, not rounded; specialists see
    cached features (there AlexNet under random crops, which cannot be cached: 1,000 steps of 256 at lr 1e-4, drawn with
    replacement); `last` is the headline (there the best test epoch: `test_best`). Students follow the run's head, loss
    and settings (`csl+lp_literal` has the script's). Domain levels follow RAVEN's port; the authors released none.
    """

    levels: str = "1-2-4-8"
    by: str = "class"
    order: str = "label"
    assign: str = "block"
    keep: str | float = "top3"
    hard: bool = False
    level1: str = "head"
    backbone: str = ""
    teacher_steps: int = 1000
    teacher_lr: float | None = None
    const_iters: bool = True

    limits: ClassVar[Limits] = {
        "by": ("class", "domain"),
        "order": ("label", "random", "semantic"),
        "assign": ("block", "kl", "oracle"),
        "keep": "(0, 1]",
        "level1": ("head", "weak"),
        "teacher_steps": "[1, inf)",
        "teacher_lr": "(0, inf)",
    }
    source: ClassVar[str] = (
        "Liu & Alahi 2024, co-supervised learning (arXiv 2402.15505); github.com/YuejiangLIU/csl, commit not at hand"
    )
    equation: ClassVar[str] = "w = pi_m(x), m = block of argmax f_prev(x), or argmin_m KL(f_prev(x) || pi_m(x))"
    verified: ClassVar[bool] = True

    @property
    def truth(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.assign == "oracle"

    @property
    def stages(self) -> int:
        return len(self.counts) + sum(self.counts)

    @property
    def counts(self) -> list[int]:
        """Teachers per level."""
        return [int(part) for part in self.levels.split("-")]

    def check(self) -> None:
        counts = self.counts if re.fullmatch(r"[0-9]+(-[0-9]+)*", self.levels) else []
        if not counts or counts[0] != 1 or any(a >= b for a, b in pairwise(counts)):
            raise SpecError(
                f"supervision 'csl': levels={self.levels!r}: write rising numbers from 1, such as '1-2-4-8'"
            )
        if isinstance(self.keep, str) and self.keep != "all" and not re.fullmatch(r"top[1-9][0-9]*", self.keep):
            raise SpecError(
                f"supervision 'csl': keep={self.keep!r}: write 'all', 'top3' (any number), or a share such as 0.8"
            )
        if self.by == "domain" and self.assign == "block":
            raise SpecError("supervision 'csl': assign='block' needs class blocks; domain specialists take assign='kl'")

    def requests(self, context: Context) -> FitRequests:
        shared = context.shared
        features = shared.encoder(self.backbone) if self.backbone else shared.weak_features(context.weak_seed)
        units = Units.of(context, self.by)
        order = ordered(units, self.order, context=context, features=features)
        crew = [level_of(units, order, count, context=context, spec=context.supervision) for count in self.counts]
        if self.level1 == "weak":
            crew[0] = []
        flat = [one for level in crew for one in level]
        heads = iter((yield [self._specialist(one, context, features) for one in flat])) if flat else iter(())
        details: list[dict[str, Any]] = []
        student: Student | None = None
        previous: Tensor | None = None
        for place, level in enumerate(crew):
            fits = [next(heads) for _ in level]
            table, pick = self._labels(context, level, fits, units, features, previous)
            label = table.argmax(-1)
            kept = self._kept(label, previous, context.split.train)
            epochs = context.epochs(len(kept) if self.const_iters else len(context.split.train))
            request = FitRequest(
                supervision=shared.supervision(self._shown(table, label, context)),
                train=kept,
                settings={"epochs": epochs},
                key=self._key(place, context),
            )
            (fit,) = yield [request]
            record: dict[str, Any] = {"level": self.counts[place], "n_kept": len(kept), "epochs": epochs}
            record |= _told(context, label, kept, fit)
            if len(level) > 1:
                true = knows(level, units)[torch.from_numpy(units.of_row)]
                record["acc_assign"] = _share((pick == true).numpy()[context.split.train])
            details.append(record)
            student = Student(fit=fit, request=request, details=tuple(details))
            if fit.status != "ok":
                break
            previous = shared.log_probs(fit, request)
        assert student is not None
        return student

    def _specialist(self, one: Specialist, context: Context, features: Tensor) -> FitRequest:
        batch = min(context.settings.batch_size or 512, len(context.split.weak_train))
        shown = np.resize(one.rows, self.teacher_steps * batch)
        settings = {
            "epochs": 1,
            "batch_size": batch,
            "lr": self.teacher_lr,
            "solver": "adam",
            "schedule": "linear(warmup=0.1)",
            "weight_decay": 0.0,
            "w_gt": 0.0,
        }
        return FitRequest(
            supervision=context.shared.truth,
            head=HEAD,
            loss=LOSS,
            train=shown,
            settings=settings,
            features=features,
            scored=False,
            key=("specialist", self._space(context), one.rows.tobytes(), self.teacher_steps),
        )

    def _labels(
        self,
        context: Context,
        level: Sequence[Specialist],
        fits: Sequence[Fit],
        units: Units,
        features: Tensor,
        previous: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """What the assigned teacher says of every row, f[N, k], and which one of the level it is, i[N]."""
        if not fits:
            weak = context.weak.weak.float().log_softmax(-1)
            return weak, torch.zeros(len(weak), dtype=torch.int64)
        whose = knows(level, units)
        true = whose[torch.from_numpy(units.of_row)]

        def choose(rows: slice, logp: Tensor) -> Tensor:
            if previous is None:
                return torch.zeros(logp.shape[1], dtype=torch.int64)
            if self.assign == "oracle":
                return true[rows]
            if self.assign == "block":
                return whose[previous[rows].argmax(-1)]
            return nearest_teacher(previous[rows], logp)

        return collected(fits, features, choose)

    def _shown(self, table: Tensor, label: Tensor, context: Context) -> Tensor:
        """The logits that a student is shown: the teachers' own, or of their labels alone."""
        kind = torch.float16 if isinstance(context.task.features, Stream) else table.dtype
        return ground_truth(label, table.shape[1], kind).weak if self.hard else table.to(kind)

    def _kept(self, label: Tensor, previous: Tensor | None, train: Rows) -> Rows:
        if previous is None or self.keep == "all":
            return train
        rows = torch.from_numpy(train)
        return train[kept_rows(previous[rows], label[rows], self.keep)]

    def _space(self, context: Context) -> Hashable:
        """Which features the specialists read."""
        return self.backbone or ("weak", context.weak_seed)

    def _key(self, place: int, context: Context) -> Hashable:
        """Students of one level under specs that differ in later levels only are one fit."""
        spec = replace(self, levels="-".join(map(str, self.counts[: place + 1])))
        return ("csl", str(spec), self._space(context), context.weak_seed if self.level1 == "weak" else None)


def nearest_teacher(student: Tensor, teachers: Tensor) -> Tensor:
    """argmin_m KL(student || teacher m), i[b], of log-probabilities f[b, k] and f[m, b, k]; ties to the lowest."""
    # the student's own entropy is the same for every teacher
    return (student.exp() * teachers).sum(-1).argmax(0)


def kept_rows(student: Tensor, label: Tensor, keep: str | float) -> NDArray[np.bool_]:
    """bool[n]: rows that survive, by a student's log-probabilities f[n, k] and the labels i[n] of the new teachers."""
    n = len(label)
    of_label = student.gather(1, label[:, None])
    if isinstance(keep, str):
        top = int(keep.removeprefix("top"))
        count = int(((student > of_label).sum(-1) < top).sum())
    else:
        # without the margin, .7 * 10 is 7.000000000000001 and would keep eight
        count = math.ceil(keep * n - 1e-9)
    kept = np.zeros(n, bool)
    kept[np.argsort(-of_label[:, 0].numpy(), kind="stable")[:count]] = True
    return kept


def _told(context: Context, label: Tensor, kept: Rows, fit: Fit) -> dict[str, Any]:
    """What is logged of a level; what begins with acc_, precision_ or recall_ was made with ground truth."""
    train = context.split.train
    right = (label == context.task.labels).numpy()
    hits = int(right[kept].sum())
    return {
        "keep_rate": len(kept) / len(train),
        "acc_teacher": _share(right[train]),
        "precision_kept": hits / len(kept) if len(kept) else None,
        "recall_kept": hits / int(right[train].sum()) if right[train].any() else None,
        "acc_student": float(fit.curves["acc_test"][-1]) if fit.status == "ok" else None,
    }


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean())
