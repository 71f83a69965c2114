"""Does CPL > KD+LP > CE+LP > weak hold? In which domains it does, in which it fails, and where nobody can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.intervals import REPLICATES, Interval
from w2s_fast.results.summary import Systems

ORDER = ("cpl", "kd+lp", "ce+lp", "weak")
"""The paper's ordering, best first."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`better` > `worse` in one domain: the interval of their difference in accuracy, and what it says.

    `holds` is "yes" where the interval lies above 0, "no" where it lies below, else "unclear".
    """

    domain: str
    better: str
    worse: str
    difference: Interval

    @property
    def holds(self) -> str:
        """yes, no or unclear."""
        if self.difference.low > 0:
            return "yes"
        return "no" if self.difference.high < 0 else "unclear"

    def __str__(self) -> str:
        d = self.difference
        verb = {"yes": "holds", "no": "fails", "unclear": "is unclear"}[self.holds]
        points = f"{100 * d.estimate:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        return f"{self.better} > {self.worse} {verb} ({points})"


def ordering(
    systems: Mapping[str, Systems], *, order: Sequence[str] = ORDER, replicates: int = REPLICATES
) -> list[Claim]:
    """The claims that each of `order` is better than its successor, in every domain of `systems`, best first.

    Differences are matched by run and item (crossed paired bootstrap). A domain that lacks a system has no claim
    about it. Errors: `UsageError` for an order of fewer than two or with repeats, and for a
    system that no domain has.
    """
    if len(order) < 2 or len(set(order)) < len(order):
        raise UsageError("an ordering names two systems or more, each once, best first, such as cpl, kd+lp, weak")
    known = {name for one in systems.values() for name, correct in one.correct.items() if len(correct)}
    for name in order:
        if systems and name not in known:
            raise UsageError(f"no kept predictions of {name!r}{nearest(name, known)}")
    claims: list[Claim] = []
    for domain, one in systems.items():
        if not len(one.items):
            continue
        resamples = one.resamples(replicates=replicates)
        means = {name: resamples.means(one.correct[name]) for name in order if len(one.correct.get(name, ()))}
        claims += [
            Claim(domain=domain, better=a, worse=b, difference=resamples.interval(means[a] - means[b]))
            for a, b in pairwise(order)
            if a in means and b in means
        ]
    return claims


def sentences(claims: Sequence[Claim]) -> list[str]:
    """The claims in words: where the whole order holds, where it fails and by how much, and where it is open."""
    if not claims:
        return []
    chain = _chain(claims)
    by_domain: dict[str, list[Claim]] = {}
    for claim in claims:
        by_domain.setdefault(claim.domain, []).append(claim)
    whole = len(chain) - 1
    held = [d for d, found in by_domain.items() if len(found) == whole and all(c.holds == "yes" for c in found)]
    out = [f"{' > '.join(chain)} {_where(held, list(by_domain))}."]
    for domain, found in by_domain.items():
        told = [str(claim) for verdict in ("no", "unclear") for claim in found if claim.holds == verdict]
        if len(found) < whole:
            told.append("not every system was run")
        if told:
            out.append(f"{domain}: {'; '.join(told)}.")
    covered = sorted({claim.difference.components for claim in claims})
    out.append(f"Brackets are 95 % intervals of each difference, covering {' or '.join(covered)}.")
    return out


def _chain(claims: Sequence[Claim]) -> list[str]:
    """The order that the claims are links of."""
    follows = {claim.better: claim.worse for claim in claims}
    first = next(claim.better for claim in claims if claim.better not in follows.values())
    chain = [first]
    while chain[-1] in follows:
        chain.append(follows[chain[-1]])
    return chain


def _where(held: Sequence[str], domains: Sequence[str]) -> str:
    if len(domains) == 1:
        return f"{'holds' if held else 'does not hold at every step'} in {domains[0]}"
    if len(held) == len(domains):
        return f"holds in all {len(domains)} domains"
    if not held:
        return f"holds at every step in none of the {len(domains)} domains"
    return f"holds in {len(held)} of {len(domains)} domains ({', '.join(held)})"
