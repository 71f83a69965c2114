"""The notes under a table: what its numbers are, what its intervals cover, and what is missing from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from w2s_fast.results.summary.systems import Run

SELECTIONS = {
    "last": "Selection: the last epoch.",
    "weak_val": "Selection: the epoch that agrees best with the weak labels of hold-val.",
    "oracle": "Selection: the epoch that is best on hold-val's ground truth, which a student would not have.",
    "test_best": "Selection: the best epoch on the test set itself, only to stand beside papers that did so.",
}
PGR = (
    "PGR = (w2s - weak) / (ceiling - weak), the ratio of means over runs, never clipped, with the ceiling of the same "
    "head; best: with the best ceiling; zs: measured from the better of weak and zero-shot; undefined where the gap is "
    "within two standard errors, and such runs are left out of the median (guarded)."
)

FEW = 3
"""Up to so many seeds or weak models a table warns of its intervals (INTERVALS.md)."""
EQUAL_WEIGHT = "The mean gives every domain equal weight and takes the domains' errors as independent."


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one domain contributes to the notes."""

    name: str
    runs: Sequence[Run] = ()
    components: str | None = None
    one_test_set: bool | None = None
    predictions: bool = False
    unmatched: Sequence[str] = ()
    left_out: Sequence[str] = ()
    rising: Sequence[str] = ()
    remark: str | None = None
    methods: Sequence[str] = field(default_factory=tuple)
    pgr: bool = True


def notes(
    pages: Sequence[Facts], *, selection: str, unverified: Collection[str] = (), replicates: int
) -> tuple[str, ...]:
    """The sentences, most important first; those that hold for some domains only name them."""
    out = [*_intervals(pages, replicates), SELECTIONS.get(selection, f"Selection: {selection}.")]
    if any(page.pgr for page in pages):
        out.append(PGR)
    out += _design(pages)
    if len(pages) > 1:
        out.append(EQUAL_WEIGHT)
    methods = {method for page in pages for method in page.methods}
    doubtful = [name for name in unverified if name in methods]
    if doubtful:
        out.append(f"Not verified against the authors' code or text: {', '.join(doubtful)}.")
    out += [
        f"{page.name}: no interval for {', '.join(page.unmatched)}; the kept predictions are not those of these rows."
        for page in pages
        if page.unmatched
    ]
    out += [f"{page.name}: left out: {', '.join(page.left_out)}." for page in pages if page.left_out]
    out += [
        f"{page.name}: still rising when training ended, so that what is measured against it reads high: "
        f"{', '.join(page.rising)}; train longer (--epochs)."
        for page in pages
        if page.rising
    ]
    out += _by_domain(pages, lambda page: f"{page.remark.rstrip('.')}." if page.remark else None)
    return tuple(out)


def _intervals(pages: Sequence[Facts], replicates: int) -> list[str]:
    def covered(page: Facts) -> str | None:
        if page.components is None:
            return None
        return (
            f"Mean over runs ± half the width of its 95 % interval (crossed paired bootstrap, {replicates:,} "
            f"replicates), which covers {page.components}."
        )

    def bare(page: Facts) -> str | None:
        if page.components is not None:
            return None
        reason = "are of other runs than the rows" if page.predictions else "were not given"
        return f"No intervals: the kept predictions {reason}."

    return _by_domain(pages, covered) + _by_domain(pages, bare)


def _design(pages: Sequence[Facts]) -> list[str]:
    def runs(page: Facts) -> str:
        seeds = len({seed for seed, _ in page.runs})
        weak = len({weak for _, weak in page.runs})
        text = f"{seeds} {'seed' if seeds == 1 else 'seeds'}"
        if weak < 2:
            text += ", one weak model (how weak models vary is not covered)"
        elif len(page.runs) == seeds == weak:
            text += ", a weak model per seed"
        else:
            text += f" x {weak} weak models"
        return text + "."

    def few(page: Facts) -> str | None:
        counts = {"seeds": len({seed for seed, _ in page.runs}), "weak models": len({weak for _, weak in page.runs})}
        told = [f"{count} {what}" for what, count in counts.items() if 1 < count <= FEW]
        if page.components is None or not told:
            return None
        return f"{' and '.join(told)} are few: where they differ much, 95 % intervals cover 87-95 % (INTERVALS.md)."

    def split(page: Facts) -> str | None:
        if page.one_test_set is None or len({seed for seed, _ in page.runs}) < 2:
            return None
        return "Split: one test set for all seeds." if page.one_test_set else "Split: each seed tests on its own fold."

    return _by_domain(pages, runs) + _by_domain(pages, few) + _by_domain(pages, split)


def _by_domain(pages: Sequence[Facts], say: Callable[[Facts], str | None]) -> list[str]:
    """A sentence of each page; one that holds for all is said once, otherwise its domains are named."""
    told: dict[str, list[str]] = {}
    for page in pages:
        sentence = say(page)
        if sentence:
            told.setdefault(sentence, []).append(page.name)
    return [s if len(names) == len(pages) else f"{_listed(names)}: {s}" for s, names in told.items()]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
