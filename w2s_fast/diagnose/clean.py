"""What to leave out of a data set: one of every set of near duplicates stays, contradicted labels and outliers go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.diagnose import make
from w2s_fast.diagnose.duplicates import Duplicates, near_pairs, sets_of
from w2s_fast.diagnose.subject import Subject

REASONS = ("duplicates", "mislabelled", "outliers")


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row to leave out: its number and id, why, and the row that stays in its place ("" where none does)."""

    row: int
    id: str
    reason: str
    kept: str = ""


def to_leave_out(subject: Subject, reasons: Sequence[str] = ("duplicates",)) -> list[LeftOut]:
    """Rows to leave out, each once, for the first of the reasons that applies; in order of rows.

    reasons: specs of `duplicates`, `mislabelled` and `outliers`, such as `duplicates(share=.2)`. Of a set of near
    duplicates one row stays: of the pool before D_train, and of these the one with the least id. A set whose labels
    differ goes whole, as one of them is wrong and nothing says which. `mislabelled` and label conflicts read ground
    truth.
    """
    out: dict[int, LeftOut] = {}
    row_of = {i: row for row, i in enumerate(subject.ids)}
    pool = set(subject.pool.tolist())
    for reason in reasons:
        one = make(reason)
        name = reason.partition("(")[0]
        if name not in REASONS:
            raise UsageError(f"{name!r} is no reason to leave a row out{nearest(name, REASONS)}")
        if isinstance(one, Duplicates):
            for rows in sets_of(near_pairs(subject, one.share)[0], len(subject)):
                labels = set() if subject.labels is None else {int(subject.labels[r]) for r in rows}
                kept = None if len(labels - {-1}) > 1 else min(rows, key=lambda r: (r not in pool, subject.ids[r]))
                why = name if kept is not None else "duplicates with different labels"
                for row in rows:
                    if row != kept:
                        stays = "" if kept is None else subject.ids[kept]
                        out.setdefault(row, LeftOut(row=row, id=subject.ids[row], reason=why, kept=stays))
            continue
        for record in one.of(subject).records():
            row = row_of[str(record["id"])]
            out.setdefault(row, LeftOut(row=row, id=subject.ids[row], reason=name))
    return [out[row] for row in sorted(out)]
