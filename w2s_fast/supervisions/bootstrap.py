"""A chain of students through ever stronger encoders, each taught by the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import parse, split_list
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Student
from w2s_fast.supervisions.labels import hardened, share_right
from w2s_fast.supervisions.strategy import Strategy, head_on_the_way


@dataclass(frozen=True, kw_only=True)
class Bootstrap(Strategy):
    """A ladder of encoders between weak model and student; each link labels hold-train for the next.

    ladder: names of encoders, weakest first, between commas; the student's own comes last and is not named. Empty: the
    weak model's own encoder.
    head: what is fitted on every encoder of the ladder, with the method's loss and settings; it cannot start from text,
    which encoders of a ladder need not have.
    hard: whether links hand on their argmax instead of their probabilities.

    Labels are replaced on every row, hold-val too. The source fine-tunes whole models; here a link is a head on frozen
    features.
    """

    ladder: str = ""
    head: str = "linear"
    hard: bool = False

    limits: ClassVar[Limits] = {}
    source: ClassVar[str] = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390), bootstrapping"
    equation: ClassVar[str] = (
        "M_1 learns softmax(z_w), M_{i+1} learns softmax(z_i / tau_s), the student softmax(z_n / tau_s)"
    )
    verified: ClassVar[bool] = True

    @property
    def names(self) -> list[str]:
        """The encoders of the ladder."""
        return split_list(self.ladder)

    @property
    def stages(self) -> int:
        return 1 + max(1, len(self.names))

    def check(self) -> None:
        made = head_on_the_way("bootstrap", self.head)
        if made.needs_tower or getattr(made, "init_from", None) in ("text", "zero_shot"):
            raise SpecError(
                f"supervision 'bootstrap': head {self.head!r} reads text features, and the encoders of a ladder may "
                "have none; take head='linear' or head=\"prototype(init='weak_mean')\""
            )

    def requests(self, context: Context) -> FitRequests:
        shared, train, test = context.shared, context.split.train, context.split.test
        supervision, key = context.weak, ("bootstrap", self.hard, self.head, context.weak_seed)
        details: list[dict[str, Any]] = []
        for number, name in enumerate(self.names or [""], start=1):
            key = (*key, name)
            request = FitRequest(
                supervision=supervision,
                head=parse(self.head),
                features=shared.encoder(name) if name else shared.weak_features(context.weak_seed),
                scored=False,
                key=key,
            )
            (fit,) = yield [request]
            said = shared.log_probs(fit, request)
            details.append(
                {
                    "link": number,
                    "encoder": name or context.task.weak_models[context.weak_seed],
                    "acc_labels": share_right(context, supervision.weak, train),
                    "acc_train": share_right(context, said, train),
                    "acc_test": share_right(context, said, test),
                }
            )
            supervision = shared.supervision(hardened(said) if self.hard else said)
        request = FitRequest(supervision=supervision)
        (student,) = yield [request]
        return Student(fit=student, request=request, details=tuple(details))
