"""Time a step of prompt learning: the plain CoOp step against the prompt head's. One command, one process.

    python benchmarks/prompt.py --quick          a small tower, under a minute
    python benchmarks/prompt.py --json FILE      345 classes, a text tower of ViT-B/16's shape; needs 8 GB in fp32

The plain step is CoOp's on cached image features: all 77 positions of all prompts, autograd from the loss of the batch
through the tower to the context. Names have the token counts of DomainNet's (1: 259, 2: 72, 3: 13, 5: 1), weights are
random, all jobs start from the same context, and take turns. Exit status 1 if features or context gradients differ
(fp32: by more than 1e-5), or, without --quick, if the head is less than 8 times as fast as the plain step.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from benchmarks.heads_parts.timing import interleaved, machine, median, spread, use_cores
from w2s_fast.backbones import ClassPrompts, class_prompts, encode_prompts, tower_of
from w2s_fast.core.processor import has_bf16

COUNTS = {1: 259, 2: 72, 3: 13, 5: 1}
FULL = {"width": 512, "layers": 12, "heads": 8, "embed_dim": 512}
QUICK = {"width": 64, "layers": 3, "heads": 4, "embed_dim": 64}
NEEDED = 8.0
PARITY = {"fp32": 1e-5, "bf16": 0.1}
BATCH, SCALE = 32, 100.0
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A model, prompts of its class names, the learned context, a batch of cached image features and labels."""

    net: Any
    prompts: ClassPrompts
    tokens: Tensor
    context: Tensor
    images: Tensor
    labels: Tensor


def main() -> int:
    args = arguments()
    cores = use_cores(args.threads)
    about = machine(cores, device=args.device)  # with the load before, not that of the measurement itself
    rows = []
    for m in args.contexts:
        world = make_world(m, QUICK if args.quick else FULL, device=args.device)
        for precision in args.precisions:
            rows += measure(world, precision, args)
            print(table(rows[-3:]), flush=True)
    result = {
        "command": " ".join(["python benchmarks/prompt.py", *told(sys.argv[1:])]),
        "machine": about,
        "settings": {name: v for name, v in vars(args).items() if name != "json"},
        "rows": rows,
    }
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    failed = [r for r in rows if max(r["off_text"], r["off_gradient"]) > PARITY[r["precision"]]]
    slow = [] if args.quick else [r for r in rows if r["job"] == "head" and r["ratio"] < NEEDED]
    for r in failed + slow:
        print(f"failed: {r}", file=sys.stderr)
    return 1 if failed or slow else 0


def make_world(m: int, shape: dict[str, int], *, device: str) -> World:
    torch.manual_seed(0)
    text = {"context_length": 77, "vocab_size": 49408, **{k: shape[k] for k in ("width", "layers", "heads")}}
    net = open_clip.CLIP(shape["embed_dim"], vision_cfg=dict(VISION), text_cfg=text).eval().requires_grad_(False)
    net = net.to(device)
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    names = class_names(tokenizer)
    words = "a photo of a" if m == 4 else " ".join(["a"] * m)
    tokens = tokenizer([f"{words} {name}." for name in names]).to(device)
    labels = torch.arange(BATCH, device=device) % len(names)
    images = normalize(torch.randn(BATCH, shape["embed_dim"], device=device), dim=-1)
    return World(
        net=net,
        prompts=class_prompts(tower_of(net, tokenizer), names, words=words, end="."),
        tokens=tokens,
        context=0.02 * torch.randn(m, shape["width"], device=device),
        images=images,
        labels=labels,
    )


def class_names(tokenizer: Any) -> list[str]:
    """Distinct names of common words, with DomainNet's numbers of tokens."""
    words = [w.removesuffix("</w>") for w in tokenizer.encoder if w.endswith("</w>")]
    single = [w for w in words if w.isascii() and w.isalpha() and len(w) > 3 and len(tokenizer.encode(w)) == 1]
    taken = iter(single)
    return [" ".join(next(taken) for _ in range(count)) for count, times in COUNTS.items() for _ in range(times)]


