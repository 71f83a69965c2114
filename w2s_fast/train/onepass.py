"""Predictions for several sets of rows and parameters: one after the other, or from one pass over a streamed table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head
from w2s_fast.train.evaluate import Rows, Scored, predict, scorer
from w2s_fast.train.features import Resident
from w2s_fast.train.stream import CHUNK


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Parameters [G, ...] that predict on the test or val rows of one split."""

    part: Scored
    test: bool
    theta: Theta

    @property
    def rows(self) -> Rows:
        return self.part.test if self.test else self.part.val

    @property
    def runs(self) -> int:
        """G."""
        return len(next(iter(self.theta.values())))


def predict_all(x: Features, head: Head, jobs: Iterable[Job]) -> Iterator[Tensor]:
    """Class numbers i[G, n] for each job, in order.

    Streamed rows are read in storage order, each once for all the jobs that want it.
    """
    if isinstance(x, Resident):
        for job in jobs:
            yield predict(head, job.theta, job.rows, job.part.kept[int(job.test)], job.runs)
        return
    asked = list(jobs)
    if not asked:
        return
    scores = [scorer(head, job.theta, job.runs) for job in asked]
    found = [torch.empty(job.runs, len(job.rows.rows), dtype=torch.int64, device=job.rows.rows.device) for job in asked]
    union = torch.cat([job.rows.rows for job in asked]).unique()
    size = min(CHUNK, *(job.rows.size for job in asked))
    for part, features in x.batches(union, size):
        ends = torch.stack([part[0], part[-1] + 1])
        for job, score, into in zip(asked, scores, found, strict=True):
            wanted, place = job.rows.ascending
            start, stop = torch.searchsorted(wanted, ends).tolist()
            if start < stop:
                at = torch.searchsorted(part, wanted[start:stop])
                own = features if len(at) == len(part) else features.index_select(0, at)
                into[:, place[start:stop]] = score(own).argmax(dim=-1)
    yield from found
