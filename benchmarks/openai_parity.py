"""OpenAI's vision recipe: the method `openai+lp` and a plain re-statement of theirs, on the same features and rows.

    python benchmarks/openai_parity.py --cache DIR [--json FILE]     20 paired seeds on drawn sketch, a few minutes

The re-statement knows nothing of the engine: nn.Linear on raw features, soft cross-entropy, torch's Adam and
CosineAnnealingLR, batches of 100, as in vision/run_weak_strong.py of github.com/openai/weak-to-strong. Its schedule has
T_max = epochs and is stepped once a batch, so it falls and rises every 10 steps (`published`); `whole` falls to 0 over
all steps. `paired` runs share split, start and order of batches; a difference is then the implementation's. `own` ones
share the split alone, and theirs start with random offsets: those differ by the luck of a run too, most of all where
the schedule ends high, so they take 100 epochs and the whole cosine. Fails where |mean difference| + 95 % half-width
(Student's t over seeds) reaches 0.3 points of accuracy on D'_test.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both sides run: the whole cosine or the published one, for so many epochs, with shared draws or not."""

    whole: bool
    epochs: int = 10
    paired: bool = True

    @property
    def schedule(self) -> str:
        """The schedule as the engine names it."""
        return "cosine(warmup=0.0)" if self.whole else f"cosine(period={self.epochs}, warmup=0.0)"


CASES = {
    "published, paired": Case(whole=False),
    "whole, paired": Case(whole=True),
    "whole, own, 100 epochs": Case(whole=True, epochs=100, paired=False),
}


def restated(
    x: Tensor, p: Tensor, x_test: Tensor, *, seed: int, case: Case, lr: float = 1e-3, size: int = 100
) -> Tensor:
    """Predictions i[n_test] of their logistic regression on features f[n, d] and weak probabilities f[n, k]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Linear(x.shape[1], p.shape[1])
        if case.paired:
            nn.init.zeros_(model.bias)
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=0.0)
        steps = math.ceil(len(x) / size) * case.epochs if case.whole else case.epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        for epoch in range(case.epochs):
            shuffled = torch.from_numpy(order(seed, epoch, len(x))) if case.paired else torch.randperm(len(x))
            for rows in shuffled.split(size):
                optimizer.zero_grad()
                criterion(model(x[rows]), p[rows]).backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            return model(x_test).argmax(-1)


def pairs(task: Task, case: Case, *, seeds: int) -> list[dict[str, float]]:
    """Accuracy in % on D'_test of both, one record per seed."""
    results = fit(
        task,
        method="openai+lp",
        seeds=seeds,
        references=False,
        schedule=case.schedule,
        epochs=case.epochs,
        device="cpu",
    )
    assert isinstance(task.features, Tensor)
    found: list[dict[str, float]] = []
    for one in results.fits:
        seed, weak = one.seed, task.weak_logits[one.weak_seed or 0]
        train, test = torch.from_numpy(one.split.train), torch.from_numpy(one.split.test)
        p, truth = weak[train].float().softmax(-1), task.labels[test]
        said = restated(task.features[train], p, task.features[test], seed=seed, case=case)
        predictions = {
            "ours": torch.as_tensor(one.predicted["last"]),
            "theirs": said,
            "weak": weak[test].argmax(-1),
        }
        found.append(
            {"seed": seed} | {name: 100 * float((y == truth).double().mean()) for name, y in predictions.items()}
        )
    return sorted(found, key=lambda record: record["seed"])


def difference(records: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of ours - theirs, its 95 % half-width over paired seeds, and their sum in absolute value, in points."""
    gaps = [record["ours"] - record["theirs"] for record in records]
    mean = statistics.fmean(gaps)
    half = t_quantile(len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return {"mean": mean, "half_width": half, "bound": abs(mean) + half}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the pairs and print the figures; exit status 1 where a bound is not under the limit."""
    args = arguments(argv)
    from w2s_fast.tasks.opening import open_task

    task = open_task(f"drawn:{args.domain}", cache=args.cache, say=lambda text: print(text, file=sys.stderr))
    told = "" if args.seeds == 20 else f" --seeds {args.seeds}"
    told += "" if args.domain == "sketch" else f" --domain {args.domain}"
    result: dict[str, Any] = {
        "command": f"python benchmarks/openai_parity.py --cache DIR{told}",
        "domain": args.domain,
        "limit": LIMIT,
        "cases": {},
    }
    for name, case in CASES.items():
        records = pairs(task, case, seeds=args.seeds)
        found = difference(records)
        result["cases"][name] = {"schedule": case.schedule, "epochs": case.epochs, **found, "pairs": records}
        means = ", ".join(
            f"{key} {statistics.fmean(r[key] for r in records):.2f}" for key in ("weak", "ours", "theirs")
        )
        print(
            f"{name}: {len(records)} pairs, {means}; ours - theirs {found['mean']:+.3f} ± {found['half_width']:.3f} "
            f"points, bound {found['bound']:.3f} (limit {LIMIT})"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return int(any(one["bound"] >= LIMIT for one in result["cases"].values()))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="folder of extracted features; filled if they are missing")
    parser.add_argument("--domain", default="sketch")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