def plain(world: World, context: Tensor, precision: str, *, length: int) -> Tensor:
    """Text features f[k, d] by open_clip's modules on the first `length` positions of every prompt."""
    net, m = world.net, len(context)
    tokens = world.tokens[:, :length]
    with torch.autocast(context.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        emb = net.token_embedding(tokens)
        x = torch.cat([emb[:, :1], context.expand(len(tokens), m, -1), emb[:, 1 + m :]], 1)
        x = net.transformer(x + net.positional_embedding[:length], attn_mask=net.attn_mask[:length, :length])
        x = net.ln_final(x)[torch.arange(len(x), device=x.device), tokens.argmax(-1)]
        return (x @ net.text_projection).float()


def coop_step(world: World, precision: str, *, length: int) -> tuple[Tensor, Tensor]:
    """CoOp's step up to the gradient: from the batch's loss through the tower to the context."""
    context = world.context.clone().requires_grad_()
    text = plain(world, context, precision, length=length)
    loss = cross_entropy(SCALE * world.images @ normalize(text, dim=-1).T, world.labels)
    return text.detach(), torch.autograd.grad(loss, context)[0]


def head_step(world: World, precision: str) -> tuple[Tensor, Tensor]:
    """The same in two stages: the batch's gradient for the class weights in closed form, then one pull back."""
    context = world.context.clone().requires_grad_()
    dtype = torch.bfloat16 if precision == "bf16" else None
    text = encode_prompts(world.prompts.tower, context, world.prompts, dtype=dtype)
    weights = normalize(text, dim=-1)
    with torch.no_grad():
        dz = (SCALE * world.images @ weights.T).softmax(-1)
        dz[torch.arange(BATCH, device=dz.device), world.labels] -= 1
        dw = dz.T @ world.images * (SCALE / BATCH)
    return text.detach(), torch.autograd.grad(weights, context, dw)[0]


def measure(world: World, precision: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    ends = world.tokens.argmax(-1)
    longest = int(ends.max()) + 1
    k, m = len(world.tokens), len(world.context)
    jobs: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "plain": lambda: coop_step(world, precision, length=77),
        "truncated": lambda: coop_step(world, precision, length=longest),
        "head": lambda: head_step(world, precision),
    }
    positions = {"plain": k * 77, "truncated": k * longest, "head": 1 + m + int((ends - m).sum())}
    memory, found = {}, {}
    for name, job in reversed(jobs.items()):  # the smallest first, so that no freed block is counted as another's
        found[name], memory[name] = peak(job, args.device)
    busy: dict[str, list[float]] = {name: [] for name in jobs}
    watched = {name: partial(on_processor, job, busy[name]) for name, job in jobs.items()}
    seconds = interleaved(watched, repeats=args.repeats, device=args.device)
    base = median(seconds["plain"])
    rows = []
    for name in jobs:
        middle = median(seconds[name])
        rows.append(
            {
                "job": name,
                "precision": precision,
                "context": m,
                "classes": k,
                "positions": positions[name],
                "seconds": middle,
                "spread": spread(seconds[name]),
                "cpu_seconds": median(busy[name]),
                "ratio": base / middle,
                "cpu_ratio": median(busy["plain"]) / median(busy[name]),
                "memory_mib": memory[name],
                "off_text": far(found[name][0], found["plain"][0]),
                "off_gradient": far(found[name][1], found["plain"][1]),
            }
        )
    return rows


def told(argv: list[str]) -> list[str]:
    """The command line without the place of its result."""
    return ["FILE" if before == "--json" else word for before, word in zip(["", *argv], argv, strict=False)]


def on_processor(job: Callable[[], Any], into: list[float]) -> None:
    """Run a job and note its processor seconds, which others on the machine do not lengthen as they do the clock's."""
    began = time.process_time()
    job()
    into.append(time.process_time() - began)


def peak(job: Callable[[], Any], device: str) -> tuple[Any, float]:
    """What a job returns, and the MiB that it takes at most beyond what was taken before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found = job()
        torch.cuda.synchronize()
        return found, (torch.cuda.max_memory_allocated() - before) / 2**20
    # freed blocks are given back first, else what runs next would take them unseen
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    found = job()
    return found, (_status("VmHWM") - before) / 1024


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def table(rows: list[dict[str, Any]]) -> str:
    head = "step         M blocks positions   seconds  ratio    cpu s  ratio      MiB     text gradient"
    lines = [
        f"{r['job']:<10} {r['context']:>3} {r['precision']:>6} {r['positions']:>9,} {r['seconds']:>9.3f} "
        f"{r['ratio']:>6.1f} {r['cpu_seconds']:>8.3f} {r['cpu_ratio']:>6.1f} {r['memory_mib']:>8,.0f} "
        f"{r['off_text']:>8.1e} {r['off_gradient']:>8.1e}"
        for r in rows
    ]
    return "\n".join([head, *lines])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tower of width 64 and 3 blocks; no gate on speed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and machine")
    parser.add_argument("--threads", type=int, default=1, help="cores and threads (default 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=tuple(PARITY), help="default: those that are here")
    parser.add_argument("--contexts", nargs="+", type=int, help="M (default 4 and 16; 4 with --quick)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    halves = args.device == "cuda" or has_bf16()
    args.precisions = args.precisions or ["fp32", *(["bf16"] if halves else [])]
    args.contexts = args.contexts or ([4] if args.quick else [4, 16])
    return args


if __name__ == "__main__":
    sys.exit(main())
