"""Train weak supervisors on D_train's ground truth and keep them as `weak:NAME`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.backbones.students import new_module
from w2s_fast.backbones.weak import save_supervisor, supervisor_dir
from w2s_fast.core.errors import DataError, Unreadable, UsageError, nearest
from w2s_fast.core.hashing import digest_ids
from w2s_fast.core.paths import cache_root
from w2s_fast.core.version import CODE
from w2s_fast.data import DEFAULT_DATA, canonical, expand_data, open_manifest
from w2s_fast.data.decode import read_image
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import fold_positions, halves
from w2s_fast.finetune.weak import DRAWN_RECIPE, FINETUNE_RECIPE, WeakRecipe, fit_supervisor

IN_MEMORY = 4 << 30
"""Prepared images of D_train up to so many bytes are kept in memory, larger sets are decoded again in every epoch."""
POOL_SAMPLE = 2048
"""The pool accuracy that is reported after training is measured on at most so many rows, evenly over classes."""

OnProgress = Callable[[str, int, int], None]
Prepare = Callable[[Any], Tensor]


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
    device: str = "auto",
    cache: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """Train one supervisor per data set and weak seed and yield its record: name, accuracies, seconds, directory.

    `recipe` overrides fields of the architecture's own (`DRAWN_RECIPE`, `FINETUNE_RECIPE`); None values are unset.
    An existing supervisor of that name, data set and seed is replaced. Unreadable images of D_train (and of the sample
    of the pool) are left out and counted as `failures` (`failures_pool`), `first_failure` names one; `DataError` when
    none is readable.
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
        settings = recipe_of(model, recipe or {})
        d_train, _, _ = halves(manifest)
        images: _Images | None = None
        for seed in seeds:
            module, preprocess, prepare = new_module(model, len(manifest.classes), seed=seed, pretrained=pretrained)
            if images is None or preprocess != images.preprocess:
                images = _Images(manifest, d_train, prepare, preprocess)
            used = images.readable("D_train")
            started = time.perf_counter()
            label = f"{one}: weak:{chosen}/{seed}"
            # the drawn CNN's tensors are too small to share between threads
            with threads(1 if model == "drawn:cnn" else torch.get_num_threads()):
                curves = fit_supervisor(
                    module,
                    images.source(),
                    torch.from_numpy(manifest.labels[used]),
                    recipe=settings,
                    seed=seed,
                    device=pick_device(device),
                    progress=None if on_progress is None else _steps(on_progress, label),
                )
            seconds = time.perf_counter() - started
            acc_pool, pool_failures = _pool_accuracy(module, manifest, prepare)
            directory = supervisor_dir(chosen, one, seed, cache_root(cache))
            card = {
                "arch": model,
                "classes": list(manifest.classes),
                "data": one,
                "seed": seed,
                "recipe": asdict(settings),
                "pretrained": pretrained,
                "preprocess": preprocess,
                "command": _command(one, model, chosen, seed, recipe or {}, pretrained),
                "acc": {"train": _last(curves, "accuracy"), "pool": acc_pool},
                "d_train_whole": whole_d_train(manifest),
                "code": CODE,
            }
            save_supervisor(directory, module, card, [manifest.ids[r] for r in used])
            yield {
                "name": f"weak:{chosen}/{seed}",
                "data": one,
                "seed": seed,
                "n_train": len(used),
                "failures": len(images.failures),
                "failures_pool": len(pool_failures),
                "first_failure": next(iter([*images.failures, *pool_failures]), None),
                "acc_train": card["acc"]["train"],
                "acc_pool": card["acc"]["pool"],
                "seconds": seconds,
                "directory": str(directory),
            }


