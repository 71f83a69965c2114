"""Published probes, restated in our own code: CLIP_benchmark's, OpenAI's vision head, and scikit-learn's L-BFGS."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.heads_parts.worlds import World


class Pairs(Dataset):
    """Feature and target, one row at a time."""

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.features[i], self.targets[i]


def clip_benchmark_like(
    world: World, *, seed: int, epochs: int = 10, batch_size: int = 512, lr: float = 0.1, amp: bool = True
) -> float:
    """Accuracy on val of LAION CLIP_benchmark's linear probe on hard weak labels.

    As published: unit features, AdamW (weight decay 0 here) with a cosine from the first step, mixed precision, and
    one evaluation after the last epoch. No workers, since the table is in memory.
    """
    device, host = world.x.device.type, world.host
    train = Pairs(host.unit[world.train], host.weak[world.train].argmax(dim=1))
    loader = DataLoader(train, batch_size=batch_size, shuffle=True)
    torch.manual_seed(seed)
    probe = nn.Linear(world.shape.d, world.shape.k, device=device)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=0.0)
    criterion = nn.CrossEntropyLoss()
    steps = epochs * len(loader)
    mixed = torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16, enabled=amp)
    step = 0
    for _ in range(epochs):
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            for group in optimiser.param_groups:
                group["lr"] = 0.5 * lr * (1 + math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            with mixed:
                loss = criterion(probe(x), y)
            loss.backward()
            optimiser.step()
            step += 1
    found, truth = [], []
    with torch.no_grad():
        for x, y in DataLoader(Pairs(host.unit[world.val], host.truth[world.val]), batch_size=batch_size):
            with mixed:
                found.append(probe(x.to(device)).cpu())
            truth.append(y)
    return float((torch.cat(found).argmax(dim=1) == torch.cat(truth)).float().mean())


def openai_like(world: World, *, seed: int, epochs: int = 10, batch_size: int = 512, lr: float = 1e-3) -> list[float]:
    """Accuracy on val after every epoch of the logistic head of OpenAI's vision experiment on soft weak labels.

    As published: nn.Linear, Adam, a cosine schedule stepped with every batch, train accuracy counted with a host sync
    in every batch, truth and weak labels scored after every epoch. The published batch is 100; the stored script
    gives the schedule the epochs as its length, here it has the steps.
    """
    device, host = world.x.device, world.host
    p = host.weak.softmax(dim=1)
    train = TensorDataset(host.x[world.train].float(), p[world.train])
    loader = DataLoader(train, shuffle=True, batch_size=batch_size)
    torch.manual_seed(seed)
    model = nn.Linear(world.shape.d, world.shape.k, device=device)
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs * len(loader))
    evaluated = [host.truth[world.val], p[world.val].argmax(dim=1)]
    accuracies = []
    for _ in range(epochs):
        correct = 0.0
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimiser.zero_grad()
            pred = model(x)
            loss = criterion(pred, y)
            loss.backward()
            optimiser.step()
            schedule.step()
            correct += (pred.argmax(dim=1) == y.argmax(dim=1)).float().sum().item()
        scores = []
        for target in evaluated:
            with torch.no_grad():
                pred = model(host.x[world.val].to(device)).argmax(dim=1).cpu()
            scores.append(float((pred == target).float().mean()))
        accuracies.append(scores[0])
    return accuracies


def sklearn_lbfgs(world: World, *, c: float = 1.0, max_iter: int = 100) -> tuple[float, int]:
    """Accuracy on val of scikit-learn's L-BFGS logistic regression on hard weak labels, and its iterations.

    Features are unit features x 10. It may stop at max_iter (its default) before it has converged.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    host = world.host
    x = host.scaled.numpy()
    label = host.weak[world.train].argmax(dim=1).numpy()
    model = LogisticRegression(C=c, max_iter=max_iter, solver="lbfgs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[world.train], label)
    right = np.equal(model.predict(x[world.val]), host.truth[world.val].numpy())
    return float(np.mean(right)), int(model.n_iter_.max())
