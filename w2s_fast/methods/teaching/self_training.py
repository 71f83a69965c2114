"""A student taught by itself: relabelling all rows by its own predictions, or the confident ones only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from w2s_fast.core.fields import Limits
from w2s_fast.methods.teaching.relabel import hardened, share_right
from w2s_fast.methods.teaching.teaching import Lesson, Lessons, Pupil, Rows, Taught, Teaching
from w2s_fast.methods.teaching.two_stage import most_consistent


@dataclass(frozen=True, kw_only=True)
class SelfTrain(Teaching):
    """Fresh students, each taught by the predictions of the one before; the first by the weak model.

    rounds: students after the first. hard: whether they hand on their argmax instead of their probabilities, which are
    softmax(z / tau_s). Labels are replaced on every row, hold-val too, as in the published code (there the students
    after the first are fine-tuned language models, their labels soft).
    """

    rounds: int = 2
    hard: bool = False

    limits: ClassVar[Limits] = {"rounds": "[1, inf)"}
    source: ClassVar[str] = (
        "EleutherAI 2024, blog.eleuther.ai/weak-to-strong and EleutherAI/w2s (s2s_iters); "
        "Burns et al. 2023 (arXiv 2312.09390), bootstrapping within one model"
    )
    equation: ClassVar[str] = "w_0 = softmax(z_w), w_r = softmax(z_{r-1} / tau_s)"
    verified: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 1 + self.rounds

    def rows(self, pupil: Pupil, said: Any) -> Rows | None:
        """The rows that the next student is trained on; None is all of hold-train."""
        return None

    def epochs(self, pupil: Pupil, count: int) -> int:
        """Epochs of the students after the first, on so many rows."""
        return pupil.epochs(len(pupil.split.train))

    def lessons(self, pupil: Pupil) -> Lessons:
        desk, train = pupil.desk, pupil.split.train
        lesson = Lesson(supervision=pupil.weak, scored=False, key=("weak", pupil.weak_seed))
        (fit,) = yield [lesson]
        details: list[dict[str, Any]] = []
        for number in range(1, self.rounds + 1):
            said = desk.says(fit)
            rows = self.rows(pupil, said)
            kept = train if rows is None else rows
            epochs = self.epochs(pupil, len(kept))
            lesson = Lesson(
                supervision=desk.supervision(hardened(said) if self.hard else said),
                train=rows,
                settings={"epochs": epochs},
                scored=number == self.rounds,
                key=(type(self).__name__, self, pupil.weak_seed, number),
            )
            (fit,) = yield [lesson]
            details.append(
                {
                    "stage": number,
                    "keep_rate": len(kept) / len(train),
                    "epochs": epochs,
                    "acc_labels": share_right(pupil, said, train),
                    "precision_kept": share_right(pupil, said, kept),
                }
            )
        return Taught(fit=fit, lesson=lesson, details=tuple(details))


@dataclass(frozen=True, kw_only=True)
class RetrainConfidentLike(SelfTrain):
    """As `self_train`, on those rows of hold-train only of which the student before is most confident.

    keep: the share of hold-train. equal_steps: whether students take int(E / share kept) epochs, so as many steps as on
    all rows. After an idea for groups under spurious correlation, whose text was not at hand.
    """

    rounds: int = 1
    hard: bool = True
    keep: float = 0.5
    equal_steps: bool = True

    limits: ClassVar[Limits] = {"rounds": "[1, inf)", "keep": "(0, 1]"}
    source: ClassVar[str] = "retraining on the student's high-confidence subset, 2025; title and text not at hand"
    equation: ClassVar[str] = "w_r = onehot(argmax z_{r-1}) on the rows with the largest max softmax(z_{r-1} / tau_s)"
    verified: ClassVar[bool] = False

    def rows(self, pupil: Pupil, said: Any) -> Rows | None:
        return pupil.kept(most_consistent(said.max(dim=-1).values, pupil.split.train, self.keep))

    def epochs(self, pupil: Pupil, count: int) -> int:
        return pupil.epochs(count if self.equal_steps else len(pupil.split.train))
