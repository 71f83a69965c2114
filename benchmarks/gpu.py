"""The whole GPU path in one command: what the card does, whether the numbers are right, how fast heads are trained.

    python benchmarks/gpu.py --out FILE                   at most 8 minutes; FILE is written anew as each stage ends
    python benchmarks/gpu.py --device cpu --quick         the same stages on tiny tasks, without a GPU
    python benchmarks/gpu.py --against OLD FILE           two runs beside each other
    python benchmarks/gpu.py --readme FILE                README's table from a run on a GPU

Needs torch, numpy and Triton; what else is missing (zarr, open_clip, faiss, scikit-learn) takes its stage along and
nothing else. Exit status 1 if a stage failed or a gate did not pass.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_parts import checks, extraction, machine, memory, others, speed, tables
from benchmarks.gpu_parts.settings import Settings, finite

STAGES: dict[str, tuple[Callable[[Settings], dict[str, Any]], float]] = {
    "machine": (machine.stage, 30),
    "tests": (checks.stage, 120),
    "heads": (speed.stage, 180),
    "accuracy": (checks.accuracy_stage, 45),
    "extraction": (extraction.stage, 45),
    "memory": (memory.stage, 20),
    "others": (others.stage, 40),
}
"""Each stage and the seconds that it may take; what does not fit is left out and said."""


def main() -> int:
    args = arguments()
    if args.against is not None:
        print(tables.against(*(json.loads(file.read_text()) for file in args.against)))
        return 0
    if args.readme is not None:
        print(tables.readme(json.loads(args.readme.read_text())))
        return 0
    began = time.perf_counter()
    result: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu.py", *(Path(a).name if "/" in a else a for a in sys.argv[1:])]),
        "device": args.device,
        "quick": args.quick,
        "stages": {},
    }
    for name in args.stages:
        work, seconds = STAGES[name]
        left = 60 * args.minutes - (time.perf_counter() - began)
        result["stages"][name] = one = {}
        if left < 5:
            one["left_out"] = f"{args.minutes:g} minutes were over"
        else:
            rates = result["stages"].get("machine", {}).get("rates")
            one |= _run(
                work,
                Settings.of(args.device, quick=args.quick, seconds=min(seconds, left), into=one, rates=rates),
            )
        result["seconds"] = time.perf_counter() - began
        write(args.out, result)
        say(f"{name}: {one.get('error') or one.get('left_out') or 'done'}, {one.get('seconds', 0):.0f} s")
    print(tables.summary(result))
    failed = [name for name, one in result["stages"].items() if "error" in one or one.get("passed") is False]
    say(f"{len(result['stages'])} stages in {result['seconds']:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _run(work: Callable[[Settings], dict[str, Any]], settings: Settings) -> dict[str, Any]:
    began, found = time.perf_counter(), dict[str, Any]()
    try:
        found |= work(settings)
    except Exception as error:
        # one stage's failure must not cost the others: time on a GPU is rare
        found |= {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        say(found["traceback"])
    return {**found, "seconds": time.perf_counter() - began}


def write(file: Path | None, result: dict[str, Any]) -> None:
    """The result so far, whole or not at all."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(file.suffix + ".part")
    part.write_text(json.dumps(finite(result), indent=1, allow_nan=False) + "\n")
    part.replace(file)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny tasks: does it run, not how fast")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON, written anew as each stage ends")
    parser.add_argument("--minutes", type=float, default=8.0, help="in all (default 8)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="default: all")
    parser.add_argument("--against", nargs=2, type=Path, metavar="FILE", help="print one run beside another, and stop")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="print README's table from a run, and stop")
    args = parser.parse_args()
    if args.against is None and args.readme is None and args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.error("torch finds no CUDA device; try --device cpu --quick")
    return args


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
