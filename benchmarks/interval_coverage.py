"""How often the 95 % intervals of tables hold the truth, by simulated studies.

    python benchmarks/interval_coverage.py [--studies 1000] [--md FILE]        a few minutes on one core

Per study, item i of system m is right under seed s and weak model w where theta_m + g_i + h_mi + u_ms + v_mw + e > 0:
g ~ N(0, 1) an item's difficulty, which all share; h ~ N(0, 0.5^2) a system's own liking for it; u ~ N(0, seeds^2) and
v ~ N(0, weak^2) what a seed and a weak model do to a system; e ~ N(0, 0.3^2) noise of one prediction. The truth is the
expectation over items, seeds and weak models. Fixed: all seeds share one test set of 400 items; rotated: each has 400
of its own. With S seeds and M > 1 weak models all S x M pairs are fitted. Standard error of a coverage p: sqrt(p (1 -
p) / studies), .7 points at 1,000.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, mean, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from w2s_fast.core.intervals import Resamples

ITEM, OWN, NOISE, ITEMS = 1.0, 0.5, 0.3, 400
THETA = {"a": 0.4, "b": 0.1}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A design (seeds, weak models, test sets) and how much seeds and weak models matter."""

    seeds: int
    weak_models: int = 1
    rotated: bool = False
    by_seed: float = 0.0
    by_weak: float = 0.0


CASES = (
    *(
        Case(seeds=s, rotated=r, by_seed=v)
        for s in (2, 3, 5, 10)
        for r, v in ((False, 0.0), (False, 0.1), (True, 0.0), (True, 0.05))
    ),
    *(Case(seeds=5, weak_models=m, by_seed=0.05, by_weak=v) for m in (2, 3, 5) for v in (0.0, 0.05, 0.2)),
)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Share of studies whose interval of a - b holds the truth; half-widths in points: mean, 95th percentile."""

    share: float
    half: float
    widest: float


def coverage(case: Case, *, studies: int, replicates: int = 400, seed: int = 0) -> Coverage:
    """Simulate so many studies of one design."""
    rng = np.random.default_rng(seed)
    runs = [(s, w) for w in range(case.weak_models) for s in range(case.seeds)]
    items = [np.arange(ITEMS) + (s * ITEMS if case.rotated else 0) for s, _ in runs]
    resamples = Resamples(items, replicates=replicates, seeds=[s for s, _ in runs], weak_seeds=[w for _, w in runs])
    total = ITEMS * (case.seeds if case.rotated else 1)
    spread = math.sqrt(ITEM**2 + OWN**2 + NOISE**2 + case.by_seed**2 + case.by_weak**2)
    truth = NormalDist().cdf(THETA["a"] / spread) - NormalDist().cdf(THETA["b"] / spread)
    held, halves = 0, []
    for _ in range(studies):
        difficulty = rng.normal(0, ITEM, total)
        means = []
        for theta in THETA.values():
            own = theta + difficulty + rng.normal(0, OWN, total)
            of_seed, of_weak = rng.normal(0, case.by_seed, case.seeds), rng.normal(0, case.by_weak, case.weak_models)
            means.append(
                resamples.means(
                    [
                        own[at] + of_seed[s] + of_weak[w] + rng.normal(0, NOISE, ITEMS) > 0
                        for at, (s, w) in zip(items, runs, strict=True)
                    ]
                )
            )
        one = resamples.interval(means[0] - means[1])
        held += one.low <= truth <= one.high
        halves.append(100 * one.half)
    return Coverage(share=held / studies, half=mean(halves), widest=quantiles(halves, n=20)[-1])


def table(studies: int) -> str:
    """All cases as a Markdown table."""
    lines = [
        "| seeds | weak models | test sets | seeds' effect | weak models' | coverage | half-width | 95th percentile |",
        "| --: | --: | :-- | --: | --: | --: | --: | --: |",
    ]
    for case in CASES:
        found = coverage(case, studies=studies)
        lines.append(
            f"| {case.seeds} | {case.weak_models} | {'rotated' if case.rotated else 'fixed'} | {case.by_seed} | "
            f"{case.by_weak} | {100 * found.share:.1f} % | {found.half:.1f} | {found.widest:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--md", type=Path, help="write the table here too")
    given = parser.parse_args()
    made = table(given.studies)
    print(made)
    if given.md:
        given.md.write_text(made, encoding="utf-8")
