"""Every head with every loss on the drawn data, scored against references and ceilings: one command, one table.

    python benchmarks/heads_by_losses.py --cache DIR                the whole grid; under 30 minutes on two cores
    python benchmarks/heads_by_losses.py --cache DIR --seeds 1 --domains 1 --other-seeds 1    a look at it

Linear and prototype heads meet every loss over --seeds seeds on --domains domains; the other heads meet five losses
over --other-seeds seeds on --other-domains domains. Writes JSON and a table in markdown beside it (--out).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.heads_parts.end_to_end import DOMAINS
from benchmarks.heads_parts.end_to_end import LOSSES as FIVE
from benchmarks.heads_parts.timing import machine
from w2s_fast.losses import LOSSES

MAIN_HEADS = ("linear", "prototype")
OTHER_HEADS = (
    "prompt",
    "text_encoder",
    "adapter",
    "adapter(form='clip_adapter', tau_s=0.01)",
    "tip",
    "tip(tune=False)",
)
SPELLED = {"dkd": "dkd(target='weak')"}
"""Losses that students of a weak model may not have by default, and what they have instead."""
SAME = {"cpl": "kd", "ce_hard": "ce", "raven": "kd"}
"""Names of losses that are others' on these heads and one teacher: they would be the same fits."""
OUT = Path(__file__).parent / "results" / "heads_by_losses.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Heads x losses x seeds on one domain."""

    domain: str
    heads: tuple[str, ...]
    losses: tuple[str, ...]
    seeds: int
    cache: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the grid; exit status 1 if a run diverged."""
    args = arguments(argv)
    began = time.perf_counter()
    every = tuple(SPELLED.get(name, name) for name in LOSSES if name not in SAME)
    losses = tuple(args.losses) or every
    domains, fewer = DOMAINS[: args.domains], DOMAINS[: args.other_domains]
    jobs = [Job(domain=d, heads=MAIN_HEADS, losses=losses, seeds=args.seeds, cache=args.cache) for d in domains]
    five = tuple(args.losses) or FIVE
    jobs += [
        Job(domain=d, heads=(head,), losses=five, seeds=args.other_seeds, cache=args.cache)
        for d in fewer
        for head in args.other_heads
    ]
    for domain in dict.fromkeys(job.domain for job in jobs):
        _open(domain, args.cache)
    extracted = time.perf_counter()
    # a stack's slowest job first, so that no process ends alone with it
    jobs.sort(key=lambda job: _weight(job), reverse=True)
    if args.processes:
        context = get_context("spawn")
        with ProcessPoolExecutor(
            args.processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            done = list(pool.map(fits_of, jobs))
    else:
        done = [fits_of(job) for job in jobs]
    fits = [fit for found, _ in done for fit in found]
    fitted = [fit for fit in fits if fit["head"]]
    result = {
        "command": " ".join(["python", "benchmarks/heads_by_losses.py", *_told(args)]),
        "machine": machine(sorted(os.sched_getaffinity(0)), device="cpu"),
        "processes": args.processes,
        "seconds": time.perf_counter() - extracted,
        "seconds_extraction": extracted - began,
        "seconds_by_job": [
            {"domain": j.domain, "heads": j.heads, "seconds": took} for j, (_, took) in zip(jobs, done, strict=True)
        ],
        "left_out": SAME,
        "runs": len(fitted),
        "diverged": sum(fit["status"] != "ok" for fit in fitted),
        "cells": cells(fits),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = table(result, domains)
    args.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if result["diverged"] else 0


def fits_of(job: Job) -> tuple[list[dict[str, Any]], float]:
    """One record per run of the job under selection `last`, references as runs of their own; and its seconds."""
    from w2s_fast.methods.fit import fit

    began = time.perf_counter()
    results = fit(
        _open(job.domain, job.cache), loss=list(job.losses), head=list(job.heads), seeds=job.seeds, device="cpu"
    )
    found: list[dict[str, Any]] = []
    for row in results.rows:
        if row["selection"] != "last":
            continue
        ceiling = row["supervision"] == "gt"
        record = {"domain": job.domain, "seed": row["seed"], "status": row["status"]}
        found.append(
            {**record, "head": row["head"], "loss": "ceiling" if ceiling else row["loss"], "acc": row["acc_w2s"]}
        )
        if not ceiling and job.heads == MAIN_HEADS:
            for name in ("weak", "zero_shot", "fusion"):
                found.append({**record, "head": "", "loss": name.replace("_", "-"), "acc": row[f"acc_{name}"]})
    unique = {(f["domain"], f["head"], f["loss"], f["seed"]): f for f in found}
    return list(unique.values()), time.perf_counter() - began


def cells(fits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds for every head x loss x domain."""
    groups: dict[tuple[str, str, str], dict[int, float | None]] = defaultdict(dict)
    for fit in fits:
        groups[fit["head"], fit["loss"], fit["domain"]][fit["seed"]] = fit["acc"]
    found: list[dict[str, Any]] = []
    for (head, loss, domain), by_seed in groups.items():
        values = [v for v in by_seed.values() if v is not None and math.isfinite(v)]
        found.append(
            {
                "head": head,
                "loss": loss,
                "domain": domain,
                "seeds": len(by_seed),
                "mean": statistics.fmean(values) if values else None,
                "sd": statistics.stdev(values) if len(values) > 1 else None,
            }
        )
    return found


