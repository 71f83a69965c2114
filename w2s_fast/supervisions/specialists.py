"""Specialists of co-supervision: weak heads that know a part of the classes, or of the domains, in levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.heads.classifier import classifier
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import Rows
from w2s_fast.train import Fit

CHUNK = 8192
"""Rows for which every specialist of a level is asked at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """What specialists share out: the classes of a task, or its domains. of_row: i[N], the unit of each row."""

    names: tuple[str, ...]
    of_row: NDArray[np.int64]
    what: str

    @staticmethod
    def of(context: Context, by: str) -> Units:
        """Classes in label order, or domains in alphabetical order; `UsageError` where all rows are of one domain."""
        manifest = context.task.manifest
        if by == "class":
            return Units(names=manifest.classes, of_row=manifest.labels, what="classes")
        names, of_row = np.unique(np.array(manifest.groups), return_inverse=True)
        if len(names) < 2:
            raise UsageError(
                f"{context.task.data}: all rows are of one domain, so there is none to specialise in; pool several: "
                "--pool --data A B (pool_tasks([a, b])), or let specialists share the classes: csl(by='class')"
            )
        return Units(names=tuple(map(str, names)), of_row=of_row.astype(np.int64), what="domains")


@dataclass(frozen=True, kw_only=True, eq=False)
class Specialist:
    """One teacher: the units that it knows, and the rows of D_train that show them."""

    units: tuple[int, ...]
    rows: Rows


def ordered(units: Units, order: str, *, context: Context, features: Tensor) -> list[int]:
    """The units in the order in which contiguous blocks are cut: as they are numbered, `random`, or `semantic`.

    random: a permutation of the run seed. semantic: unit weak features f[N, e] are averaged over each unit's rows of
    D_train, and the units are halved, and each half again, along the first principal direction of these means.
    """
    count = len(units.names)
    if order == "random":
        return torch.randperm(count, generator=context.generator("order of specialists")).tolist()
    if order == "semantic":
        rows = context.split.weak_train
        x = normalize(features[torch.from_numpy(rows)].double(), dim=-1).numpy()
        means = np.stack([_mean(x[units.of_row[rows] == unit], units, unit, context) for unit in range(count)])
        return bisected(means)
    return list(range(count))


def bisected(means: NDArray[np.float64]) -> list[int]:
    """The order of rows [m, e] in which similar ones are neighbours: halves along the first principal direction."""

    def parted(members: list[int]) -> list[int]:
        if len(members) < 3:
            return members
        centred = means[members] - means[members].mean(0)
        along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
        # the sign of a principal direction is arbitrary: the first member goes to the first half
        place = np.argsort(along if along[0] <= 0 else -along, kind="stable")
        half = (len(members) + 1) // 2
        parts = ([members[i] for i in sorted(part)] for part in (place[:half], place[half:]))
        return [unit for part in parts for unit in parted(part)]

    return parted(list(range(len(means))))


def blocks(order: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """`count` contiguous blocks of an order whose sizes differ by one at most, the larger ones first."""
    short, longer = divmod(len(order), count)
    starts = [i * short + min(i, longer) for i in range(count + 1)]
    return [tuple(order[a:b]) for a, b in pairwise(starts)]


def level_of(units: Units, order: Sequence[int], count: int, *, context: Context, spec: str) -> list[Specialist]:
    """The specialists of a level of `count`; `UsageError` for more than there are units, or one without a row."""
    if count > len(units.names):
        raise UsageError(
            f"{context.task.data}: {spec} has a level of {count} specialists for {len(units.names)} {units.what}; "
            f"give levels of at most {len(units.names)}, such as levels='1-2'"
        )
    d_train = context.split.weak_train
    if not len(d_train):
        raise UsageError(
            f"{context.task.data}: {spec} trains weak heads on D_train, and the task has none; mark it: "
            "Task.from_arrays(d_train=bool[N], encoders={'weak/0': X}, ...)"
        )
    made: list[Specialist] = []
    for members in blocks(order, count):
        rows = d_train[np.isin(units.of_row[d_train], members)]
        if not len(rows):
            raise UsageError(
                f"{context.task.data}: D_train shows none of {_told(units, members)}; take fewer levels than {spec}"
            )
        made.append(Specialist(units=members, rows=rows))
    return made


def knows(specialists: Sequence[Specialist], units: Units) -> Tensor:
    """i[units]: which specialist knows each unit."""
    whose = torch.empty(len(units.names), dtype=torch.int64)
    for number, one in enumerate(specialists):
        whose[list(one.units)] = number
    return whose


Choose = Callable[[slice, Tensor], Tensor]
"""(rows, log-probabilities of every specialist f[m, b, k]) -> which one teaches each row i[b]."""


def collected(fits: Sequence[Fit], features: Tensor, choose: Choose) -> tuple[Tensor, Tensor]:
    """What the chosen specialist says of every row, log-probabilities f[N, k], and which one that is i[N].

    The same numbers as all teachers' f[N, m, k] with `Supervision.pick`, without ever holding them.
    """
    said: list[Tensor] = []
    pick: list[Tensor] = []
    for rows, logp in _spoken(fits, features):
        chosen = choose(rows, logp)
        said.append(logp[chosen, torch.arange(logp.shape[1])])
        pick.append(chosen)
    return torch.cat(said), torch.cat(pick)


def _spoken(fits: Sequence[Fit], features: Tensor) -> Iterator[tuple[slice, Tensor]]:
    for fit in fits:
        if fit.status != "ok":
            raise TrainError("a specialist diverged; train them more carefully: csl(teacher_lr=0.001)")
    modules = [classifier(fit.head, fit.theta["last"]) for fit in fits]
    with torch.inference_mode():
        for start in range(0, len(features), CHUNK):
            rows = slice(start, min(start + CHUNK, len(features)))
            yield rows, torch.stack([module(features[rows]).log_softmax(-1) for module in modules]).clone()


def _mean(x: NDArray[np.float64], units: Units, unit: int, context: Context) -> NDArray[np.float64]:
    if not len(x):
        raise UsageError(
            f"{context.task.data}: D_train shows none of {units.names[unit]!r}, so it has no place in a semantic "
            "order; take order='label'"
        )
    return x.mean(0)


def _told(units: Units, members: Sequence[int]) -> str:
    first = ", ".join(repr(units.names[unit]) for unit in members[:3])
    return (
        first if len(members) == 1 else f"the {len(members)} {units.what} {first}{', ...' if len(members) > 3 else ''}"
    )
