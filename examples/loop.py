"""CPL on your own arrays, from features to accuracy, with the engine alone: no images, no cache, no protocol.

    python examples/loop.py

Expected: CPL above its weak teacher and above the zero-shot start, the ceiling above all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import normalize

from w2s_fast.train import Run, Start, Supervision, fit_heads, ground_truth


@dataclass(frozen=True)
class Rows:
    """Row numbers of one split."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def world(*, n: int = 3000, k: int = 10, d: int = 64, seed: int = 0) -> dict[str, torch.Tensor]:
    """Features, logits of a weak model that is right about two times in three, text features near the class means."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(k, d, generator=g)
    labels = torch.arange(n) % k
    common = 4.0 * torch.randn(d, generator=g)  # CLIP's features share most of their direction
    x = common + means[labels] + 2.2 * torch.randn(n, d, generator=g)
    told = torch.where(torch.rand(n, generator=g) < 0.6, labels, torch.randint(k, (n,), generator=g))
    weak = 3.0 * torch.eye(k)[told] + torch.randn(n, k, generator=g)
    return {"x": x, "weak": weak, "labels": labels, "text": common + means + 1.5 * torch.randn(k, d, generator=g)}


def accuracies(*, seeds: int = 3, epochs: int = 20) -> Iterator[tuple[str, float]]:
    """(system, accuracy on the test rows), means over seeds."""
    found = world()
    x, labels, n, k = found["x"], found["labels"], len(found["x"]), len(found["text"])
    order = np.random.default_rng(0).permutation(n)
    rows = Rows(train=order[: n // 2], val=order[n // 2 : 5 * n // 8], test=order[5 * n // 8 :])
    truth = labels[torch.from_numpy(rows.test)]
    cosines = normalize(x, dim=-1) @ normalize(found["text"], dim=-1).T
    for name, logits in (("weak", found["weak"]), ("zero-shot", cosines)):
        yield name, float((logits[torch.from_numpy(rows.test)].argmax(-1) == truth).float().mean())

    supervisions = [Supervision(weak=found["weak"]), ground_truth(labels, k)]
    systems = {
        "ce+lp": ("linear", "ce", 0),
        "cpl": ("prototype(init='text')", "cpl", 0),
        "ceiling": ("linear", "ce", 1),
    }
    runs = [
        Run(head=head, loss=loss, supervision=who, seed=seed, epochs=epochs, batch_size=128)
        for head, loss, who in systems.values()
        for seed in range(seeds)
    ]
    start = Start(k=k, d=x.shape[1], names=tuple(map(str, range(k))), text=found["text"])
    right = np.zeros(len(runs))
    for fit in fit_heads(x, runs, splits=[rows], supervisions=supervisions, start=start, truth=labels):
        right[fit.index] = (torch.from_numpy(fit.predicted["last"]) == truth).float().mean()
    yield from zip(systems, right.reshape(-1, seeds).mean(1).tolist(), strict=True)


if __name__ == "__main__":
    for system, accuracy in accuracies():
        print(f"{system:10} {100 * accuracy:5.1f} %")