def table(result: Mapping[str, Any], domains: Sequence[str]) -> str:
    """Accuracy in % as markdown: a row per head and loss, a column per domain, means over seeds."""
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for cell in result["cells"]:
        rows[cell["head"], cell["loss"]][cell["domain"]] = cell
    order = sorted(rows, key=lambda key: (key[0] != "", key[0] not in MAIN_HEADS, key[0], key[1] == "ceiling"))
    lines = [
        "# Heads x losses on the drawn data",
        "",
        f"`{result['command']}`: {result['runs']} runs in {result['seconds'] / 60:.1f} minutes "
        f"({result['processes']} processes of one thread; extraction apart), {result['diverged']} diverged. "
        "Accuracy on D'_test in %, selection `last`, mean ± standard deviation over seeds (as many as the column "
        "`seeds` says); the mean is over the domains of the row. Of losses that are the same on these heads one is "
        "here: "
        + ", ".join(f"`{name}` is `{other}`" for name, other in result["left_out"].items())
        + ". Nothing was tuned on any of it.",
        "",
        "| head | loss | " + " | ".join(domains) + " | mean | seeds |",
        "| :-- | :-- | " + " | ".join("--:" for _ in domains) + " | --: | --: |",
    ]
    for head, loss in order:
        mine = rows[head, loss]
        means = [c["mean"] for c in mine.values() if c["mean"] is not None]
        mean = f"{100 * statistics.fmean(means):.1f}" if means else "–"
        body = " | ".join(_cell(mine.get(domain)) for domain in domains)
        seeds = max(c["seeds"] for c in mine.values())
        lines.append(f"| {head or '–'} | {loss} | {body} | {mean} | {seeds} |")
    return "\n".join(lines) + "\n"


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["mean"] is None:
        return "–"
    return f"{100 * cell['mean']:.1f}" + ("" if cell["sd"] is None else f" ±{100 * cell['sd']:.1f}")


def _open(domain: str, cache: str) -> Any:
    from w2s_fast.tasks.opening import open_task

    return open_task(f"drawn:{domain}", cache=cache, say=lambda _: None)


def _weight(job: Job) -> float:
    """How long a job takes, roughly, in fits of a linear head."""
    each = {"prompt": 30.0, "text_encoder": 60.0}
    return len(job.losses) * job.seeds * sum(each.get(head.partition("(")[0], 2.0) for head in job.heads)


def _told(args: argparse.Namespace) -> list[str]:
    words = ["--cache", "DIR"]
    for name in ("seeds", "domains", "other_seeds", "other_domains"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    words += ["--losses", *args.losses] if args.losses else []
    return words + (["--other-heads", *args.other_heads] if tuple(args.other_heads) != OTHER_HEADS else [])


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="folder of extracted features; filled if they are missing")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--domains", type=int, default=len(DOMAINS))
    parser.add_argument("--other-seeds", type=int, default=3)
    parser.add_argument("--other-domains", type=int, default=2)
    parser.add_argument("--other-heads", nargs="*", default=OTHER_HEADS)
    parser.add_argument("--losses", nargs="*", default=(), help="in place of every loss, and of the five")
    parser.add_argument("--processes", type=int, default=2, help="0: in this process")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(argv)
    args.other_domains = min(args.other_domains, args.domains)
    return args


if __name__ == "__main__":
    sys.exit(main())
