"""Co-supervised learning as its authors' script does it, level by level and row by row, for one seed and small data.

Differs from the script where our protocol does: unit features times 10, our start, order of batches and schedule, whole
numbers for shares, blocks that need not divide the number of classes. No code is shared with the package but the two
things that no method may choose: the random start of a linear head, and the order of batches.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from w2s_fast.train import order


@dataclass(kw_only=True)
class Restated:
    """What every level came to: assigned teachers, labels of all rows, rows kept, epochs, and the students."""

    assigned: list[list[int]] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    kept: list[list[int]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    students: list[nn.Linear] = field(default_factory=list)


def blocks_of(k: int, m: int) -> list[list[int]]:
    """m contiguous blocks of the classes, dealt one class at a time so that none has two more than another."""
    sizes = [0] * m
    for c in range(k):
        sizes[c % m] += 1
    classes = iter(range(k))
    return [[next(classes) for _ in range(size)] for size in sizes]


def shaped(x: np.ndarray) -> torch.Tensor:
    rows = [10.0 * row / np.sqrt((row * row).sum()) for row in np.asarray(x, np.float64)]
    return torch.tensor(np.array(rows))


def trained(x: torch.Tensor, y: torch.Tensor, *, k: int, epochs: int, batch: int, lr: float, seed: int) -> nn.Linear:
    """A linear probe by torch's own Adam; y are class numbers [n] or probabilities [n, k]."""
    n, d = x.shape
    probe = nn.Linear(d, k, dtype=torch.float64)
    with torch.no_grad():
        start = torch.rand(k, d, generator=torch.Generator().manual_seed(seed))
        probe.weight.copy_((start.double() * 2 - 1) / d**0.5)
        probe.bias.zero_()
    optimizer = torch.optim.Adam(probe.parameters(), lr=lr)
    steps = epochs * -(-n // batch)
    warm = int(np.ceil(0.1 * steps - 1e-9))
    step = 0
    for epoch in range(epochs):
        shuffled = order(seed, epoch, n)
        for at in range(0, n, batch):
            rows = torch.from_numpy(shuffled[at : at + batch])
            rise, fall = step / max(warm, 1), 1 - (step - warm) / max(steps - warm, 1)
            optimizer.param_groups[0]["lr"] = lr * (rise if step < warm else fall)
            optimizer.zero_grad()
            nn.functional.cross_entropy(probe(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1
    return probe


def restated(
    strong: np.ndarray,
    weak: np.ndarray,
    y: np.ndarray,
    *,
    d_train: np.ndarray,
    train: np.ndarray,
    levels: list[int],
    epochs: int,
    batch: int,
    lr: float,
    steps: int,
    seed: int,
    hard: bool,
    top: int | None,
    assign: str,
) -> Restated:
    k = int(y.max()) + 1
    x, z = shaped(strong), shaped(weak)
    truth = torch.from_numpy(y)
    found = Restated()
    student: nn.Linear | None = None
    for m in levels:
        blocks = blocks_of(k, m)
        outputs = []
        for block in blocks:
            inside = [row for row in d_train.tolist() if int(y[row]) in block]
            shown = [inside[i % len(inside)] for i in range(steps * batch)]
            probe = trained(z[shown], truth[shown], k=k, epochs=1, batch=batch, lr=1e-2, seed=seed)
            outputs.append(torch.softmax(probe(z), dim=1).detach())
        previous = None if student is None else student(x).detach()
        teacher_of, said = [], []
        for row in range(len(y)):
            if previous is None:
                teacher = 0
            elif assign == "block":
                named = int(previous[row].argmax())
                teacher = next(i for i, block in enumerate(blocks) if named in block)
            elif assign == "oracle":
                teacher = next(i for i, block in enumerate(blocks) if int(y[row]) in block)
            else:
                p = torch.softmax(previous[row], dim=0)
                apart = [float((p * (p.log() - q[row].log())).sum()) for q in outputs]
                teacher = int(np.argmin(apart))
            teacher_of.append(teacher)
            said.append(outputs[teacher][row].numpy())
        table = np.array(said)
        kept = train.tolist()
        if previous is not None and top is not None:
            agree, ranks = 0, []
            for row in kept:
                label = int(table[row].argmax())
                agree += label in previous[row].topk(top).indices.tolist()
                ranks.append(float(nn.functional.cross_entropy(previous[row], torch.tensor(label))))
            lowest = sorted(range(len(kept)), key=lambda i: ranks[i])[:agree]
            kept = [kept[i] for i in sorted(lowest)]
        longer = epochs * len(train) // len(kept)
        target = torch.from_numpy(table[kept])
        student = trained(
            x[kept], target.argmax(1) if hard else target, k=k, epochs=longer, batch=batch, lr=lr, seed=seed
        )
        found.assigned.append(teacher_of)
        found.labels.append(table)
        found.kept.append(kept)
        found.epochs.append(longer)
        found.students.append(student)
    return found
