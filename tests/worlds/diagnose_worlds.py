"""Subjects with known answers: clusters of rows, a weak model that errs, students, two halves and folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from w2s_fast.diagnose.subject import Said, Subject


def clusters(*, n: int = 240, k: int = 5, d: int = 8, spread: float = 0.9, seed: int = 0) -> Subject:
    """n rows around k centres; D_train is the first quarter, the test the last; every seventh label is unknown."""
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(k, d, generator=g)
    labels = torch.randint(k, (n,), generator=g)
    x = centres[labels] + spread * torch.randn(n, d, generator=g)
    weak = {f"weak/{s}": 2 * torch.eye(k)[labels] + 1.2 * torch.randn(n, k, generator=g) for s in range(2)}
    known = labels.clone()
    known[::7] = -1
    test = np.arange(3 * n // 4, n)
    students: dict[str, Said] = {}
    for name, noise in (("good", 0.6), ("poor", 1.5)):
        z = 2 * torch.eye(k)[labels[test]] + noise * torch.randn(len(test), k, generator=g)
        students[name] = Said(rows=test, labels=z.argmax(-1), probs=z.softmax(-1))
    said = torch.where(torch.rand(len(test), generator=g) < 0.8, labels[test], (labels[test] + 1) % k)
    students["hard"] = Said(rows=test, labels=said)
    return Subject(
        features=x,
        classes=tuple(f"class {c}" for c in range(k)),
        ids=tuple(f"{i:032x}" for i in range(n)),
        weak=weak,
        labels=known,
        parts={"D_train": np.arange(n // 4), "train": np.arange(n // 4, 3 * n // 4), "test": test},
        text=centres + 0.5 * torch.randn(k, d, generator=g),
        logit_scale=10.0,
        heads={"learned": centres},
        students=students,
        spaces={"other": torch.randn(n, 3, generator=g) + x[:, :3]},
    )


def planted(subject: Subject, *, copies: int, swapped: int, leaks: int, seed: int = 0) -> tuple[Subject, dict]:
    """The subject with planted faults, and which: id pairs of copies and leaks, ids of swapped labels.

    Copies lie within the pool's fold 0, leaks between fold 0 and fold 1; each is its source with a little noise.
    Labels are swapped for those of another class in rows that are in no pair.
    """
    rng = np.random.default_rng(seed)
    x, labels = subject.features.clone(), torch.as_tensor(subject.labels).clone()
    pool = subject.pool
    folds = np.full(len(x), -1, np.int64)
    folds[pool] = rng.permutation(len(pool)) % 5
    zero, one = (rng.permutation(np.flatnonzero(folds == f)) for f in (0, 1))
    pairs = {"copies": [], "leaks": []}
    for kind, sources, targets in (("copies", zero[:copies], zero[copies : 2 * copies]),
                                   ("leaks", zero[2 * copies : 2 * copies + leaks], one[:leaks])):  # fmt: skip
        for a, b in zip(sources, targets, strict=True):
            norm = x[a].norm() / x.shape[1] ** 0.5
            x[b] = x[a] + 0.003 * norm * torch.from_numpy(rng.standard_normal(x.shape[1])).float()
            labels[b] = labels[a]
            pairs[kind].append(tuple(sorted((subject.ids[a], subject.ids[b]))))
    used = {i for kind in pairs.values() for pair in kind for i in pair}
    free = [i for i in rng.permutation(len(x)) if subject.ids[i] not in used and labels[i] >= 0]
    chosen = free[:swapped]
    k = len(subject.classes)
    for i in chosen:
        labels[i] = (int(labels[i]) + int(rng.integers(1, k))) % k
    faults = {**{kind: set(found) for kind, found in pairs.items()}, "swapped": {subject.ids[i] for i in chosen}}
    return replace(subject, features=x, labels=labels, folds=folds), faults


def precision_recall(found: set, wanted: set) -> tuple[float, float]:
    """Shares of `found` that are wanted, and of `wanted` that are found."""
    return len(found & wanted) / max(1, len(found)), len(found & wanted) / max(1, len(wanted))
