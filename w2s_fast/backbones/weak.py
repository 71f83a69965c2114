"""Checkpoints of trained supervisors: `weak:NAME[/SEED]`, one per data set and weak seed.

`<cache>/weak/<name>/<data>/seed-<s>/` holds `model.safetensors`, `card.json` (what it is, how it was made, and the
sha256 of the weights) and `d_train.npy` (the ids that it was trained on); a folder is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import load_strictly, read_state
from w2s_fast.backbones.students import encoder_of, new_module
from w2s_fast.core.classes import class_name
from w2s_fast.core.errors import CacheError, Damaged, ModelError, NewerFormat, UsageError, nearest
from w2s_fast.core.hashing import canonical_json, digest_ids
from w2s_fast.core.paths import cache_root

FORMAT = 1
WEIGHTS, CARD, IDS = "model.safetensors", "card.json", "d_train.npy"
REQUIRED = ("arch", "classes", "data", "seed", "recipe", "command", "preprocess", "acc")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, kw_only=True)
class Supervisor:
    """One checkpoint on disk."""

    name: str
    data: str
    seed: int
    directory: Path
    card: dict[str, Any]


def supervisor_dir(name: str, data: str, seed: int, cache: str | Path | None = None) -> Path:
    """Where the supervisor `weak:NAME/SEED` of a data set lies."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a supervisor; use letters, digits and . _ + - only")
    if seed < 0:
        raise UsageError(f"the weak seed {seed} is negative; weak seeds start at 0")
    return _data_dir(name, data, cache) / f"seed-{seed}"


def save_supervisor(
    directory: str | Path, module: nn.Module, card: Mapping[str, Any], d_train_ids: Sequence[str]
) -> None:
    """Write a trained module, its card and the ids of its D_train; an older checkpoint there is replaced as a whole.

    The card needs `REQUIRED`; `format`, `d_train_digest` (over the sorted ids) and `sha256` (of the weights) are added.
    """
    from safetensors.torch import save_file

    if lacking := [k for k in REQUIRED if k not in card]:
        raise UsageError(f"the card of a supervisor lacks {', '.join(lacking)}")
    target = Path(directory)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    ids = sorted(d_train_ids)
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        # clone(): tied weights share storage, which safetensors refuses.
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}, fresh / WEIGHTS)
        np.save(fresh / IDS, np.array([i.encode() for i in ids]), allow_pickle=False)
        added = {"format": FORMAT, "d_train_digest": digest_ids(ids), "sha256": _sha256(fresh / WEIGHTS)}
        text = json.dumps(json.loads(canonical_json({**card, **added})), indent=1)
        (fresh / CARD).write_text(text + "\n", encoding="utf-8")
        for file in fresh.iterdir():
            _sync(file)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CacheError(f"the supervisor cannot be written to {target} ({error.strerror or error})") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def read_card(directory: str | Path) -> dict[str, Any]:
    """The card of a supervisor, checked; `ModelError` if there is none."""
    path = Path(directory) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        complete = all(k in card for k in (*REQUIRED, "format", "d_train_digest", "sha256"))
    except FileNotFoundError:
        raise ModelError(f"no supervisor in {directory}; make one with: w2s-fast weak") from None
    except (OSError, ValueError, TypeError):
        raise Damaged(f"{path} cannot be read; make the supervisor again with: w2s-fast weak") from None
    if complete and card["format"] > FORMAT:
        raise NewerFormat(f"{path} has format {card['format']}, and this version reads {FORMAT}; update w2s-fast")
    if not complete:
        raise Damaged(f"{path} lacks fields; make the supervisor again with: w2s-fast weak")
    return card


def d_train_ids(directory: str | Path) -> tuple[str, ...]:
    """The sorted ids that a supervisor was trained on, checked against its card's digest."""
    path = Path(directory) / IDS
    try:
        ids = tuple(i.decode() for i in np.load(path, allow_pickle=False).tolist())
    except (OSError, EOFError, ValueError, AttributeError):
        raise Damaged(f"{path} cannot be read; make the supervisor again with: w2s-fast weak") from None
    if digest_ids(ids) != read_card(directory)["d_train_digest"]:
        raise Damaged(f"{path} does not have the digest in {CARD}; make the supervisor again with: w2s-fast weak")
    return ids


