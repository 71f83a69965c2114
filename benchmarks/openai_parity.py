"""OpenAI's vision recipe: the method `openai+lp` beside their own code, on the same features, labels and rows.

    git clone https://github.com/openai/weak-to-strong PEER
    python benchmarks/openai_parity.py --cache DIR --peer PEER [--json FILE]     20 seeds on drawn sketch, minutes

`theirs` runs `train_logreg` of vision/run_weak_strong.py at commit 0a6d4ab, read from the clone, not a line changed
(on a CPU, where its `.cuda()` does nothing). Its start and its batches are drawn by torch, ours by the engine, so that
pairs share split and labels alone, and the difference holds the luck of two runs: shown with its 95 % interval over
seeds, and refused where |mean| exceeds 0.3 points. `paired` runs share start and order of batches as well, with a plain
re-statement (nn.Linear, soft cross-entropy, torch's Adam, CosineAnnealingLR over all steps, batches of 100) that knows
nothing of the engine: a difference is then the implementation's, and |mean| + half-width must stay below 0.3.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from w2s_fast.core.statistics import t_quantile
from w2s_fast.methods.fit import fit
from w2s_fast.tasks.task import Task
from w2s_fast.train import order

LIMIT = 0.3
"""Points of accuracy."""


COMMIT, FILE = "0a6d4ab", "vision/run_weak_strong.py"
EPOCHS = {"default": 10, "ResNet-50": 20, "ViT-B/8": 5}
"""What the commit's README runs."""


Peer = Callable[..., dict[str, Any]]


def peers_own(clone: Path) -> Peer:
    """`train_logreg` of the commit, compiled from the file as it stands there."""
    source = subprocess.run(
        ["git", "-C", str(clone), "show", f"{COMMIT}:{FILE}"], capture_output=True, text=True, check=True
    ).stdout
    [function] = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "train_logreg"
    ]
    quiet = SimpleNamespace(tqdm=lambda steps, **_: _Silent(steps))
    names: dict[str, Any] = {"torch": torch, "tqdm": quiet}
    exec(compile(ast.Module([function], []), FILE, "exec"), names)
    return names["train_logreg"]


class _Silent(list[Any]):
    """A progress bar that shows nothing."""

    def set_description(self, text: str) -> None:
        pass


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """`.cuda()` of tensors and modules does nothing."""
    kept = torch.Tensor.cuda, nn.Module.cuda
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda, nn.Module.cuda = kept  # type: ignore[method-assign]


def theirs(peer: Peer, x: Tensor, p: Tensor, x_test: Tensor, y_test: Tensor, *, seed: int, epochs: int) -> float:
    """Their accuracy in % on the test rows."""
    with torch.random.fork_rng(devices=[]), on_the_cpu():
        torch.manual_seed(seed)
        found = peer(x, p, {"test": (x_test, y_test)}, n_epochs=epochs, n_classes=p.shape[1])
    return 100 * float(found["test"])


def restated(
    x: Tensor, p: Tensor, x_test: Tensor, *, seed: int, epochs: int, size: int = 100, lr: float = 1e-3
) -> Tensor:
    """Predictions i[n_test] of the same regression with our start and order, on f[n, d] and probabilities f[n, k]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Linear(x.shape[1], p.shape[1])
    nn.init.zeros_(model.bias)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=math.ceil(len(x) / size) * epochs)
    for epoch in range(epochs):
        for rows in torch.from_numpy(order(seed, epoch, len(x))).split(size):
            optimizer.zero_grad()
            criterion(model(x[rows]), p[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return model(x_test).argmax(-1)


def pairs(task: Task, *, seeds: int, epochs: int, peer: Peer | None) -> list[dict[str, float]]:
    """Accuracy in % on D'_test, one record per seed: ours, the restated one's, theirs, the weak model's."""
    results = fit(task, method="openai+lp", seeds=seeds, references=False, epochs=epochs, device="cpu")
    assert isinstance(task.features, Tensor)
    found: list[dict[str, float]] = []
    for one in sorted(results.fits, key=lambda one: one.seed):
        weak = task.weak_logits[one.weak_seed or 0]
        train, test = torch.from_numpy(one.split.train), torch.from_numpy(one.split.test)
        x, x_test, p, truth = task.features[train], task.features[test], weak[train].softmax(-1), task.labels[test]
        predicted = {
            "ours": torch.as_tensor(one.predicted["last"]),
            "restated": restated(x, p, x_test, seed=one.seed, epochs=epochs),
            "weak": weak[test].argmax(-1),
        }
        record = {name: 100 * float((y == truth).double().mean()) for name, y in predicted.items()}
        if peer is not None:
            record["theirs"] = theirs(peer, x, p, x_test, truth, seed=one.seed, epochs=epochs)
        found.append({"seed": one.seed, **record})
    return found


def difference(records: Sequence[dict[str, float]], other: str) -> dict[str, float]:
    """Mean of ours - the other's over seeds, and its 95 % half-width, in points."""
    gaps = [record["ours"] - record[other] for record in records]
    half = t_quantile(len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return {"mean": statistics.fmean(gaps), "half_width": half}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pairs and print the figures; exit status 1 where one is beyond its limit."""
    args = arguments(argv)
    from w2s_fast.tasks.opening import open_task

    task = open_task(f"drawn:{args.domain}", cache=args.cache, say=lambda text: print(text, file=sys.stderr))
    peer = None if args.peer is None else peers_own(args.peer)
    command = "python benchmarks/openai_parity.py --cache DIR" + ("" if peer is None else " --peer PEER")
    result: dict[str, Any] = {"command": command, "peer": f"openai/weak-to-strong {COMMIT}", "domain": args.domain}
    beyond = False
    for name, epochs in EPOCHS.items():
        records = pairs(task, seeds=args.seeds, epochs=epochs, peer=peer)
        means = {key: statistics.fmean(r[key] for r in records) for key in records[0] if key != "seed"}
        print(f"{name}, {epochs} epochs, {len(records)} seeds: " + ", ".join(f"{k} {v:.2f}" for k, v in means.items()))
        found = {other: difference(records, other) for other in means if other not in ("ours", "weak")}
        for other, gap in found.items():
            print(f"  ours - {other} {gap['mean']:+.3f} ± {gap['half_width']:.3f} points")
            beyond |= abs(gap["mean"]) + (gap["half_width"] if other == "restated" else 0) >= LIMIT
        result[name] = {"epochs": epochs, "means": means, "ours minus": found, "seeds": records}
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return int(beyond)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="folder of extracted features; filled if they are missing")
    parser.add_argument("--domain", default="sketch")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--peer", type=Path, help=f"a clone of openai/weak-to-strong that holds {COMMIT}")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
