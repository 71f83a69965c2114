"""References: from (model, data, options) to a key and the files that it was made of, without loading a model."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from w2s_fast.core.errors import CacheError, Damaged, NewerFormat
from w2s_fast.core.paths import cache_root, mirrored
from w2s_fast.store import files, layout, mirror
from w2s_fast.store.keys import plain
from w2s_fast.store.records import Bad, Fields, seal, unseal
from w2s_fast.store.watched import Watched, change, entry_of, watched


@dataclass(frozen=True, kw_only=True)
class Ref:
    """What one extraction was asked for, and the bank that answers it."""

    model: str
    data: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    key: str
    rows_digest: str
    weights: tuple[Watched, ...] = ()
    """Every local file that the model was made of: weights, configuration, tokenizer (`watched.py`)."""


def write_ref(
    cache: str | Path | None,
    *,
    model: str,
    data: str,
    options: Mapping[str, Any] | None = None,
    key: str,
    rows_digest: str,
    weights: Sequence[str | Path] = (),
) -> Ref:
    """Point (model, data, options) to a bank, replacing an older reference; CacheError if one of `weights` is missing.

    `weights` are all local files that enter the key; a folder among them is watched for what is added or removed. A
    cache that may not be written (another's, on a file system mounted so) keeps no reference: the bank is found by its
    key, and the next to ask looks for it again.
    """
    chosen = cast("dict[str, Any]", plain(dict(options or {}), "options"))
    path = layout.ref_file(cache, model, data, chosen)
    ref: Ref | None = None
    try:
        seen = tuple(watched(w) for w in weights)
        ref = Ref(model=model, data=data, options=chosen, key=key, rows_digest=rows_digest, weights=seen)
        files.make_dirs(path.parent)
        if path.is_dir() and not path.is_symlink():  # no file can take its place
            files.rename(path, path.with_name(f"{layout.TMP}{files.nonce()}-{path.name}"))
        files.put(path, _to_bytes(ref))
        mirror.push_file(path, cache_root(cache), replace=True)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and ref is not None:
            return ref
        raise CacheError(
            f"the reference of {model} on {data} cannot be written: {error.filename or path}: "
            f"{error.strerror or error}; free space or permit writing, and run the same command again"
        ) from error
    return ref


def read_ref(
    cache: str | Path | None, *, model: str, data: str, options: Mapping[str, Any] | None = None
) -> Ref | None:
    """The reference, None if there is none; Damaged (with the extract command) if it is not what was written."""
    chosen = cast("dict[str, Any]", plain(dict(options or {}), "options"))
    path = layout.ref_file(cache, model, data, chosen)
    command = extract_command(model, data, chosen, cache=cache)
    # a reference of this machine is kept: where weight files lie is a matter of the machine
    mirror.pull_file(path, cache_root(cache))
    try:
        ref = _from_bytes(files.read_regular(path, limit=layout.MAX_RECORD))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise CacheError(f"{path} may not be read; give yourself read permission") from None
    except NewerFormat as newer:
        raise NewerFormat(f"{path}: {newer}") from None
    except (Bad, OSError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Damaged(f"{path}: {why}; rewrite it with: {command}") from None
    if (ref.model, ref.data, ref.options) != (model, data, chosen):
        raise Damaged(f"{path}: it is the reference of another extraction; rewrite it with: {command}")
    return ref


def stale_weights(ref: Ref) -> str | None:
    """What became, in words, of the first file that no longer holds what it held when the reference was written."""
    return next((what for entry in ref.weights if (what := change(entry)) is not None), None)


def list_refs(cache: str | Path | None = None) -> Iterator[Ref]:
    """All sound references of a cache, in the order of their file names."""
    return (ref for ref, _ in ref_files(layout.refs_dir(cache)))


def ref_files(folder: Path) -> Iterator[tuple[Ref, Path]]:
    """All sound references of a folder with their files, in the order of their names."""
    for path in sorted(folder.glob("[0-9a-f]*.json")):
        try:
            yield _from_bytes(files.read_regular(path, limit=layout.MAX_RECORD)), path
        except (Bad, OSError, NewerFormat):
            continue


def parse_ref(data: bytes) -> Ref | None:
    """A reference from its bytes, None unless they are sound."""
    try:
        return _from_bytes(data)
    except (Bad, NewerFormat):
        return None


def ref_of_key(cache: str | Path | None, key: str) -> Ref | None:
    """A reference that names this bank, for messages."""
    return next((ref for ref in list_refs(cache) if ref.key == key), None)


def extract_command(
    model: str, data: str, options: Mapping[str, Any] | None = None, *, cache: str | Path | None = None
) -> str:
    """The command that makes the bank of (model, data, options), ready to paste; options become flags of their name."""
    words = ["w2s-fast", "extract", "--data", data, "--model", model]
    for name, value in sorted((options or {}).items()):
        flag = "--" + name.replace("_", "-")
        values: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        for v in values:
            if v is True:
                words.append(flag)
            elif v is not None and v is not False:
                words += [flag, str(v)]
    return on_cache(cache) + shlex.join(words)


def on_cache(cache: str | Path | None) -> str:
    """What a command must begin with to work on this cache folder: nothing, for the default one."""
    root = cache_root(cache)
    return "" if root == cache_root() else f"W2S_FAST_CACHE={shlex.quote(mirrored(root) or str(root))} "


def _to_bytes(ref: Ref) -> bytes:
    return seal(
        {
            "format": layout.FORMAT,
            "kind": "ref",
            "model": ref.model,
            "data": ref.data,
            "options": ref.options,
            "key": ref.key,
            "rows_digest": ref.rows_digest,
            "weights": [list(w) for w in ref.weights],
        }
    )


def _from_bytes(data: bytes) -> Ref:
    r = Fields(unseal(data), kind="ref")
    return Ref(
        model=r.text("model"),
        data=r.text("data"),
        options=r.mapping("options"),
        key=r.digest("key"),
        rows_digest=r.text("rows_digest"),
        weights=tuple(entry_of(entry) for entry in r.listing("weights")),
    )
