"""Pre-train the embedded CLIP contrastively on captioned drawings and write it as open_clip's local-dir layout.

    OMP_NUM_THREADS=1 python -m benchmarks.drawn_clip.pretrain

Expected: see README.md in this folder (about nine minutes on one core).
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.drawn_clip.captions import caption
from benchmarks.drawn_clip.vocabulary import CONTEXT, compact, kept_ids
from w2s_fast.data import drawn

ASSETS = Path(__file__).parents[2] / "w2s_fast" / "assets" / "drawn_clip"
SHARES = {"clipart": 12, "real": 12, "sketch": 12, "infograph": 9, "painting": 9, "quickdraw": 6}
"""How often each evaluated style is drawn, against 6 for each of the others: evaluated ones differ in coverage."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Settings of one pre-training; `images` captioned drawings are seen `epochs` times."""

    images: int = 110_000
    epochs: int = 4
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0


def model_config(vocabulary: int) -> dict[str, Any]:
    """The open_clip configuration: a one-block-per-stage modified ResNet and a two-layer text transformer."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": drawn.SIZE, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": vocabulary, "width": 64, "heads": 2, "layers": 2},
    }


PREPROCESS = {
    "size": [drawn.SIZE, drawn.SIZE],
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def captioned(count: int, rng: Generator) -> tuple[NDArray[np.uint8], list[str]]:
    """Draw `count` pictures of the pre-training space: uint8 [count, 32, 32, 3], and a caption for each."""
    styles = drawn.DOMAINS + drawn.EXTRA_STYLES
    share = np.array([SHARES.get(style, 6) for style in styles], float)
    chosen = rng.choice(len(styles), count, p=share / share.sum())
    pixels, texts = np.empty((count, drawn.SIZE, drawn.SIZE, 3), np.uint8), list[str]()
    for i, name in enumerate(rng.choice(drawn.OBJECTS, count)):
        style = styles[chosen[i]]
        pixels[i], colour = drawn.render_with_colour(style, str(name), space="pretrain", index=i)
        texts.append(caption(str(name), style, colour, rng))
    return pixels, texts


def normalised(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, 32, 32, 3] to float [n, 3, 32, 32] in -1..1."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


@torch.no_grad()
def zero_shot(
    model: open_clip.CLIP, ids: Sequence[int], *, space: str, per_class: int, names: Sequence[str] = drawn.CLASSES
) -> dict[str, float]:
    """Accuracy in percent per domain with the prompt "a photo of a {name}", over `per_class` images of each name."""
    model.eval()
    texts = model.encode_text(compact([f"a photo of a {name}" for name in names], list(ids)), normalize=True)
    truth = torch.arange(len(names)).repeat_interleave(per_class)
    result: dict[str, float] = {}
    for domain in drawn.DOMAINS:
        pixels = np.stack([drawn.render(domain, n, space=space, index=i) for n in names for i in range(per_class)])
        guesses = [
            (model.encode_image(normalised(part), normalize=True) @ texts.T).argmax(1) for part in _parts(pixels)
        ]
        result[domain] = round(100 * float((torch.cat(guesses) == truth).double().mean()), 1)
    model.train()
    return result


def train(model: open_clip.CLIP, pixels: NDArray[np.uint8], tokens: Tensor, s: Pretraining) -> Iterator[dict[str, Any]]:
    """Symmetric contrastive training with AdamW; yields step, loss and scale ten times an epoch."""
    rng = np.random.default_rng([s.seed, 1])
    flat = [p for p in model.parameters() if p.ndim < 2]
    deep = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": deep, "weight_decay": s.weight_decay}, {"params": flat, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=s.lr, betas=(0.9, 0.98))
    per_epoch = len(pixels) // s.batch_size
    steps, warmup = s.epochs * per_epoch, max(1, int(s.warmup * s.epochs * per_epoch))
    diagonal, order = torch.arange(s.batch_size), rng.permutation(len(pixels))
    for step in range(steps):
        if step % per_epoch == 0:
            order = rng.permutation(len(pixels))
        rows = order[step % per_epoch * s.batch_size :][: s.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = s.lr * min(1, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps) + 0.01)
        images = model.encode_image(normalised(pixels[rows]), normalize=True)
        texts = model.encode_text(tokens[rows], normalize=True)
        logits = model.logit_scale.exp() * images @ texts.T
        loss = (cross_entropy(logits, diagonal) + cross_entropy(logits.T, diagonal)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), s.clip_norm)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % max(1, per_epoch // 10) == 0 or step == steps - 1:
            yield {"step": step, "loss": round(loss.item(), 3), "scale": round(model.logit_scale.exp().item(), 1)}


def save(folder: Path, model: open_clip.CLIP, ids: list[int], config: dict[str, Any]) -> None:
    """Write weights (fp16), configuration and vocabulary where open_clip's `local-dir:` looks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    weights = folder / "open_clip_model.safetensors"
    save_file(half, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    _write(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": PREPROCESS})
    vocabulary = {"tokenizer": "open_clip.SimpleTokenizer", "context_length": CONTEXT, "ids": ids}
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in vars(Pretraining()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--out", type=Path, default=ASSETS)
    options = vars(parser.parse_args())
    folder: Path = options.pop("out")
    s = Pretraining(**options)

    started = time.perf_counter()
    pixels, texts = captioned(s.images, np.random.default_rng([s.seed, 0]))
    unique, rows = np.unique(texts, return_inverse=True)
    ids = kept_ids(unique.tolist())
    tokens = compact(unique.tolist(), ids)[torch.from_numpy(rows.reshape(-1))]
    seconds = time.perf_counter() - started
    print(f"{s.images} drawings, {len(unique)} captions, {len(ids)} tokens, {seconds:.0f} s", flush=True)
    config = model_config(len(ids))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        model = open_clip.CLIP(**config)
    model.visual = model.visual.to(memory_format=torch.channels_last)
    for line in train(model, pixels, tokens, s):
        line["seconds"] = round(time.perf_counter() - started)
        if line["step"] % 1000 < len(pixels) // s.batch_size // 10:
            line["zero_shot"] = zero_shot(model, ids, space="train", per_class=5)
        print(json.dumps(line), flush=True)
    minutes = round((time.perf_counter() - started) / 60, 1)

    save(folder, model, ids, config)
    reloaded = open_clip.create_model(f"local-dir:{folder}", precision="fp32")
    assert isinstance(reloaded, open_clip.CLIP)
    changed = [f"--{k.replace('_', '-')}={v}" for k, v in vars(s).items() if v != getattr(Pretraining, k)]
    card: dict[str, Any] = {
        "command": shlex.join(["OMP_NUM_THREADS=1", "python", "-m", "benchmarks.drawn_clip.pretrain", *changed]),
        "settings": vars(s),
        "threads": torch.get_num_threads(),
        "minutes": minutes,
        "renderer": drawn.RENDERER,
        "parameters": sum(p.numel() for p in model.parameters()),
        "logit_scale": round(reloaded.logit_scale.exp().item(), 3),
        "prompt": "a photo of a {name}",
        "zero_shot": zero_shot(reloaded, ids, space="pool", per_class=drawn.POOL_PER_CLASS),
        "zero_shot_all_objects": zero_shot(reloaded, ids, space="pool", per_class=20, names=drawn.OBJECTS),
    }
    _write(folder / "card.json", card)
    print(json.dumps(card, indent=1))


def _parts(pixels: NDArray[np.uint8], size: int = 512) -> Iterator[NDArray[np.uint8]]:
    return (pixels[i : i + size] for i in range(0, len(pixels), size))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