class _Images:
    """Prepared images of the readable ones of some rows: kept in memory where they fit, else decoded on demand."""

    def __init__(self, manifest: Manifest, rows: np.ndarray, prepare: Prepare, preprocess: Any) -> None:
        self.manifest, self.rows, self.prepare, self.preprocess = manifest, rows, prepare, preprocess
        self.pool = ThreadPoolExecutor()
        self.kept: Tensor | None = None
        self.failures: list[str] = []
        self.looked = False

    def readable(self, what: str) -> np.ndarray:
        """Those of the rows whose images decode, found in one pass; `DataError` if there are none."""
        if not self.looked:
            first = next((found for r in self.rows if isinstance(found := self._try(int(r)), Tensor)), None)
            fits = first is not None and first.numel() * first.element_size() * len(self.rows) <= IN_MEMORY
            good: list[int] = []
            kept: list[Tensor] = []
            for row, found in zip(self.rows.tolist(), self.pool.map(self._try, self.rows.tolist()), strict=True):
                if isinstance(found, str):
                    self.failures.append(found)
                    continue
                good.append(row)
                if fits:
                    kept.append(found)
            if not good:
                raise DataError(
                    f"{self.manifest.name}: none of the {len(self.rows)} images of {what} can be read; "
                    f"the first: {self.failures[0] if self.failures else 'there is none'}"
                )
            self.rows = np.array(good, np.int64)
            self.kept = torch.stack(kept) if fits else None
            self.looked = True
        return self.rows

    def source(self) -> Tensor | Callable[[Tensor], Tensor]:
        return self.batch if self.kept is None else self.kept

    def batch(self, numbers: Tensor) -> Tensor:
        """f[b, 3, h, w] of row numbers i[b] into `rows`."""
        return torch.stack(list(self.pool.map(lambda n: self._one(int(self.rows[n])), numbers.tolist())))

    def some(self, rows: list[int]) -> tuple[Tensor | None, np.ndarray]:
        """Images f[b, 3, h, w] and labels i[b] of those of `rows` that are readable; None where none is."""
        found = list(zip(rows, self.pool.map(self._try, rows), strict=True))
        self.failures += [why for _, why in found if isinstance(why, str)]
        good = [(row, x) for row, x in found if isinstance(x, Tensor)]
        inputs = torch.stack([x for _, x in good]) if good else None
        return inputs, self.manifest.labels[[row for row, _ in good]]

    def _one(self, row: int) -> Tensor:
        return self.prepare(read_image(self.manifest, row))

    def _try(self, row: int) -> Tensor | str:
        try:
            return self._one(row)
        except Unreadable as error:
            return str(error)


def whole_d_train(manifest: Manifest) -> str:
    """The digest over the sorted ids of D_train, unreadable images included: it tells a data set that was moved."""
    return digest_ids(sorted(manifest.ids[r] for r in halves(manifest)[0]))


def _pool_accuracy(module: torch.nn.Module, manifest: Manifest, prepare: Prepare) -> tuple[float, list[str]]:
    """Accuracy on an even sample of the pool, and why images of it could not be read."""
    _, pool, _ = halves(manifest)
    order = np.argsort(fold_positions(manifest, pool, key="0"), kind="stable")
    rows = pool[order][:: max(1, -(-len(pool) // POOL_SAMPLE))]
    images = _Images(manifest, rows, prepare, None)
    device = next(module.parameters()).device
    right = seen = 0
    with torch.inference_mode():
        for start in range(0, len(rows), 256):
            inputs, labels = images.some(rows[start : start + 256].tolist())
            if inputs is not None:
                right += int((module(inputs.to(device)).argmax(-1).cpu().numpy() == labels).sum())
                seen += len(labels)
    if not seen:
        raise DataError(
            f"{manifest.name}: none of {len(rows)} images of the pool can be read; the first: {images.failures[0]}"
        )
    return right / seen, images.failures


def recipe_of(model: str, given: Mapping[str, Any]) -> WeakRecipe:
    """The recipe of an architecture with the `given` fields (None: its own); `UsageError` for an unknown field."""
    settings = DRAWN_RECIPE if model == "drawn:cnn" else FINETUNE_RECIPE
    chosen = {k: v for k, v in given.items() if v is not None}
    if chosen.get("epochs") is not None and chosen.get("steps") is not None:
        raise UsageError("give --epochs or --steps, not both")
    if "epochs" in chosen:
        chosen |= {"steps": None, "min_steps": 0}
    elif "steps" in chosen:
        chosen |= {"epochs": None, "min_steps": 0}
    known = asdict(settings)
    for key in chosen:
        if key not in known:
            raise UsageError(f"a weak recipe has no {key!r}{nearest(key, known)}")
    return replace(settings, **chosen)


def _name(name: str | None, model: str) -> str:
    chosen = name if name is not None else model.partition(":")[2].replace("/", "-").replace(":", "-")
    if not chosen or not all(c.isalnum() or c in "-_." for c in chosen) or chosen.startswith("."):
        raise UsageError(f"--name {chosen!r}: use letters, digits, '-', '_' and '.'")
    return chosen


def _command(data: str, model: str, name: str, seed: int, recipe: Mapping[str, Any], pretrained: bool) -> str:
    parts = [f"w2s-fast weak --data {data} --model {model} --name {name} --seeds {seed}-{seed}"]
    parts += [f"--{key.replace('_', '-')} {value}" for key, value in recipe.items() if value is not None]
    return " ".join(parts + ([] if pretrained or model == "drawn:cnn" else ["--random-weights"]))


def _last(curves: Mapping[str, Sequence[float]], name: str) -> float | None:
    return float(curves[name][-1]) if curves.get(name) else None


def _steps(on_progress: OnProgress, label: str) -> Callable[[int, int, float], None]:
    return lambda done, total, _: on_progress(label, done, total)
