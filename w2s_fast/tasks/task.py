"""A task: one data set, one strong encoder's features, weak models' logits, joined by id."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.errors import DataError, UsageError, nearest
from w2s_fast.core.hashing import digest_bytes, number_repeats, row_id
from w2s_fast.core.protocols import TextTower
from w2s_fast.data.manifest import Manifest
from w2s_fast.data.splits import Split, split
from w2s_fast.train.stream import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Everything that fits need, as tensors over the N rows of one manifest, in its order.

    `features` f[N, d] raw, or a `Stream` of them; `weak_logits` weak seed -> raw f[N, k]; `text` raw f[k, d] or None
    (`text_note` says why); `tower` opens the strong encoder's text tower, for heads that learn through it;
    `logit_scale` multiplies cosines in the zero-shot softmax; `keys` names the banks; `paired` means that run seed s
    has supervisor s (as the embedded data have it), otherwise every seed meets every supervisor. `load_seconds` is what
    reading its banks took. `weak_models` weak seed -> name of that weak model; `more_teachers` name -> raw f[N, k] of
    weak models that teach beside them; `open_features` reads the raw features f[N, e] of any encoder by its name.
    """

    manifest: Manifest
    features: Tensor | Stream
    weak_logits: Mapping[int, Tensor]
    text: Tensor | None
    text_note: str | None = None
    logit_scale: float = 100.0
    data: str = "arrays"
    weak: str = "arrays"
    strong: str = "arrays"
    template: str | None = None
    paired: bool = False
    tower: Callable[[], TextTower] | None = None
    load_seconds: float = 0.0
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    weak_models: Mapping[int, str] = field(default_factory=dict[int, str])
    more_teachers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    open_features: Callable[[str], Tensor] | None = None

    @property
    def labels(self) -> Tensor:
        """i[N], -1 where unknown."""
        return torch.from_numpy(np.ascontiguousarray(self.manifest.labels))

    @property
    def ids(self) -> tuple[str, ...]:
        """N row ids."""
        return self.manifest.ids

    @property
    def classes(self) -> tuple[str, ...]:
        """k class names in label order."""
        return self.manifest.classes

    @property
    def width(self) -> int:
        """d of the features."""
        return self.features.d if isinstance(self.features, Stream) else self.features.shape[1]

    @property
    def domain(self) -> str:
        """The domain: the one group of the manifest, else the manifest's name."""
        groups = set(self.manifest.groups)
        return next(iter(groups)) if len(groups) == 1 and "" not in groups else self.manifest.name

    @property
    def teachers(self) -> dict[str, Tensor]:
        """name -> raw logits f[N, k] of every weak model: those of the weak seeds, then those that were added."""
        own = {self.weak_models.get(seed, f"weak/{seed}"): self.weak_logits[seed] for seed in sorted(self.weak_logits)}
        return {**own, **self.more_teachers}

    def splits(self, *, mode: str = "rotate", seed: int = 0) -> Split:
        """The rows that seed `seed` trains, validates and tests on (methods/README.md)."""
        return split(self.manifest, mode=mode, seed=seed)

    def pairs(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """(run seed, weak seed): paired by number (modulo the supervisors there are), or crossed."""
        known = sorted(self.weak_logits)
        if self.paired:
            return [(s, s if s in self.weak_logits else known[s % len(known)]) for s in seeds]
        return [(s, w) for w in known for s in seeds]

    @staticmethod
    def from_arrays(
        *,
        features: Any,
        weak_logits: Any = None,
        weak_probs: Any = None,
        labels: Any,
        text: Any = None,
        ids: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        logit_scale: float = 100.0,
        tower: TextTower | None = None,
        name: str = "arrays",
        d_train: Any = None,
        groups: Sequence[str] | None = None,
        teachers: Mapping[str, Any] | None = None,
        encoders: Mapping[str, Any] | None = None,
    ) -> Task:
        """A task from one's own arrays: features [N, d], weak logits [N, k] (or one such per weak seed), labels [N].

        `weak_probs` are probabilities in place of logits; exact zeros are fine.
        All rows are the pool: the weak model must have been trained on other data, or on the rows that `d_train`
        bool[N] marks, which students never see. `text` [k, d] are class-name
        features for zero-shot and text init; `tower` is the text tower of heads that learn through it (they read
        `classes`); `ids` are N distinct strings (default: the row's own bytes, hashed). `groups` are N domains.
        `teachers` name -> [N, k] logits of further weak models; `encoders` name -> [N, e] features of other encoders,
        such as the weak model's own ("weak/0", "weak/1", ... by weak seed). Arrays are anything numpy
        reads, or tensors. Raises `DataError` for shapes that do not fit, NaN, values that are not real numbers, text
        without a direction (all zero), and labels that are not whole numbers in range.
        """
        if (weak_logits is None) == (weak_probs is None):
            raise DataError("give weak_logits or weak_probs, one of the two: what the weak model says of each row")
        if weak_probs is not None:
            weak_logits = logits_of(weak_probs)
        check_scale(logit_scale)
        x, y = _float(features, "features"), _labels(labels)
        logits: Mapping[Any, Any] = weak_logits if isinstance(weak_logits, Mapping) else {0: weak_logits}
        if not logits:
            raise DataError("weak_logits is empty; give [N, k] logits, or a mapping from weak seed to such logits")
        for s in logits:
            if not isinstance(s, Integral) or isinstance(s, bool):
                raise DataError(f"weak_logits: the weak seed {s!r} is not an integer; number the weak models 0, 1, ...")
        weak = {int(s): _float(z, f"weak_logits of seed {s}") for s, z in logits.items()}
        for s, z in weak.items() if weak_probs is None else ():
            if bool((z >= 0).all()) and bool(((z.sum(1) - 1).abs() < 1e-3).all()):
                raise DataError(
                    f"weak_logits of seed {s}: every row is positive and sums to 1, as probabilities do; give them as "
                    "weak_probs="
                )
        k = next(iter(weak.values())).shape[1]
        names = tuple(classes) if classes is not None else tuple(str(c) for c in range(k))
        prompts = None if text is None else _float(text, "text")
        _check_shapes(x, weak, y, prompts, names)
        given = _hashed_rows(x) if ids is None else tuple(str(i) for i in ids)
        domains = ("",) * len(x) if groups is None else tuple(str(g) for g in groups)
        for what, texts in (("ids", given), ("groups", domains)):
            if len(texts) != len(x):
                raise DataError(f"{len(texts)} {what} for {len(x)} rows of features; give one a row")
        others = {str(n): _rows_of(z, f"teacher {n!r}", n=len(x)) for n, z in (teachers or {}).items()}
        _check_shapes(x, others, y, None, names)
        spaces = {str(n): _rows_of(z, f"encoder {n!r}", n=len(x)) for n, z in (encoders or {}).items()}
        manifest = Manifest(
            name=name,
            root=Path(),
            classes=names,
            labels=y.numpy(),
            ids=given,
            uris=given,
            splits=_marked(d_train, len(x)),
            groups=domains,
        )
        note = None if prompts is not None else "n/a: no text features were given"
        return Task(
            manifest=manifest,
            features=x,
            weak_logits=weak,
            text=prompts,
            text_note=note,
            logit_scale=logit_scale,
            tower=None if tower is None else lambda: tower,
            data=name,
            keys={
                "features": _digest(x),
                "weak": {seed: _digest(z) for seed, z in weak.items()},
                "text": None if prompts is None else _digest(prompts),
                "teachers": {n: _digest(z) for n, z in others.items()},
                "encoders": {n: _digest(z) for n, z in spaces.items()},
            },
            weak_models={seed: f"weak/{seed}" for seed in weak},
            more_teachers=others,
            open_features=partial(_space, spaces) if spaces else None,
        )


def check_scale(logit_scale: float) -> None:
    """A `DataError` for a multiplier of cosines that none can be, with the likely mistake."""
    if 1 <= logit_scale <= 1000 and abs(logit_scale - math.log(100)) > 0.01:
        return
    raise DataError(
        f"logit_scale={logit_scale}: it multiplies cosines, and lies between 1 and 1000 (100 for OpenAI's CLIP); "
        "of a learned logarithm give its exp"
    )


def logits_of(probs: Any) -> Any:
    """Logs of probabilities [N, k] (or of a mapping from weak seed to such), zeros as 1e-30; `DataError` otherwise."""
    if isinstance(probs, Mapping):
        return {seed: logits_of(one) for seed, one in probs.items()}
    p = _float(probs, "weak_probs")
    bad = ((p < 0).any(1) | ((p.double().sum(1) - 1).abs() > 1e-2)).nonzero()
    if len(bad):
        raise DataError(f"weak_probs: row {int(bad[0])} is not a distribution (negative, or not of sum 1)")
    return p.clamp_min(1e-30).log()


def _space(spaces: Mapping[str, Tensor], name: str) -> Tensor:
    """The features of an encoder that `from_arrays` was given."""
    if name not in spaces:
        raise UsageError(f"there is no encoder {name!r}{nearest(name, spaces)}; give Task.from_arrays(encoders=...)")
    return spaces[name]


def _rows_of(value: Any, what: str, *, n: int) -> Tensor:
    found = _float(value, what)
    if len(found) != n:
        raise DataError(f"{what} has {len(found)} rows, features {n}; they must match")
    return found


def _marked(d_train: Any, n: int) -> tuple[str, ...]:
    """The half of each row: `train` where D_train is marked, else the pool."""
    if d_train is None:
        return ("test",) * n
    marked = np.asarray(d_train)
    if marked.shape != (n,) or marked.dtype != np.bool_:
        raise DataError(f"d_train: {marked.dtype} of shape {list(marked.shape)}; give a bool for each of {n} rows")
    return tuple("train" if one else "test" for one in marked)


def _digest(values: Tensor) -> str:
    return digest_bytes(np.ascontiguousarray(values.numpy()).data.cast("B"))


def _array(value: Any, what: str, fix: str) -> np.ndarray:
    """Numbers as a numpy array of a boolean, integer or real type, from anything that holds them."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().resolve_conj().resolve_neg()
        value = value.float() if value.dtype == torch.bfloat16 else value
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what}: it is not an array ({error}); {fix}") from None
    if found.dtype.kind not in "biuf":
        raise DataError(f"{what}: its values are of type {found.dtype}, not real numbers; {fix}")
    return found


def _labels(value: Any) -> Tensor:
    fix = "number the classes from 0 (np.unique(labels, return_inverse=True)[1])"
    found = _array(value, "labels", fix)
    if found.dtype.kind == "f" and (odd := np.flatnonzero(found != np.floor(found))).size:
        raise DataError(f"labels: row {int(odd[0])} is {found.flat[odd[0]]}, not a whole number; {fix}")
    if found.size and not -(2**31) < found.min() <= found.max() < 2**31:
        raise DataError(f"labels go from {found.min()} to {found.max()}; {fix}")
    return torch.from_numpy(np.array(found, np.int64, order="C"))


def _float(value: Any, what: str) -> Tensor:
    found = _array(value, what, "give real numbers in two axes")
    with np.errstate(over="ignore"):  # what float32 cannot hold is told below, as infinity
        found = np.ascontiguousarray(found, np.float32)
    tensor = torch.from_numpy(found if found.flags.writeable else found.copy())
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise DataError(f"{what} has shape {list(tensor.shape)}; expected two axes, neither empty")
    bad = (~tensor.isfinite()).any(1).nonzero()
    if len(bad):
        raise DataError(f"{what}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows); drop or repair them")
    return tensor


def _check_shapes(
    x: Tensor, weak: Mapping[Any, Tensor], y: Tensor, text: Tensor | None, classes: tuple[str, ...]
) -> None:
    k = len(classes)
    for seed, z in weak.items():
        if len(z) != len(x):
            raise DataError(f"weak_logits of seed {seed} have {len(z)} rows, features {len(x)}; they must match")
        if z.shape[1] != k:
            raise DataError(f"weak_logits of seed {seed} have {z.shape[1]} classes, the task has {k}")
    if y.shape != (len(x),):
        raise DataError(f"labels have shape {list(y.shape)}, features have {len(x)} rows; give one label a row")
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= k):
        at = int(((y < 0) | (y >= k)).nonzero()[0])
        raise DataError(f"labels: row {at} is {int(y[at])}, outside 0..{k - 1}")
    if text is not None and text.shape != (k, x.shape[1]):
        raise DataError(f"text has shape {list(text.shape)}; expected [{k}, {x.shape[1]}] (classes, feature width)")
    if text is not None and len(zero := (text == 0).all(1).nonzero()):
        raise DataError(
            f"text: row {int(zero[0])} ({classes[int(zero[0])]!r}) is all zero, which is not a direction; "
            "give features of every class name, or leave text out"
        )


def _hashed_rows(x: Tensor) -> tuple[str, ...]:
    return number_repeats([row_id(r.tobytes()) for r in x.numpy()])


Say = Callable[[str], None]
"""Where a method tells what it does on the user's behalf: on stderr, else in the log `w2s_fast`."""
log: Say = logging.getLogger("w2s_fast").info