def load_supervisor(
    directory: str | Path, *, name: str | None = None, device: str = "cpu", card: Mapping[str, Any] | None = None
) -> FrozenEncoder:
    """The encoder of a checkpoint, verified by its card: penultimate features, logits, and `classes`."""
    folder = Path(directory)
    card = dict(card or read_card(folder))
    path = folder / WEIGHTS
    if not path.is_file() or _sha256(path) != card["sha256"]:
        raise Damaged(f"{path} is not the file that {CARD} records; make it again with: {card['command']}")
    return of_state(read_state(path), card, path, name=name or f"weak:{folder.name}", device=device)


def of_state(
    state: dict[str, Tensor], card: dict[str, Any], path: Path, *, name: str, device: str = "cpu"
) -> FrozenEncoder:
    """The encoder of a supervisor's weights (any float dtype; computed in float32) and its card."""
    classes = tuple(str(c) for c in card["classes"])
    module, _, _ = new_module(card["arch"], len(classes), seed=0, pretrained=False)
    load_strictly(module, state, model=name)
    return encoder_of(
        module,
        card["arch"],
        name=name,
        preprocess=card["preprocess"],
        device=device,
        classes=classes,
        card=card,
        files=(path, *(p for p in (path.parent / CARD,) if p.is_file())),
    )


def list_supervisors(cache: str | Path | None = None, data: str | None = None) -> list[Supervisor]:
    """The supervisors in the cache (of one data set), sorted by name, data and seed; broken ones are left out."""
    out: list[Supervisor] = []
    for path in (cache_root(cache) / "weak").glob(f"*/*/seed-*/{CARD}"):
        try:
            card = read_card(path.parent)
        except (ModelError, CacheError):
            continue
        if data is None or card["data"] == data:
            name, seed = path.parent.parent.parent.name, int(card["seed"])
            out.append(Supervisor(name=name, data=card["data"], seed=seed, directory=path.parent, card=card))
    return sorted(out, key=lambda s: (s.name, s.data, s.seed))


def usable_supervisors(
    name: str, data: str, *, classes: Sequence[str], d_train: str, cache: str | Path | None = None
) -> dict[int, Supervisor]:
    """weak seed -> the supervisor NAME of a data set, or of the same data set under the name it had before a move.

    Moved means: the same classes in whatever order, and `d_train` (the digest over the sorted ids of D_train) is what
    it was trained on.
    """

    def moved(card: Mapping[str, Any]) -> bool:
        whole = card.get("d_train_whole", card["d_train_digest"])
        return {*map(class_name, card["classes"])} == {*classes} and d_train in (whole, card["d_train_digest"])

    named = [s for s in list_supervisors(cache) if s.name == name]
    found = {s.seed: s for s in named if s.data != data and moved(s.card)}
    found.update({s.seed: s for s in named if s.data == data})
    return dict(sorted(found.items()))


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open `weak:NAME/SEED` for the data set in the options; without a seed, the lowest there is."""
    if options.data is None:
        raise UsageError(f"{model} is a supervisor of one data set; give the data set with --data")
    there = [s for s in list_supervisors(options.cache, options.data) if s.name == model.name]
    if model.pretrained is None:
        seed = there[0].seed if there else 0
    elif model.pretrained.isdecimal():
        seed = int(model.pretrained)
    else:
        raise UsageError(f"{str(model)!r}: the weak seed {model.pretrained!r} is not a number; write weak:NAME/SEED")
    directory = supervisor_dir(model.name, options.data, seed, options.cache)
    if not (directory / CARD).exists():
        make = f"w2s-fast weak --data {options.data} --name {model.name} --seeds {seed + 1}"
        others = sorted({s.name for s in list_supervisors(options.cache, options.data)})
        hint = nearest(model.name, others) if others and model.name not in others else ""
        raise ModelError(f"no supervisor weak:{model.name}/{seed} for {options.data}; make it with: {make}{hint}")
    return load_supervisor(directory, name=str(model), device=options.device)


def _data_dir(name: str, data: str, cache: str | Path | None) -> Path:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", data).strip("-")[-48:]
    short = hashlib.sha256(data.encode()).hexdigest()[:8]
    return cache_root(cache) / "weak" / name / f"{slug}-{short}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


LIBRARY = Library(open=open_named, text=lambda model: False, supervises=lambda model: True)
