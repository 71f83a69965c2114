"""Some rows of a bank encoded once more, to compare with what it holds: the check that no checksum can make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.device import pick_device
from w2s_fast.backbones.text import text_features, text_tower
from w2s_fast.core.errors import DataError, ModelError, UsageError
from w2s_fast.core.paths import cache_root
from w2s_fast.data import canonical, open_manifest
from w2s_fast.extract.images import batches
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.plan import plan
from w2s_fast.extract.worker import encode
from w2s_fast.store.bank import Bank, rows_of
from w2s_fast.store.listing import why
from w2s_fast.store.refs import ref_of_key


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """How far `rows` sampled rows, encoded now, are from what the bank holds of them.

    `max_delta` is the largest |difference| of a feature, `scale` the root mean square of the features beside it;
    `min_cosine` and `mean_cosine` are over rows; `logits_max_delta` is None without logits.
    """

    rows: int
    max_delta: float
    scale: float
    min_cosine: float
    mean_cosine: float
    logits_max_delta: float | None


def recompute(
    bank: Bank,
    count: int,
    *,
    data: str | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    cache: str | Path | None = None,
) -> Recomputed:
    """Encode `count` rows of a bank again, drawn evenly with `seed` among those that are ok, and compare.

    Model and data are those of the bank's reference; `data` and `root` say where the images are now, if elsewhere.
    Raises `UsageError` when model or data are unknown, `ModelError` or `DataError` when they are not those of the
    bank's key any more, `IdMismatch` when an image is not among the data.
    """
    if count < 1:
        raise UsageError(f"--recompute {count}: give the number of rows, at least 1")
    ref = ref_of_key(cache, bank.key)
    if ref is None:
        raise UsageError(
            f"no reference names bank {bank.key[:12]}, so its model is not known; run its extract command again, "
            "which finds it complete and writes the reference"
        )
    good = np.flatnonzero(bank.ok)
    rows = np.sort(np.random.default_rng(seed).choice(good, min(count, len(good)), replace=False))
    if bank.ingredients.get("kind") == "text":
        features, logits = _encoded_text(ref.model, bank, rows, cache=cache), None
    else:
        features, logits = _encoded_images(
            ref.model, bank, rows, data=data or ref.data, root=root, batch_size=batch_size, device=device, cache=cache
        )
    return _compared(bank, rows, features, logits)


def _encoded_images(
    model: str,
    bank: Bank,
    rows: NDArray[np.int64],
    *,
    data: str,
    root: str | Path | None,
    batch_size: int,
    device: str,
    cache: str | Path | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    known = bank.ingredients["options"]
    options = ExtractOptions(**known, batch_size=batch_size, workers=0)
    identity = bank.ingredients["decode"].get("identity", "content")
    name = canonical(data)
    manifest = open_manifest(name, root=root, identity=identity, cache=cache_root(cache))
    there = rows_of(manifest.ids, [bank.ids[r] for r in rows])
    chosen = pick_device(device)
    (job,) = plan(manifest, [model], data=name, options=options, cache=cache_root(cache), device=chosen)
    changed = [path for path in why(bank, job.ingredients) if path != "rows"]
    if changed:
        raise ModelError(f"{model} is not what made bank {bank.key[:12]} any more: {', '.join(changed)} changed")
    found: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    for batch in batches(manifest, there.tolist(), [job.encoder], batch_size=batch_size, workers=0):
        if batch.reasons:
            reason = next(iter(batch.reasons.values()))
            raise DataError(f"an image that bank {bank.key[:12]} has can be read no more: {reason}; put it back")
        found.append(encode(job.encoder, batch.input_of(0), device=chosen, options=options)[:2])
    logits = [second for _, second in found if second is not None]
    return torch.cat([first for first, _ in found]).numpy(), torch.cat(logits).numpy() if logits else None


def _encoded_text(model: str, bank: Bank, rows: NDArray[np.int64], *, cache: str | Path | None) -> NDArray[np.float32]:
    known = bank.ingredients
    encoder = open_encoder(
        model,
        cache=cache_root(cache),
        random_weights=known["options"]["random_weights"],
        allow_mismatch=known["options"]["allow_mismatch"],
    )
    if encoder.weights_digest != known["weights"]:
        raise ModelError(f"{model} is not what made bank {bank.key[:12]} any more: its weights changed")
    tower = text_tower(encoder, model)
    return np.asarray(text_features(tower, known["classes"], known["templates"]), np.float32)[rows]


def _compared(
    bank: Bank, rows: NDArray[np.int64], features: NDArray[np.float32], logits: NDArray[np.float32] | None
) -> Recomputed:
    held = bank.take("features", rows).astype(np.float64)
    now = features.astype(np.float64)
    lengths = np.linalg.norm(held, axis=1) * np.linalg.norm(now, axis=1)
    same = (held == now).all(axis=1).astype(np.float64)  # what has no direction is like itself alone
    cosines = np.divide((held * now).sum(1), lengths, out=same, where=lengths > 0)
    delta = None
    if logits is not None:
        delta = float(np.abs(bank.take("logits", rows).astype(np.float64) - logits).max())
    return Recomputed(
        rows=len(rows),
        max_delta=float(np.abs(held - now).max()),
        scale=float(np.sqrt((held**2).mean())),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        logits_max_delta=delta,
    )
