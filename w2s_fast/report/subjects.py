"""A task, with the predictions of its results and saved heads, as the subject of diagnostics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.paths import cache_root
from w2s_fast.data import canonical, open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import FOLDS, PARTS, fold_positions, halves
from w2s_fast.diagnose.index_files import folder_of
from w2s_fast.diagnose.subject import Rows, Said, Subject
from w2s_fast.heads import load_head
from w2s_fast.heads.classifier import classifier
from w2s_fast.results.predictions import Predictions
from w2s_fast.results.results import Results
from w2s_fast.store.bank import rows_of
from w2s_fast.tasks.features import parts
from w2s_fast.tasks.opening import prepare, readable
from w2s_fast.tasks.task import Say, Task

if TYPE_CHECKING:
    from w2s_fast.extract.worker import OnProgress

NAMES = {"weak_train": "D_train", "train": "train", "val": "val", "test": "test"}
"""Parts of a split by the names that tables show."""


def subject_of(
    task: Task,
    *,
    results: Results | None = None,
    heads: Sequence[str | Path] = (),
    seed: int = 0,
    mode: str = "rotate",
    selection: str = "last",
    truth: bool = True,
    spaces: Sequence[str] = (),
    index: str = "exact",
    beside: Path | None = None,
) -> Subject:
    """What diagnostics look at: a task's tensors, the split of one run seed, and what its students say on the test.

    results: predictions kept for that seed's test rows become students, under one selection. heads: saved heads (their
    class weights, and their probabilities on the test). truth: False hands over no label; the folds of a split still
    goes by class. spaces: other encoders whose features are opened beside. index, beside: `diagnose.indexes.search`.
    """
    manifest = task.manifest
    folds, of_part = _parts(task, seed=seed, mode=mode)
    x = torch.cat([rows for _, rows in parts(task.features)])
    weak = {task.weak_models.get(w, f"weak/{w}"): task.weak_logits[w] for _, w in task.pairs([seed])}
    students: dict[str, Said] = {}
    if results is not None:
        students = _students(task, results, of_part["test"], seed=seed, selection=selection)
    weights: dict[str, Tensor] = {}
    fitted: dict[str, Tensor] = {}
    for path in heads:
        name = Path(path).stem
        head, theta, card = load_head(path)
        names = card.get("classes")
        if names and tuple(names) != task.classes:
            raise UsageError(f"the head {path} names other classes than {task.data}; diagnose it with its own data")
        made = classifier(head, theta)
        weights[name] = made.get_buffer("weight")
        with torch.no_grad():
            fitted[name] = (made(x) / head.tau_s).softmax(-1)
        probs = fitted[name][torch.from_numpy(of_part["test"])]
        students[name] = Said(rows=of_part["test"], labels=probs.argmax(-1), probs=probs)
    return Subject(
        features=x,
        classes=task.classes,
        ids=task.ids,
        weak=weak,
        labels=torch.from_numpy(manifest.labels.copy()) if truth else None,
        parts=of_part,
        folds=folds,
        text=task.text,
        logit_scale=task.logit_scale,
        heads=weights,
        fitted=fitted,
        students=students,
        spaces={name: _space(task, name) for name in spaces},
        index=index,
        beside=beside,
    )


def _parts(task: Task, *, seed: int, mode: str) -> tuple[Rows, dict[str, Rows]]:
    """The fold of each row (-1 outside the pool), and the rows of each part of the seed's split."""
    found = task.splits(mode=mode, seed=seed)
    _, pool, _ = halves(task.manifest)
    folds = np.full(len(task.manifest), -1, np.int64)
    folds[pool] = fold_positions(task.manifest, pool, key=str(found.split_seed)) % FOLDS
    return folds, {NAMES[part]: getattr(found, part) for part in PARTS}


def _students(task: Task, results: Results, test: Rows, *, seed: int, selection: str) -> dict[str, Said]:
    """The kept predictions on exactly these test rows, of methods and references other than the weak model."""
    out: dict[str, Said] = {}
    for group, kept in results.predictions.items():
        if kept.domain != task.domain or seed not in kept.rows or not np.array_equal(kept.rows[seed], test):
            continue
        if np.any(kept.truth[test] != task.manifest.labels[test]):
            raise DataError(
                f"{group}: the results were scored against other labels than {task.data} has now; train again"
            )
        of_weak = {w for _, w in task.pairs([seed])}
        here = [
            s
            for s in kept.systems
            if s.seed == seed and s.weak_seed in {*of_weak, None} and s.run_id not in _weak(kept)
        ]
        names = Counter(s.name for s in here)
        for system in here:
            labels = system.under(selection)
            if labels is None:
                continue
            name = system.name
            if len(of_weak) > 1 and system.weak_seed is not None:
                name = f"{name} (weak {system.weak_seed})"
            # two runs of one name are two questions
            name = f"{name} [{system.run_id[:6]}]" if names[system.name] > 1 and name in out else name
            out[name] = Said(rows=test, labels=torch.from_numpy(np.asarray(labels, np.int64).copy()))
    return out


def _weak(kept: Predictions) -> set[str]:
    """Run ids of the weak models themselves: they are the supervisors, not students."""
    return {s.run_id for s in kept.systems if s.role == "reference" and s.name.partition(" ")[0] == "weak"}


def _space(task: Task, name: str) -> Tensor:
    if task.open_features is None:
        raise UsageError(f"this task opens no other encoder, so {name!r} cannot stand beside it")
    return task.open_features(name)


def subject_of_data(
    data: str,
    *,
    strong: str,
    root: str | Path | None = None,
    identity: str = "content",
    class_names: str | Path | None = None,
    cache: str | Path | None = None,
    index: str = "exact",
    say: Say | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Manifest, Subject]:
    """A data set alone as a subject: one encoder's features (extracted if they are missing), labels, and the halves.

    Images that could not be read are left out of the manifest that comes with it.
    """
    data = canonical(data)
    whole = open_manifest(data, root=root, identity=identity, class_names=class_names, cache=cache_root(cache))
    bank = prepare(whole, [strong], data=data, cache=cache, say=say, on_progress=on_progress)[strong]
    manifest = readable(whole, [bank], drop_failed=True, cache=cache)
    train, pool, _ = halves(manifest)
    return manifest, Subject(
        features=bank.features()[torch.from_numpy(rows_of(bank, manifest.ids))],
        classes=manifest.classes,
        ids=manifest.ids,
        labels=torch.from_numpy(manifest.labels.copy()),
        parts={"D_train": train, "pool": pool},
        index=index,
        beside=folder_of(bank.key, cache=cache),
    )
