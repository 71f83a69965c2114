"""Streamed against resident training on a made-up bank: rows a second, and what the order of streaming costs.

    python benchmarks/streaming.py [--rows 100000] [--dim 256] [--classes 50] [--heads 1 16 64] [--json FILE]

The bank lies class by class on disk, as image folders do: the hardest case for an order that is shuffled in windows.
Accuracy is that of the last epoch on the test rows; its difference is paired by seed, with a 95 % Student interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from w2s_fast.core.hashing import digest_ids, row_id
from w2s_fast.store import Bank, begin_bank, complete_bank, layout, missing_parts, open_key, write_part
from w2s_fast.store.blocks import BankBlocks
from w2s_fast.train import Fit, Run, Start, Supervision, fit_heads
from w2s_fast.train.stream import BLOCK, Stream

STUDENT_95 = {8: 2.365, 16: 2.131, 32: 2.040}
"""The 97.5 % quantile of Student's t for n - 1 degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Row numbers of a split."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A bank, its labels and weak logits, and one split per seed."""

    bank: Bank
    labels: torch.Tensor
    supervision: Supervision
    start: Start

    def split(self, seed: int) -> Rows:
        """80 % train, 20 % test, in random order, another for each seed."""
        mixed = np.random.default_rng(seed).permutation(len(self.labels))
        cut = len(mixed) // 5
        return Rows(train=mixed[cut:], val=mixed[:0], test=mixed[:cut])


def make(folder: Path, *, n: int, d: int, k: int) -> World:
    """Unit-variance clusters that overlap; the weak model is right on about 60 % of the rows."""
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(n) % k)
    means = rng.standard_normal((k, d)) * (3.0 / d**0.5)
    ids = [row_id(str(i).encode()) for i in range(n)]
    where = begin_bank(folder, {"made": f"{n} x {d}"})
    for part in missing_parts(where, n):
        rows = slice(*layout.row_range(part, n))
        x = (means[labels[rows]] + rng.standard_normal((len(labels[rows]), d))).astype(np.float16)
        norms = np.linalg.norm(x.astype(np.float32), axis=1)
        ok = np.ones(len(x), bool)
        write_part(where, part, ids=ids[rows], features=x, logits=None, norms=norms, ok=ok, failures=[])
    complete_bank(where, rows=n, rows_digest=digest_ids(ids))
    said = np.where(rng.random(n) < 0.6, labels, rng.integers(0, k, n))
    weak = rng.standard_normal((n, k)) + 4.0 * np.eye(k)[said]
    return World(
        bank=open_key(where.name, cache=folder),
        labels=torch.from_numpy(labels),
        supervision=Supervision(weak=torch.from_numpy(weak.astype(np.float16))),
        start=Start(k=k, d=d, text=torch.from_numpy(means.astype(np.float32))),
    )


def fits(world: World, x: Any, seeds: list[int], *, epochs: int, batch: int, device: str) -> tuple[list[Fit], float]:
    """One linear head per seed with loss kd, and the seconds that all of them took."""
    runs = [
        Run(head="linear", loss="kd", seed=s, split=i, epochs=epochs, batch_size=batch) for i, s in enumerate(seeds)
    ]
    began = time.perf_counter()
    found = list(
        fit_heads(
            x,
            runs,
            splits=[world.split(s) for s in seeds],
            supervisions=[world.supervision],
            start=world.start,
            truth=world.labels,
            device=device,
            selections=("last",),
        )
    )
    return sorted(found, key=lambda f: f.index), time.perf_counter() - began


def main() -> None:
    """Measure and print; `--json` writes one object per line."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"rows": 100_000, "dim": 256, "classes": 50, "seeds": 16, "epochs": 3, "batch": 512}.items():
        ask.add_argument(f"--{name}", type=int, default=default)
    ask.add_argument("--heads", type=int, nargs="*", default=[1, 16, 64])
    ask.add_argument("--block", type=int, default=BLOCK)
    ask.add_argument(
        "--window", type=int, default=1 << 14, help="rows shuffled together; the default is small on purpose"
    )
    ask.add_argument("--device", default="cpu")
    ask.add_argument("--json", type=Path)
    asked = ask.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        world = make(Path(folder), n=asked.rows, d=asked.dim, k=asked.classes)
        stream = Stream(blocks=BankBlocks(bank=world.bank, block=asked.block), window=asked.window)
        rest = {"epochs": asked.epochs, "batch": asked.batch, "device": asked.device}
        print(f"{asked.rows} x {asked.dim} f16, {asked.classes} classes, {stream.declared}, {asked.device}")
        print(f"{'R':>4}{'resident rows/s':>18}{'streamed rows/s':>18}{'ratio':>8}   (train rows x heads)")
        table = world.bank.features()
        for count in asked.heads:
            done = asked.epochs * count * (asked.rows - asked.rows // 5)
            slow = done / fits(world, stream, list(range(count)), **rest)[1]
            fast = done / fits(world, table, list(range(count)), **rest)[1]
            print(f"{count:>4}{fast:>18,.0f}{slow:>18,.0f}{slow / fast:>8.2f}", flush=True)
            lines.append({"case": "speed", "R": count, "resident": fast, "streamed": slow, "ratio": slow / fast})
        if asked.seeds in STUDENT_95:
            seeds = list(range(asked.seeds))
            resident, streamed = (fits(world, x, seeds, **rest)[0] for x in (table, stream))
            truth = world.labels.numpy()
            last = [
                [float((f.predicted["last"] == truth[world.split(f.index).test]).mean()) for f in found]
                for found in (streamed, resident)
            ]
            gap = np.subtract(last[0], last[1])
            half = STUDENT_95[asked.seeds] * gap.std(ddof=1) / len(gap) ** 0.5
            print(f"accuracy: resident {np.mean(last[1]):.4f}, streamed - resident {gap.mean():+.4f} +- {half:.4f}")
            lines.append({"case": "accuracy", "resident": np.mean(last[1]), "gap": gap.mean(), "half": half})
    if asked.json is not None:
        about = {**vars(asked), "json": None, "torch": torch.__version__, "threads": torch.get_num_threads()}
        asked.json.write_text("".join(json.dumps({**about, **line}) + "\n" for line in lines))


if __name__ == "__main__":
    main()
