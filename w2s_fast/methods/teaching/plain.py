"""The two plain supervisions: a weak model's labels as they are, and ground truth for ceilings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from w2s_fast.methods.teaching.teaching import Lesson, Lessons, Pupil, Taught, Teaching


@dataclass(frozen=True, kw_only=True)
class WeakLabels(Teaching):
    """The weak model's logits on every row of hold-train."""

    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), naive fine-tuning"
    equation: ClassVar[str] = "w = softmax(z_w / tau_w)"
    verified: ClassVar[bool] = True

    def lessons(self, pupil: Pupil) -> Lessons:
        lesson = Lesson(supervision=pupil.weak)
        (fit,) = yield [lesson]
        return Taught(fit=fit, lesson=lesson)


@dataclass(frozen=True, kw_only=True)
class GroundTruth(Teaching):
    """Ground truth on every row of hold-train: a strong ceiling."""

    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), strong ceiling"
    equation: ClassVar[str] = "w = onehot(y)"
    verified: ClassVar[bool] = True
    truth: ClassVar[bool] = True

    def lessons(self, pupil: Pupil) -> Lessons:
        lesson = Lesson(supervision=pupil.desk.truth)
        (fit,) = yield [lesson]
        return Taught(fit=fit, lesson=lesson)
