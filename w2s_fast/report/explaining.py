"""One image explained: what every system says, its neighbours, the prototypes that decided, the rows that pulled."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.diagnose.subject import Said, Subject

TOP = 5


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class with its probability (None where a system gave its label alone)."""

    label: str
    prob: float | None


@dataclass(frozen=True, kw_only=True)
class Near:
    """Another row: how similar it is (cosine), its part, its weak label and true class (None without truth).

    `pull` is by how much the row raises the logit of the predicted class per unit of step (training rows alone).
    """

    id: str
    cosine: float
    part: str
    weak: str
    truth: str | None
    pull: float | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Everything about one test image, as plain values.

    `systems` name -> its five likeliest classes; `neighbours` are those among all rows, `pulled` the training rows that
    pulled the student most towards the class it predicts; `prototypes` are cosines of the image with class weights (of
    the head, else with text features), highest first.
    """

    id: str
    part: str
    truth: str | None
    student: str
    systems: dict[str, list[Guess]]
    neighbours: list[Near]
    prototypes: list[Guess] = field(default_factory=list[Guess])
    pulled: list[Near] = field(default_factory=list[Near])

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def explain(subject: Subject, row: int, *, student: str, k: int = 8) -> Explanation:
    """Explain what `student` says on one row of the subject; see `Explanation`.

    The pull of a training row i on class c is (w_i[c] - p_i[c]) cos(x_i, x): the weak probability less the student's
    own (of the head, where the subject has one of this name, else 1 / classes), which is the part of the loss's
    gradient that i contributes to the logit of c at x. Raises `UsageError` for a student that says nothing on the row.
    """
    if student not in subject.students:
        raise UsageError(f"there is no student {student!r}{nearest(student, subject.students)}")
    said = {name: (one, _place(one, row)) for name, one in subject.students.items()}
    at = said[student][1]
    if at is None:
        raise UsageError(f"{student!r} says nothing on {subject.ids[row]}: it is no test image of this seed")
    chosen = int(subject.students[student].labels[at])
    x = subject.features[row : row + 1]
    systems = {name: _best(z[row].double().softmax(-1), subject) for name, z in subject.weak.items()}
    if subject.text is not None:
        cosines = _cosines(x, subject.text)[0]
        systems["zero-shot"] = _best((subject.logit_scale * cosines).softmax(-1), subject)
    for name, (one, place) in said.items():
        if place is not None and name not in systems:
            label = subject.classes[int(one.labels[place])]
            systems[name] = [Guess(label=label, prob=None)] if one.probs is None else _best(one.probs[place], subject)
    part = subject.part_of()
    ids, near = neighbours(subject.features, x, k=min(k + 1, len(subject)))
    pairs = [(j, c) for j, c in zip(ids[0].tolist(), near[0].tolist(), strict=True) if j != row][:k]
    weights = subject.heads.get(student, subject.text)
    prototypes: list[Guess] = []
    if weights is not None:
        prototypes = _best(_cosines(x, weights)[0], subject)
    return Explanation(
        id=subject.ids[row],
        part=part[row],
        truth=_class(subject, row),
        student=student,
        systems=systems,
        neighbours=[_near(subject, part, j, cosine) for j, cosine in pairs],
        prototypes=prototypes,
        pulled=_pulled(subject, part, x, chosen, student, k=k),
    )


def worst(subject: Subject, student: str, *, count: int) -> list[int]:
    """Test rows that a student gets wrong, those first on which its weak model is surest of the true class.

    Without ground truth: rows on which the student contradicts the weak model, those first where that is surest.
    """
    if student not in subject.students:
        raise UsageError(f"there is no student {student!r}{nearest(student, subject.students)}")
    said = subject.students[student]
    rows = torch.from_numpy(said.rows)
    probs = torch.stack([z[rows].double().softmax(-1) for z in subject.weak.values()]).mean(0)
    against = probs.argmax(-1) if subject.labels is None else subject.labels[rows]
    wrong = (said.labels != against) & (against >= 0)
    sure = torch.where(wrong, probs.gather(1, against.clamp_min(0).unsqueeze(1))[:, 0], -1.0)
    order = sure.argsort(descending=True, stable=True)[: min(count, int(wrong.sum()))]
    return rows[order].tolist()


def _pulled(subject: Subject, part: list[str], x: Tensor, chosen: int, student: str, *, k: int) -> list[Near]:
    train = subject.parts.get("train")
    if train is None or not len(train):
        return []
    rows = torch.from_numpy(train)
    weak = torch.stack([z[rows].double().softmax(-1)[:, chosen] for z in subject.weak.values()]).mean(0)
    own = torch.full_like(weak, 1 / len(subject.classes))
    if student in subject.fitted:
        own = subject.fitted[student][rows, chosen].double()
    cosines = _cosines(subject.features[rows], x)[:, 0]
    pull = (weak - own) * cosines
    order = pull.argsort(descending=True, stable=True)[:k].tolist()
    return [_near(subject, part, int(train[i]), float(cosines[i]), pull=float(pull[i])) for i in order]


def _near(subject: Subject, part: list[str], row: int, cosine: float, *, pull: float | None = None) -> Near:
    weak = torch.stack([z[row].double().softmax(-1) for z in subject.weak.values()]).mean(0) if subject.weak else None
    return Near(
        id=subject.ids[row],
        cosine=cosine,
        part=part[row],
        weak="" if weak is None else subject.classes[int(weak.argmax())],
        truth=_class(subject, row),
        pull=pull,
    )


def _class(subject: Subject, row: int) -> str | None:
    if subject.labels is None or int(subject.labels[row]) < 0:
        return None
    return subject.classes[int(subject.labels[row])]


def _best(scores: Tensor, subject: Subject) -> list[Guess]:
    order = scores.double().argsort(descending=True, stable=True)[:TOP].tolist()
    return [Guess(label=subject.classes[c], prob=float(scores[c])) for c in order]


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    return normalize(x.double(), dim=-1) @ normalize(y.double(), dim=-1).T


def _place(said: Said, row: int) -> int | None:
    found = np.flatnonzero(said.rows == row)
    return int(found[0]) if len(found) else None
