"""Trained heads on disk: safetensors beside a JSON card; never a pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from w2s_fast.core.errors import Damaged, DataError, NewerFormat, UsageError
from w2s_fast.core.hashing import digest_bytes
from w2s_fast.core.protocols import Theta
from w2s_fast.core.specs import Spec
from w2s_fast.heads.head import Head

FORMAT = 1


def save_head(path: str | Path, head: Head | Spec | str, theta: Theta, card: Mapping[str, Any] | None = None) -> Path:
    """Write `theta` (one run, no lead) to `<path>.safetensors` and its card to `<path>.json`; returns the former.

    card: JSON values to keep with it, such as class names, features and accuracies.
    """
    from w2s_fast.heads import make

    made = make(head)
    return _write(path, theta, {"kind": "head", "head": str(made.spec()), "card": dict(card or {})})


def load_head(path: str | Path) -> tuple[Head, Theta, dict[str, Any]]:
    """The head, its parameters and its card; `Damaged` if the bytes are not those that were written."""
    from w2s_fast.heads import make

    tensors, about = _read(path, kind="head")
    return make(str(about["head"])), tensors, dict(about["card"])


def export_classifier(
    theta: Theta, head: Head, path: str | Path, *, names: Sequence[str] = (), card: Mapping[str, Any] | None = None
) -> Path:
    """Write `classifier` f[d, k], the matrix that open_clip's `build_zero_shot_classifier` returns, and its card.

    Columns are unit for cosine heads. For others x_scale is folded in, so that logits of unit features are
    `x @ classifier` (+ `bias` f[k], where the head has one). The card lists class names, tau_s and what was folded.
    """
    if type(head).features is not Head.features:
        raise UsageError(f"head {head.name!r} changes the features, so no single matrix stands for it; use save_head")
    w, b = head.weights(theta)
    if w.ndim != 2:
        raise UsageError(f"export takes one head, not a stack: weights have shape {tuple(w.shape)}")
    k, d = w.shape
    if names and len(names) != k:
        raise UsageError(f"{len(names)} class names for {k} classes; give one name per class, in order")
    w = w.detach()
    tensors = {"classifier": (w if head.unit_rows else w * head.x_scale).mT.contiguous()}
    if b is not None:
        tensors["bias"] = b.detach()
    about = {
        "kind": "classifier",
        "head": str(head.spec()),
        "classes": list(names),
        "shape": [d, k],
        "unit_columns": head.unit_rows,
        "unit_x": head.unit_x,
        "x_scale": head.x_scale,
        "x_scale_folded": not head.unit_rows,
        "tau_s": head.tau_s,
        "bias": b is not None,
        "card": dict(card or {}),
    }
    return _write(path, tensors, about)


def _paths(path: str | Path) -> tuple[Path, Path]:
    given = Path(path)
    stem = given.with_suffix("") if given.suffix in (".safetensors", ".json") else given
    return stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")


def _write(path: str | Path, tensors: Theta, about: dict[str, Any]) -> Path:
    from safetensors.torch import save

    weights, card = _paths(path)
    weights.parent.mkdir(parents=True, exist_ok=True)
    raw = save({name: p.detach().cpu().contiguous() for name, p in tensors.items()})
    about = {"format": FORMAT, **about, "sha256": digest_bytes(raw)}
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # the card last: a card is only ever seen beside the weights that it describes
    _replace(weights, raw)
    _replace(card, text.encode())
    return weights


def _replace(target: Path, data: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        part.write_bytes(data)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _read(path: str | Path, *, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    from safetensors.torch import load

    weights, card = _paths(path)
    for needed in (card, weights):
        if not needed.is_file():
            raise DataError(f"no file {needed}: a saved head is a .safetensors file and the .json card beside it")
    try:
        about = json.loads(card.read_text(encoding="utf-8"))
        version = int(about["format"])
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{card} is not the card of a saved head; save the head again") from None
    if version > FORMAT:
        raise NewerFormat(f"{card} has format {version} and this version reads up to {FORMAT}; upgrade w2s-fast")
    if about.get("kind") != kind:
        raise DataError(f"{card} describes a {about.get('kind')}, not a {kind}")
    raw = weights.read_bytes()
    if digest_bytes(raw) != about.get("sha256"):
        raise Damaged(f"{weights} is not the file that {card} describes; save the head again")
    return load(raw), about
