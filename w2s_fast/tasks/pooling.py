"""One task of several domains: tasks of one strong encoder and one set of classes, joined row by row.

Nothing is extracted again. Every row keeps its features, its half (D_train or the pool) and the logits of its own
domain's supervisor; folds are dealt anew over all domains.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.backbones import parse_model
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.hashing import digest_json
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import halves
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.opening import kept
from w2s_fast.tasks.task import Say, Task, log
from w2s_fast.train.stream import ArrayBlocks, Blocks, Stream

T = TypeVar("T")
REPEATED = re.compile(r"[0-9a-f]{32}#[0-9]+")
"""Ids of a later occurrence of an image in one data set."""


def pool_tasks(tasks: Sequence[Task], *, say: Say | None = None) -> Task:
    """The tasks as one, in the order of their names; `groups` are their domains.

    The weak model of a row is its own domain's supervisor of that weak seed; weak seeds and teachers that some domain
    lacks are left out. Features of another encoder are those of every domain, joined; of supervisors, which are another
    network on each, those of the first drawn domain serve all (`drawn:cnn/DOMAIN-SEED`), and of `weak:NAME` none.
    An image that several domains have is a row of each, its id marked `@DOMAIN` from the second on; where it is in
    D_train of one and in the pool of another, D_train loses it (`say` is told). `UsageError` for fewer than two tasks,
    or for unlike ones.
    """
    if len(tasks) < 2:
        raise UsageError("a pool needs at least two data sets; name them: --pool --data A B")
    parts = sorted(tasks, key=lambda task: task.data)
    _check_alike(parts)
    rows, ids = _rows_and_ids(parts, say or log)
    parts = [_taken(task, at) for task, at in zip(parts, rows, strict=True)]
    first = parts[0]
    seeds = [s for s in sorted(first.weak_logits) if all(s in task.weak_logits for task in parts)]
    if not seeds:
        raise UsageError("these data sets have no weak seed in common; train supervisors of the same seeds")
    more = [name for name in first.more_teachers if all(name in task.more_teachers for task in parts)]
    return replace(
        first,
        manifest=_joined(parts, ids),
        features=_features(parts),
        weak_logits={seed: torch.cat([task.weak_logits[seed] for task in parts]) for seed in seeds},
        data="+".join(task.data for task in parts),
        paired=all(task.paired for task in parts),
        load_seconds=sum(task.load_seconds for task in parts),
        keys=_keys(parts, ids, seeds, more),
        weak_models=_shared(parts, seeds),
        more_teachers={name: torch.cat([task.more_teachers[name] for task in parts]) for name in more},
        open_features=None if any(task.open_features is None for task in parts) else partial(_everywhere, parts),
    )


def _check_alike(parts: Sequence[Task]) -> None:
    first = parts[0]
    for task in parts[1:]:
        for what, a, b in (
            ("classes", first.classes, task.classes),
            ("strong encoder", first.strong, task.strong),
            ("weak model", first.weak, task.weak),
            ("prompt template", first.template, task.template),
            ("width of features", first.width, task.width),
        ):
            if a != b:
                told = f": {a!r} and {b!r}" if isinstance(a, str | int) else ""
                raise UsageError(f"{first.data} and {task.data} cannot be pooled: they differ in {what}{told}")
        if task.data == first.data or len({one.domain for one in parts}) < len(parts):
            raise UsageError(f"{task.data} is pooled twice; name each domain once")
        if not _same(first.text, task.text):
            raise UsageError(f"{first.data} and {task.data} cannot be pooled: their text features differ")


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None or a.is_meta:
        return (a is None) == (b is None)
    return torch.equal(a, b)


def _rows_and_ids(parts: Sequence[Task], say: Say) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """The rows of each part that are kept, and the ids of all of them."""
    pools = [{_image(task.ids[row]) for row in halves(task.manifest)[1]} for task in parts]
    seen: set[str] = set()
    rows: list[NDArray[np.int64]] = []
    ids: list[str] = []
    for place, task in enumerate(parts):
        others = set[str]().union(*pools[:place], *pools[place + 1 :])
        lost = {row for row in halves(task.manifest)[0].tolist() if _image(task.ids[row]) in others}
        mine = [row for row in range(len(task.ids)) if row not in lost]
        if len(mine) < len(task.ids):
            say(f"{task.data}: {len(task.ids) - len(mine)} images of D_train are in another domain's pool; left out")
        rows.append(np.array(mine, np.int64))
        ids += [f"{i}@{task.domain}" if (i := task.ids[row]) in seen else i for row in mine]
        seen.update(task.ids[row] for row in mine)
    return rows, tuple(ids)


def _image(row_id: str) -> str:
    """The id of an image's bytes, without the number of its occurrence."""
    return row_id.partition("#")[0] if REPEATED.fullmatch(row_id) else row_id


def _taken(task: Task, rows: NDArray[np.int64]) -> Task:
    """The task of some of its rows, with its halves written down."""
    splits = np.full(len(task.ids), "test", dtype="<U5")
    splits[halves(task.manifest)[0]] = "train"
    marked = replace(task.manifest, splits=tuple(splits.tolist()))
    if len(rows) == len(task.ids):
        return replace(task, manifest=marked)
    at = torch.from_numpy(rows)
    opener = task.open_features
    return replace(
        task,
        manifest=kept(marked, rows),
        features=_some(task.features, rows),
        weak_logits={seed: z[at] for seed, z in task.weak_logits.items()},
        more_teachers={name: z[at] for name, z in task.more_teachers.items()},
        open_features=None if opener is None else lambda model: opener(model)[at],
    )


