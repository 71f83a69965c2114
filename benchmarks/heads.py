"""Time head training: the engine against what is used today. One command, one process; see README.md beside this file.

    python benchmarks/heads.py --quick                  under 5 minutes; exit status 1 if a parity gate fails
    python benchmarks/heads.py --json FILE              every case and loss
    python benchmarks/heads.py --readme FILE            README's table from a result file

Expected on one core, d = 512, KD: fp32 at least 2 times, bf16 at least 5 times as fast as the DataLoader loop.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.heads_parts import end_to_end, measure, parity, scaling, tables
from benchmarks.heads_parts.encoder import images_per_second
from benchmarks.heads_parts.engine import PRECISIONS
from benchmarks.heads_parts.floors import cuda_rates
from benchmarks.heads_parts.recipe import LOSSES
from benchmarks.heads_parts.timing import machine, use_cores
from benchmarks.heads_parts.worlds import CLIPART, CLIPART_768, REAL, World, make_world

CASES = {"clipart-512": CLIPART, "clipart-768": CLIPART_768, "real-768": REAL}
QUICK_CASES, QUICK_LOSSES = ("clipart-512",), ("KD", "CPL")
QUICK_ACCURACY = ("KD", "AuxConf")
FEWEST_REPEATS = 3


def main() -> int:
    args = arguments()
    if args.readme is not None:
        print(tables.readme(json.loads(args.readme.read_text())))
        return 0
    began = time.perf_counter()
    cores = use_cores(args.threads)
    result: dict[str, Any] = {"machine": machine(cores, device=args.device), "settings": settings(args)}
    say(tables.hardware({**result, "rows": []}))
    result |= {"rows": [], "parity": [], "scaling": [], "end_to_end": None}
    first = make_world(CLIPART).to(args.device)
    precisions = measure.available(first, args.precisions, say)
    if not precisions:
        say("none of the precisions asked for is available; give --precisions fp32")
        return 2
    if not args.no_gates:
        result["parity"] = gates(first, precisions, args)
    if not args.no_table:
        result["rows"] = table_rows(args, precisions)
        print(tables.table(result["rows"]))
    if args.scaling:
        result["scaling"] = scaling_rows(first, precisions, args)
        print(tables.scaling(result["scaling"]))
    if args.end_to_end:
        use_cores(args.processes)
        torch.set_num_threads(1)
        result["end_to_end"] = end_to_end.end_to_end(
            args.cache, seeds=args.study_seeds, precision=args.study_precision, processes=args.processes, say=say
        )
        print(tables.study(result["end_to_end"]))
    result["seconds"] = time.perf_counter() - began
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(finite(result), indent=1, allow_nan=False) + "\n")
    failed = [one for one in result["parity"] if not one["passed"]]
    say(f"{len(result['parity'])} gates, {len(failed)} failed; {result['seconds']:.0f} s in all")
    return 1 if failed else 0


def gates(world: World, precisions: tuple[str, ...], args: argparse.Namespace) -> list[dict[str, Any]]:
    """fp32 in its parameters for every loss that is continuous; the others in accuracy over paired seeds."""
    found = []
    for recipe in LOSSES.values():
        if "fp32" in precisions and recipe.loss not in parity.DISCONTINUOUS:
            found.append(parity.gate_fp32(world, recipe))
            say(parity.told(found[-1]))
    seeds = range(args.gate_seeds)
    for name in QUICK_ACCURACY if args.quick else LOSSES:
        reduced = [p for p in precisions if p != "fp32"]
        plain = parity.accuracies(world, LOSSES[name], precision="fp32", seeds=seeds) if reduced else []
        for precision in reduced:
            found.append(
                parity.gate_accuracy(
                    world, LOSSES[name], precision=precision, seeds=seeds, strict=not args.quick, fp32=plain
                )
            )
            say(parity.told(found[-1]))
    return found


def table_rows(args: argparse.Namespace, precisions: tuple[str, ...]) -> list[dict[str, Any]]:
    """The main table, a case at a time."""
    speed = images_per_second(device=args.device)
    say(f"encoder: ViT-B-32, random weights, fp32: {speed:.1f} images/s")
    plan = measure.Plan(
        runs=args.runs,
        repeats=args.repeats,
        precisions=precisions,
        device=args.device,
        threads=args.threads,
        compiled_resident=not args.quick,
        encoder_speed=speed,
        rates=cuda_rates() if args.device == "cuda" else None,
    )
    rows: list[dict[str, Any]] = []
    for case in args.cases:
        world = make_world(CASES[case]).to(args.device)
        probes = measure.probe_columns(world, plan, sklearn_repeats=args.sklearn_repeats)
        for loss in args.losses:
            found = measure.rows_of(world, loss, LOSSES[loss], plan)
            rows += [{**row, **probes} for row in found]
            for row in found:
                say(f"{case} {tables.told(row)}")
    return rows


def scaling_rows(world: World, precisions: tuple[str, ...], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Cost against R, n, k and d in every precision."""
    rows: list[dict[str, Any]] = []
    for precision in precisions:
        rows += scaling.against_runs(world, precision=precision, repeats=args.repeats)
        for axis in ("n", "k", "d"):
            rows += scaling.against_shape(axis=axis, precision=precision, repeats=args.repeats, device=args.device)
        say(f"scaling: {precision} done")
    return rows


