"""Train weak supervisors on D_train's ground truth and keep them as `weak:NAME`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.backbones.students import new_module
from w2s_fast.backbones.weak import save_supervisor, supervisor_dir
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.hashing import digest_ids
from w2s_fast.core.paths import cache_root
from w2s_fast.core.version import CODE
from w2s_fast.data import DEFAULT_DATA, canonical, expand_data, open_manifest
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.repeats import without_repeats
from w2s_fast.data.splits import fold_positions, halves
from w2s_fast.finetune.fit import NetworkFit, fit_network
from w2s_fast.finetune.images import Images, Pixels, decoded, open_images
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.views import prepared
from w2s_fast.finetune.weak import training_of

POOL_SAMPLE = 2048
"""The pool accuracy that is reported after training is measured on at most so many rows, evenly over classes."""

OnProgress = Callable[[str, int, int], None]


def train_supervisors(
    data: Sequence[str] | None = None,
    *,
    model: str,
    name: str | None = None,
    seeds: Sequence[int] = (0,),
    recipe: Mapping[str, Any] | None = None,
    pretrained: bool = True,
    class_names: str | Path | None = None,
    root: str | Path | None = None,
    identity: str = "content",
    drop_repeats: bool = False,
    device: str = "auto",
    cache: str | Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """Train one supervisor per data set and weak seed and yield its record: name, accuracies, seconds, directory.

    `recipe` overrides fields of the architecture's own training (weak.py); None values are unset. An existing
    supervisor of that name, data set and seed is replaced; one that was interrupted is gone on with. Unreadable images
    of D_train (and of the sample of the pool) are left out and counted as `failures` (`failures_pool`),
    `first_failure` names one; `DataError` when none is readable, or where D_train holds copies of
    the pool's images without `drop_repeats`. Where `stopped` says so, the state is saved, and the
    last record has the status `stopped` and the command that goes on.
    """
    chosen = _name(name, model)
    for one in map(canonical, expand_data(tuple(data or (DEFAULT_DATA,)))):
        manifest = open_manifest(
            one,
            root=None if root is None else Path(root),
            identity=identity,
            class_names=None if class_names is None else Path(class_names),
            cache=cache_root(cache),
        )
        if drop_repeats:
            manifest, _ = without_repeats(manifest)
        training = training_of(model, recipe or {})
        d_train, _, _ = halves(manifest)
        images: Images | None = None
        seen: dict[str, Any] | None = None
        for seed in seeds:
            module, preprocess, prepare = new_module(model, len(manifest.classes), seed=seed, pretrained=pretrained)
            if images is None or preprocess != seen:
                seen = preprocess
                images = open_images(manifest, d_train, Pixels.of(prepare, preprocess), what="D_train")
            directory = supervisor_dir(chosen, one, seed, cache_root(cache))
            command = _command(one, model, chosen, seed, recipe or {}, pretrained)
            unfinished = directory.with_name(f".{directory.name}.training")
            started = time.perf_counter()
            label = f"{one}: weak:{chosen}/{seed}"
            # the drawn CNN's tensors are too small to share between threads
            with threads(1 if model == "drawn:cnn" else torch.get_num_threads()):
                fit = _fit(
                    module,
                    images,
                    training,
                    seed=seed,
                    device=pick_device(device),
                    folder=unfinished,
                    question={"arch": model, "preprocess": preprocess, "pretrained": pretrained},
                    stopped=stopped,
                    progress=None if on_progress is None else _steps(on_progress, label),
                )
            if fit.status == "stopped":
                yield {
                    "name": f"weak:{chosen}/{seed}",
                    "data": one,
                    "seed": seed,
                    "status": "stopped",
                    "command": command,
                }
                return
            seconds = time.perf_counter() - started
            acc_pool, pool_failures = _pool_accuracy(module, manifest, images.pixels)
            curve = fit.curves["accuracy"]
            card = {
                "arch": model,
                "classes": list(manifest.classes),
                "data": one,
                "seed": seed,
                "recipe": asdict(training),
                "pretrained": pretrained,
                "preprocess": preprocess,
                "command": command,
                "acc": {"train": float(curve[-1]) if len(curve) > 1 else None, "pool": acc_pool},
                "d_train_whole": whole_d_train(manifest),
                "code": CODE,
            }
            save_supervisor(directory, module, card, images.ids)
            shutil.rmtree(unfinished, ignore_errors=True)
            yield {
                "name": f"weak:{chosen}/{seed}",
                "data": one,
                "seed": seed,
                "status": "ok",
                "n_train": len(images.rows),
                "failures": len(images.failures),
                "failures_pool": len(pool_failures),
                "first_failure": next(iter([*images.failures, *pool_failures]), None),
                "acc_train": card["acc"]["train"],
                "acc_pool": card["acc"]["pool"],
                "seconds": seconds,
                "directory": str(directory),
            }


def _fit(module: torch.nn.Module, images: Images, training: Training, *, device: str, **more: Any) -> NetworkFit:
    return fit_network(
        module,
        images.views(training.augment, device=device),
        images.labels,
        training=training,
        k=len(images.manifest.classes),
        device=device,
        save_at_end=False,
        **more,
    )


def whole_d_train(manifest: Manifest) -> str:
    """The digest over the sorted ids of D_train, unreadable images included: it tells a data set that was moved."""
    return digest_ids(sorted(manifest.ids[r] for r in halves(manifest)[0]))


def _pool_accuracy(module: torch.nn.Module, manifest: Manifest, pixels: Pixels) -> tuple[float, list[str]]:
    """Accuracy on an even sample of the pool, and why images of it could not be read."""
    _, held, _ = halves(manifest)
    order = np.argsort(fold_positions(manifest, held, key="0"), kind="stable")
    rows = held[order][:: max(1, -(-len(held) // POOL_SAMPLE))]
    device = next(module.parameters()).device
    right = seen = 0
    failures: list[str] = []
    with torch.inference_mode(), ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), 256):
            some = rows[start : start + 256].tolist()
            found = list(decoded(pool, manifest, some, pixels))
            failures += [why for why in found if isinstance(why, str)]
            good = [(row, x) for row, x in zip(some, found, strict=True) if isinstance(x, torch.Tensor)]
            if good:
                x = prepared(torch.stack([x for _, x in good]), pixels.mean, pixels.std, device)
                labels = manifest.labels[[row for row, _ in good]]
                right += int((module(x).argmax(-1).cpu().numpy() == labels).sum())
                seen += len(good)
    if not seen:
        raise DataError(
            f"{manifest.name}: none of {len(rows)} images of the pool can be read; the first: {failures[0]}"
        )
    return right / seen, failures


def _name(name: str | None, model: str) -> str:
    chosen = name if name is not None else model.partition(":")[2].replace("/", "-").replace(":", "-")
    if not chosen or not all(c.isalnum() or c in "-_." for c in chosen) or chosen.startswith("."):
        raise UsageError(f"--name {chosen!r}: use letters, digits, '-', '_' and '.'")
    return chosen


def _command(data: str, model: str, name: str, seed: int, recipe: Mapping[str, Any], pretrained: bool) -> str:
    parts = [f"w2s-fast weak --data {data} --model {model} --name {name} --seeds {seed}-{seed}"]
    parts += [f"--{key.replace('_', '-')} {value}" for key, value in recipe.items() if value is not None]
    return " ".join(parts + ([] if pretrained or model == "drawn:cnn" else ["--random-weights"]))


def _steps(on_progress: OnProgress, label: str) -> Callable[[int, int, float], None]:
    return lambda done, total, _: on_progress(label, done, total)