def _some(features: Tensor | Stream, rows: NDArray[np.int64]) -> Tensor | Stream:
    if isinstance(features, Stream):
        return replace(features, rows=rows if features.rows is None else features.rows[rows])
    return features[torch.from_numpy(rows)]


def _joined(parts: Sequence[Task], ids: tuple[str, ...]) -> Manifest:
    first = parts[0].manifest

    def chained(values: Callable[[Task], Sequence[str]]) -> tuple[str, ...]:
        return tuple(one for task in parts for one in values(task))

    return replace(
        first,
        name=f"pool of {', '.join(task.domain for task in parts)}",
        labels=np.concatenate([task.manifest.labels for task in parts]),
        ids=ids,
        uris=chained(lambda task: task.manifest.uris),
        splits=chained(lambda task: task.manifest.splits),
        groups=chained(lambda task: [group or task.domain for group in task.manifest.groups]),
        defaults=_common([task.manifest.defaults for task in parts]),
    )


def _features(parts: Sequence[Task]) -> Tensor | Stream:
    tables = [task.features for task in parts]
    streams = [table for table in tables if isinstance(table, Stream)]
    if not streams:
        return torch.cat([table for table in tables if isinstance(table, Tensor)])
    blocks: list[Blocks] = [t.blocks if isinstance(t, Stream) else ArrayBlocks(table=t.numpy()) for t in tables]
    joined = JoinedBlocks(parts=tuple(blocks))
    rows = [
        start + (table.rows if isinstance(table, Stream) and table.rows is not None else np.arange(blocks[i].n))
        for i, (start, table) in enumerate(zip(joined.starts, tables, strict=True))
    ]
    return replace(streams[0], blocks=joined, rows=np.concatenate(rows))


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedBlocks:
    """Tables one after the other as one; each begins at a block of its own, so that rows of zeros may lie between."""

    parts: tuple[Blocks, ...]

    def __post_init__(self) -> None:
        if len({(part.block, part.d) for part in self.parts}) > 1:
            raise DataError("tables of unlike blocks or widths cannot be joined; read them with stream=False")

    @property
    def block(self) -> int:
        return self.parts[0].block

    @property
    def d(self) -> int:
        return self.parts[0].d

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def counts(self) -> list[int]:
        """Blocks of each part."""
        return [-(-part.n // self.block) for part in self.parts]

    @property
    def starts(self) -> list[int]:
        """The first row of each part."""
        return [self.block * before for before in np.cumsum([0, *self.counts[:-1]]).tolist()]

    @property
    def n(self) -> int:
        return self.starts[-1] + self.parts[-1].n

    def read(self, number: int) -> NDArray[Any]:
        start = max(first for first in self.starts if first <= number * self.block)
        part = self.starts.index(start)
        found = self.parts[part].read(number - start // self.block).astype(self.dtype, copy=False)
        if len(found) == self.block or part == len(self.parts) - 1:
            return found
        return np.concatenate([found, np.zeros((self.block - len(found), self.d), self.dtype)])


def _keys(parts: Sequence[Task], ids: tuple[str, ...], seeds: Sequence[int], more: Sequence[str]) -> dict[str, Any]:
    """Keys of the joined banks: digests over those of the parts, and over which rows were taken."""

    rows = digest_json(list(ids))

    def both(find: Callable[[Task], Any]) -> str:
        return digest_json([[find(task) for task in parts], rows])

    return {
        "features": both(lambda task: task.keys.get("features")),
        "weak": {seed: both(lambda task, s=seed: (task.keys.get("weak") or {}).get(s)) for seed in seeds},
        "text": parts[0].keys.get("text"),
        "teachers": {name: both(lambda task, n=name: (task.keys.get("teachers") or {}).get(n)) for name in more},
        "encoders": both(lambda task: task.keys.get("encoders")),
    }


def _shared(parts: Sequence[Task], seeds: Sequence[int]) -> dict[int, str]:
    """weak seed -> the name that all domains' weak models of that seed share."""
    named = {seed: {task.weak_models.get(seed, "") for task in parts} for seed in seeds}
    return {seed: names.pop() for seed, names in named.items() if len(names) == 1 and "" not in names}


def _common(tables: Sequence[Mapping[str, T]]) -> dict[str, T]:
    return {key: value for key, value in tables[0].items() if all(t.get(key) == value for t in tables)}


def _everywhere(parts: Sequence[Task], model: str) -> Tensor:
    """Features f[N, e] of one encoder on every domain."""
    name = _one_network(parts, model)
    found = [task.open_features(name) for task in parts if task.open_features is not None]
    if len({x.shape[1] for x in found}) > 1:
        raise UsageError(f"{model} has features of several widths on these domains; name one encoder for all")
    return torch.cat(found)


def _one_network(parts: Sequence[Task], model: str) -> str:
    """The name of a network that is the same on all domains."""
    if parts[0].strong == "arrays" or not supervisors.is_supervisor(model):
        return model
    first = parts[0].data
    parsed = parse_model(model)
    if parsed.library == "drawn" and first.startswith("drawn:"):
        return f"{supervisors.SHIPPED}/{first.removeprefix('drawn:')}-{parsed.pretrained or 0}"
    raise UsageError(
        f"{model} is another network on each of {', '.join(task.data for task in parts)}, so their features have "
        "nothing in common; name an encoder that is the same on all, such as backbone='timm:resnet18.a1_in1k'"
    )