def finite(value: Any) -> Any:
    """The same for a JSON file, where numbers that are not finite are null."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def arguments() -> argparse.Namespace:
    """The command line, with defaults that depend on --quick and --device filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one case, two losses, three repetitions, few seeds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows, gates and machine")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="print README's table from a result file, and stop")
    parser.add_argument("--threads", type=int, default=1, help="cores and threads of the table (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="default: all")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, help="default: all")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: fp32 bf16; on a GPU also tf32")
    parser.add_argument("--runs", type=int, help="runs per engine call (default 4; 2 with --quick; 64 on a GPU)")
    parser.add_argument("--repeats", type=int, help="repetitions (default 5)")
    parser.add_argument("--sklearn-repeats", type=int, help="repetitions of scikit-learn (default 5; 1 with --quick)")
    parser.add_argument("--gate-seeds", type=int, help="paired seeds of an accuracy gate (default 32; 6 with --quick)")
    parser.add_argument("--no-table", action="store_true", help="leave out the main table")
    parser.add_argument("--no-gates", action="store_true", help="leave out the parity gates")
    parser.add_argument("--scaling", action="store_true", help="also cost against R, n, k and d")
    parser.add_argument("--end-to-end", action="store_true", help="also 1,200 fits on the drawn domains")
    parser.add_argument("--cache", type=Path, help="where --end-to-end finds or makes the drawn features")
    parser.add_argument("--processes", type=int, default=2, help="processes of --end-to-end (default 2)")
    parser.add_argument("--study-seeds", type=int, default=20, help="seeds of --end-to-end (default 20)")
    parser.add_argument("--study-precision", choices=PRECISIONS, default="fp32", help="of --end-to-end (default fp32)")
    args = parser.parse_args()
    gpu = args.device == "cuda"
    args.cases = args.cases or list(QUICK_CASES if args.quick else CASES)
    args.losses = args.losses or list(QUICK_LOSSES if args.quick else LOSSES)
    args.precisions = args.precisions or (list(PRECISIONS) if gpu else ["fp32", "bf16"])
    args.runs = args.runs or (64 if gpu else 2 if args.quick else 4)
    args.repeats = args.repeats or 5
    args.sklearn_repeats = (1 if args.quick else 5) if args.sklearn_repeats is None else args.sklearn_repeats
    args.gate_seeds = args.gate_seeds or (6 if args.quick else 32)
    if args.repeats < FEWEST_REPEATS:
        parser.error(f"--repeats {args.repeats}: a median needs at least {FEWEST_REPEATS}")
    if args.end_to_end and args.cache is None:
        parser.error("--end-to-end needs --cache DIR, where the drawn features are or will be")
    return args


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
