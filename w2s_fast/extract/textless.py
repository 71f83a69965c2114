"""What is known to have no text: so that an encoder is not loaded again only to find its words missing once more."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from w2s_fast.core.hashing import digest_json
from w2s_fast.core.version import CODE
from w2s_fast.store.files import read_regular
from w2s_fast.store.watched import change, watched, whole

FOLDER = "textless"
MAX_NOTE = 1 << 16


def remember(cache: Path, asked: Sequence[Any], reason: str, weights: Sequence[str | Path]) -> None:
    """Note why `asked` (model, prompts, options: JSON) has no text; a cache that cannot be written only costs time."""
    with suppress(OSError, TypeError, ValueError):
        path = _file(cache, asked)
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {"code": CODE, "reason": reason, "weights": [list(watched(w)) for w in weights]}
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(note), encoding="utf-8")
        fresh.replace(path)


def recall(cache: Path, asked: Sequence[Any]) -> str | None:
    """The reason noted by this version of the package, if the weight files are those of then; else None."""
    try:
        note = json.loads(read_regular(_file(cache, asked), limit=MAX_NOTE))
        same = note["code"] == CODE and all(whole(w) and change(tuple(w)) is None for w in note["weights"])
        return str(note["reason"]) if same else None
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def _file(cache: Path, asked: Sequence[Any]) -> Path:
    return cache / FOLDER / f"{digest_json(list(asked))}.json"
