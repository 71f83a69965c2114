"""Images on which students and their supervisor differ, with neighbours, for the page's gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from w2s_fast.data.manifest import Manifest
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.diagnose.subject import Subject
from w2s_fast.report.page.document import visible
from w2s_fast.report.thumbnails import thumbnail

KINDS = ("corrected", "spoiled", "both wrong", "differ")
"""The student is right and the weak model wrong; the reverse; both wrong, differently; no truth is known."""
NEAR = 4
Pair = tuple[Manifest, Subject]


def gallery(tasks: Mapping[str, Pair], *, most: int) -> dict[str, Any] | None:
    """What the script shows: `most` images over all tasks and kinds, evenly; None where nothing can be shown.

    tasks: name -> a manifest whose images can be read, and its subject with students. The first student of each is the
    one that is compared. Of each kind those come first of which the weak model is surest. Images that cannot be read
    are left out; each picture is held once.
    """
    queues = [list(_differing(name, *pair)) for name, pair in tasks.items()]
    by_kind = [[one for one in queue if one[0] == kind] for queue in queues for kind in KINDS]
    pictures: list[str] = []
    items: list[dict[str, Any]] = []
    place: dict[tuple[str, int], int | None] = {}

    def shown(name: str, row: int) -> int | None:
        if (name, row) not in place:
            image = thumbnail(tasks[name][0], row)
            place[name, row] = None if image is None else len(pictures)
            if image is not None:
                pictures.append(image)
        return place[name, row]

    turn = 0
    while len(items) < most and any(by_kind):
        queue = by_kind[turn % len(by_kind)]
        turn += 1
        if queue:
            kind, name, row = queue.pop(0)
            at = shown(name, row)
            if at is not None:
                items.append(_item(kind, name, row, at, tasks[name][1], shown))
    if not items:
        return None
    order = [kind for kind in KINDS if any(item["kind"] == kind for item in items)]
    return {"kinds": order, "items": items, "pictures": pictures}


def _differing(name: str, manifest: Manifest, subject: Subject) -> Iterator[tuple[str, str, int]]:
    """(kind, task, row) where the first student and the weak model differ, the surest weak labels first."""
    if not subject.students or not subject.weak:
        return
    said = next(iter(subject.students.values()))
    rows = torch.from_numpy(said.rows)
    sure, weak = next(iter(subject.weak.values()))[rows].double().softmax(-1).max(-1)
    for at in sure.argsort(descending=True, stable=True).tolist():
        student, other = int(said.labels[at]), int(weak[at])
        truth = -1 if subject.labels is None else int(subject.labels[rows[at]])
        if student == other:
            continue
        if truth < 0:
            kind = "differ"
        elif truth in (student, other):
            kind = "corrected" if student == truth else "spoiled"
        else:
            kind = "both wrong"
        yield kind, name, int(rows[at])


def _item(kind: str, name: str, row: int, picture: int, subject: Subject, shown: Any) -> dict[str, Any]:
    classes = subject.classes
    said = [(f"{weak} (weak)", classes[int(z[row].argmax())]) for weak, z in subject.weak.items()]
    for student, one in subject.students.items():
        at = (one.rows == row).nonzero()[0]
        if len(at):
            said.append((student, classes[int(one.labels[at[0]])]))
    ids, _ = neighbours(subject.features, subject.features[row : row + 1], k=min(NEAR + 1, len(subject)))
    near: list[tuple[int, str]] = []
    for j in (j for j in ids[0].tolist() if j != row):
        at = shown(name, j)
        if at is not None and len(near) < NEAR:
            label = "" if subject.labels is None or int(subject.labels[j]) < 0 else classes[int(subject.labels[j])]
            near.append((at, visible(f"neighbour {subject.ids[j][:8]} {label}".rstrip())))
    truth = "" if subject.labels is None or int(subject.labels[row]) < 0 else classes[int(subject.labels[row])]
    return {
        "kind": kind,
        "id": visible(f"{subject.ids[row][:12]} ({name})"),
        "picture": picture,
        "truth": visible(truth),
        "said": [[visible(a), visible(b)] for a, b in said],
        "near": near,
    }
