"""A student taught by itself: relabelling all rows by its own predictions, or the confident ones only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from w2s_fast.core.fields import Limits
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.supervisions.labels import hardened, share_right
from w2s_fast.supervisions.strategy import Strategy
from w2s_fast.supervisions.two_stage import most_consistent


@dataclass(frozen=True, kw_only=True)
class SelfTrain(Strategy):
    """Fresh students, each taught by the predictions of the one before; the first by the weak model.

    rounds: students after the first.
    hard: whether they hand on their argmax instead of their probabilities, which are softmax(z / tau_s).

    Labels are replaced on every row, hold-val too, as in the published code (there the students after the first are
    fine-tuned language models, their labels soft).
    """

    rounds: int = 2
    hard: bool = False

    limits: ClassVar[Limits] = {"rounds": "[1, inf)"}
    source: ClassVar[str] = (
        "EleutherAI 2024, blog.eleuther.ai/weak-to-strong; github.com/EleutherAI/w2s, commit not at hand (s2s_iters); "
        "Burns et al. 2023 (arXiv 2312.09390), bootstrapping within one model"
    )
    equation: ClassVar[str] = "w_0 = softmax(z_w), w_r = softmax(z_{r-1} / tau_s)"
    verified: ClassVar[bool] = True

    @property
    def stages(self) -> int:
        return 1 + self.rounds

    def rows(self, context: Context, said: Any) -> Rows | None:
        """The rows that the next student is trained on; None is all of hold-train."""
        return None

    def epochs(self, context: Context, count: int) -> int:
        """Epochs of the students after the first, on so many rows."""
        return context.epochs(len(context.split.train))

    def requests(self, context: Context) -> FitRequests:
        shared, train = context.shared, context.split.train
        request = FitRequest(supervision=context.weak, scored=False, key=("weak", context.weak_seed))
        (fit,) = yield [request]
        details: list[dict[str, Any]] = []
        for number in range(1, self.rounds + 1):
            said = shared.log_probs(fit)
            rows = self.rows(context, said)
            kept = train if rows is None else rows
            epochs = self.epochs(context, len(kept))
            request = FitRequest(
                supervision=shared.supervision(hardened(said) if self.hard else said),
                train=rows,
                settings={"epochs": epochs},
                scored=number == self.rounds,
                key=(type(self).__name__, self, context.weak_seed, number),
            )
            (fit,) = yield [request]
            details.append(
                {
                    "stage": number,
                    "keep_rate": len(kept) / len(train),
                    "epochs": epochs,
                    "acc_labels": share_right(context, said, train),
                    "precision_kept": share_right(context, said, kept),
                }
            )
        return Student(fit=fit, request=request, details=tuple(details))


@dataclass(frozen=True, kw_only=True)
class RetrainConfidentLike(SelfTrain):
    """As `self_train`, on those rows of hold-train only of which the student before is most confident.

    keep: the share of hold-train.
    equal_steps: whether students take int(E / share kept) epochs, so as many steps as on all rows.

    After an idea for groups under spurious correlation, whose text was not at hand.
    """

    rounds: int = 1
    hard: bool = True
    keep: float = 0.5
    equal_steps: bool = True

    limits: ClassVar[Limits] = {"rounds": "[1, inf)", "keep": "(0, 1]"}
    source: ClassVar[str] = "retraining on the student's high-confidence subset, 2025; title and text not at hand"
    equation: ClassVar[str] = "w_r = onehot(argmax z_{r-1}) on the rows with the largest max softmax(z_{r-1} / tau_s)"
    verified: ClassVar[bool] = False

    def rows(self, context: Context, said: Any) -> Rows | None:
        return context.kept(most_consistent(said.max(dim=-1).values, context.split.train, self.keep))

    def epochs(self, context: Context, count: int) -> int:
        return context.epochs(count if self.equal_steps else len(context.split.train))
