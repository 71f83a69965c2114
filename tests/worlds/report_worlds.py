"""Made-up results with known answers: rows and kept predictions of a few domains, consistent with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from w2s_fast.core.rows import Row
from w2s_fast.core.statistics import pgr
from w2s_fast.results.summary import Systems

RATES = {
    "weak": 0.55,
    "zero-shot": 0.6,
    "fusion": 0.64,
    "ce+lp": 0.58,
    "kd+lp": 0.66,
    "cpl": 0.74,
    "ceiling+lp": 0.8,
    "ceiling+proto": 0.82,
}
HEADS = {
    "ce+lp": "linear",
    "kd+lp": "linear",
    "cpl": "prototype(init='text')",
    "ceiling+lp": "linear",
    "ceiling+proto": "prototype(init='text')",
}


def correctness(
    rng: np.random.Generator, runs: Sequence[tuple[int, int]], *, n: int, rotated: bool, rates: dict[str, float]
) -> Systems:
    """Systems that share item difficulties; the same seed has the same test set under every weak model."""
    folds = sorted({seed for seed, _ in runs})
    difficulty = rng.random((len(folds) if rotated else 1) * n)
    items, correct = [], {name: [] for name in rates}
    drawn: dict[tuple[str, int], np.ndarray] = {}
    for seed, _ in runs:
        items.append(np.arange(n) + (folds.index(seed) * n if rotated else 0))
        for name, rate in rates.items():
            one = 0.8 * difficulty[items[-1]] + 0.2 * rng.random(n) < rate + 0.01 * rng.normal()
            fixed = name.startswith("ceiling") or name == "zero-shot"
            correct[name].append(drawn.setdefault((name, seed), one) if fixed else one)
    return kept(items, correct, runs)


def kept(items: Sequence[Any], correct: Mapping[str, Sequence[Any]], runs: Sequence[tuple[Any, Any]]) -> Systems:
    """Systems whose answers are found by ids of the system, the seed and the weak seed."""
    answers = {
        run_id(name, seed, weak): of_run
        for name, of_runs in correct.items()
        for (seed, weak), of_run in zip(runs, of_runs, strict=False)
    }
    return Systems(
        items=items, correct=correct, seeds=[s for s, _ in runs], weak_seeds=[w for _, w in runs], answers=answers
    )


def run_id(name: str, seed: int, weak_seed: int | None) -> str:
    """The id of a made-up run; a ceiling knows no weak seed."""
    return f"{name}-{seed}-{None if name.startswith('ceiling') else weak_seed}"


def rows_of(domain: str, systems: Systems, **fields: Any) -> list[Row]:
    """Rows as training writes them, for the methods and ceilings of `systems`."""
    out: list[Row] = []
    for name in systems.correct:
        if name in ("weak", "zero-shot", "fusion"):
            continue
        ceiling = name.startswith("ceiling")
        for run, (seed, weak_seed) in enumerate(systems.runs):
            if ceiling and any(r["method"] == name and r["seed"] == seed for r in out):
                continue
            accuracy = {k: float(np.mean(v[run])) for k, v in systems.correct.items()}
            own = "ceiling+lp" if HEADS.get(name) == "linear" else "ceiling+proto"
            top = max("ceiling+lp", "ceiling+proto", key=lambda one: accuracy[one])
            same, best = accuracy[own], accuracy[top]
            measures = {"weak": "weak", "zero_shot": "zero-shot", "fusion": "fusion"}
            measures |= {} if ceiling else {"ceiling": own, "ceiling_best": top}
            single = pgr(accuracy["weak"], accuracy[name], same)
            row: dict[str, Any] = {
                "schema": 1,
                "run_id": run_id(name, seed, weak_seed),
                "role": "ceiling" if ceiling else "student",
                "measured_by": {key: run_id(one, seed, weak_seed) for key, one in measures.items()},
                "status": "ok",
                "data": f"drawn:{domain}",
                "domain": domain,
                "weak": "drawn:cnn",
                "weak_seed": None if ceiling else weak_seed,
                "strong": "drawn:clip",
                "method": name,
                "head": HEADS.get(name),
                "loss": "ce",
                "supervision": "gt" if ceiling else "weak",
                "seed": seed,
                "selection": "last",
                "acc_weak": accuracy["weak"],
                "acc_zero_shot": accuracy["zero-shot"],
                "acc_fusion": accuracy["fusion"],
                "acc_w2s": accuracy[name],
                "acc_ceiling": None if ceiling else same,
                "acc_ceiling_best": None if ceiling else best,
                "pgr": None if ceiling or single.flag else single.value,
                "epochs": 10,
                "lr": 0.01,
            }
            out.append(Row(**{**row, **fields}))  # type: ignore[typeddict-item]
    return out


def world(
    domains: Sequence[str] = ("clipart",),
    *,
    seeds: int = 5,
    weak_seeds: int | None = None,
    n: int = 300,
    rotated: bool = True,
    rates: dict[str, float] | None = None,
    seed: int = 0,
) -> tuple[list[Row], dict[str, Systems]]:
    """Rows and systems; `weak_seeds` None: a weak model per seed, else that many, crossed."""
    rng = np.random.default_rng(seed)
    runs = [(s, s) for s in range(seeds)]
    if weak_seeds is not None:
        runs = [(s, w) for w in range(weak_seeds) for s in range(seeds)]
    systems = {
        d: correctness(rng, runs, n=n, rotated=rotated, rates={k: v + 0.02 * i for k, v in (rates or RATES).items()})
        for i, d in enumerate(domains)
    }
    return [row for d in domains for row in rows_of(d, systems[d])], systems
