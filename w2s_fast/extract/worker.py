"""Run frozen encoders over a manifest once, part by part, and commit what they give."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.backbones.device import pick_device, threads
from w2s_fast.core import processor
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.paths import cache_root
from w2s_fast.core.protocols import Encoder
from w2s_fast.core.shares import ALL, Share
from w2s_fast.data.manifest import Manifest
from w2s_fast.extract.images import batches
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.extract.plan import Job, plan
from w2s_fast.store.files import read_regular
from w2s_fast.store.layout import MAX_RECORD, commit_file, count_parts, row_range
from w2s_fast.store.records import Bad, Commit, Failure
from w2s_fast.store.refs import on_cache, write_ref
from w2s_fast.store.write import begin_bank, complete_bank, missing_parts, write_part

CPU_VALUES = 16 * 3 * 224 * 224
"""Values that the CPU is given at a time: with 16 images of 224 px the activations of a convolution stay below what
malloc keeps (`backbones.device.LARGEST`), and in the processor's caches."""
OnProgress = Callable[[str, int, int], None]
"""Called with a label, the images done and the images to do."""


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What became of one model over one manifest: rows, parts made now, unreadable images, the bank's digest.

    missing: parts that are left to others; then there is no digest yet.
    """

    model: str
    data: str
    key: str
    rows: int
    made_parts: int
    failures: int
    digest: str | None
    images_per_second: float | None
    missing: int = 0


def extract(
    manifest: Manifest,
    models: Sequence[str],
    *,
    data: str,
    options: ExtractOptions | None = None,
    cache: str | Path | None = None,
    share: Share = ALL,
    on_progress: OnProgress | None = None,
) -> list[Extracted]:
    """Fill the banks of `models` over `manifest`; parts already committed are kept, so an interrupted run resumes.

    share: only parts of these numbers are made here; who finds that none is missing completes the bank.
    Every image is decoded once for all models that lack its part. Raises `DataError` when no image is readable, more
    than `options.max_failures` are not, or a file is gone, locked or changed: then its part is not written.
    """
    options = (options or ExtractOptions()).checked()
    root = cache_root(cache)
    device = pick_device(options.device)
    jobs = plan(manifest, list(models), data=data, options=options, cache=root, device=device)
    directories = [begin_bank(root, job.ingredients) for job in jobs]
    rows = len(manifest.ids)
    lacking = [set(missing_parts(directory, rows)) for directory in directories]
    lacking = [{part for part in parts if part in share} for parts in lacking]
    todo = sorted(set().union(*lacking))
    if todo and options.compute == "bf16" and device == "cpu" and not processor.has_bf16():
        # the key says bf16, so that fp32 in its place would be another bank
        raise UsageError(f"--compute bf16 on the CPU: {processor.NO_BF16}; use --compute fp32, or --device cuda")
    total, done, failures, started = sum(len(range(*row_range(p, rows))) for p in todo), 0, 0, time.perf_counter()
    for part in todo:
        wanted = [m for m in range(len(jobs)) if part in lacking[m]]
        span = range(*row_range(part, rows))
        tables = _Tables(span)
        workers = options.decoders(len(span), device)
        used = min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) - workers))
        stream = batches(
            manifest, span, [jobs[m].encoder for m in wanted], batch_size=options.batch_size, workers=workers
        )
        for batch in stream:
            failures += len(batch.reasons)
            if options.max_failures is not None and failures > options.max_failures:
                raise DataError(
                    f"{data}: {failures} unreadable images, more than --max-failures {options.max_failures}; "
                    f"the last: {next(reversed(batch.reasons.values()))}"
                )
            for place, m in enumerate(wanted):
                with threads(used):
                    encoded = encode(jobs[m].encoder, batch.input_of(place), device=device, options=options)
                tables.add(m, batch.rows, *encoded)
            tables.fail(batch.reasons)
            done += len(batch.rows)
            if on_progress is not None:
                on_progress(data, done, total)
        for m in wanted:
            producer = provenance(jobs[m], options, device, shrunk=m in tables.shrunk, threads=used)
            _commit(directories[m], part, m, manifest, tables, options, producer)
    seconds = time.perf_counter() - started
    return [
        _finish(job, directory, manifest, options, root, len(made), done / seconds if done else None)
        for job, directory, made in zip(jobs, directories, lacking, strict=True)
    ]


class _Tables:
    """The arrays of one part, per model, in the order of its rows."""

    def __init__(self, span: range) -> None:
        self.count, self.first = len(span), span.start
        self.features: dict[int, NDArray[np.float32]] = {}
        self.logits: dict[int, NDArray[np.float32]] = {}
        self.ok = np.ones(len(span), bool)
        self.reasons: dict[int, str] = {}
        self.shrunk: set[int] = set()

    def add(self, m: int, rows: list[int], features: Tensor, logits: Tensor | None, shrunk: bool) -> None:
        at = slice(rows[0] - self.first, rows[-1] - self.first + 1)
        self.features.setdefault(m, np.zeros((self.count, features.shape[1]), np.float32))[at] = features.numpy()
        if logits is not None:
            self.logits.setdefault(m, np.zeros((self.count, logits.shape[1]), np.float32))[at] = logits.numpy()
        if shrunk:
            self.shrunk.add(m)

    def fail(self, reasons: dict[int, str]) -> None:
        self.reasons.update(reasons)
        for row in reasons:
            self.ok[row - self.first] = False


def encode(encoder: Encoder, x: Tensor, *, device: str, options: ExtractOptions) -> tuple[Tensor, Tensor | None, bool]:
    """f[b, 3, h, w] -> features f32[b, d], logits f32[b, k] or None on the CPU, and whether memory forced halves."""
    if device == "cpu" and len(x) > (step := max(1, CPU_VALUES // x[0].numel())):
        return _joined(encode(encoder, part, device=device, options=options) for part in x.split(step))
    try:
        with torch.inference_mode(), _precision(device, options):
            # channels last: convolutions ran 1.2 to 1.9 times faster so, on one core
            features, logits = encoder.encode(x.to(device, memory_format=torch.channels_last))
        return features.float().cpu(), None if logits is None else logits.float().cpu(), False
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
        torch.cuda.empty_cache()
    features, logits, _ = _joined(encode(encoder, h, device=device, options=options) for h in x.chunk(2))
    return features, logits, True


def _joined(parts: Iterable[tuple[Tensor, Tensor | None, bool]]) -> tuple[Tensor, Tensor | None, bool]:
    features, logits, shrunk = zip(*parts, strict=True)
    there = [one for one in logits if one is not None]
    return torch.cat(features), torch.cat(there) if there else None, any(shrunk)


@contextlib.contextmanager
def _precision(device: str, options: ExtractOptions) -> Iterator[None]:
    kind = device.partition(":")[0]
    before = torch.get_float32_matmul_precision() if kind == "cuda" else None
    if before is not None:
        torch.set_float32_matmul_precision("high" if options.tf32 else "highest")
    try:
        with torch.autocast(kind, torch.bfloat16, enabled=options.compute == "bf16"):
            yield
    finally:
        if before is not None:
            torch.set_float32_matmul_precision(before)


def _commit(
    directory: Path,
    part: int,
    m: int,
    manifest: Manifest,
    tables: _Tables,
    options: ExtractOptions,
    producer: dict[str, Any],
) -> None:
    features, logits = tables.features[m], tables.logits.get(m)
    span = slice(tables.first, tables.first + tables.count)
    write_part(
        directory,
        part,
        ids=manifest.ids[span],
        features=features,
        logits=logits,
        norms=np.linalg.norm(features, axis=1).astype(np.float32),
        ok=tables.ok,
        failures=[{"id": manifest.ids[r], "row": r, "reason": why} for r, why in sorted(tables.reasons.items())],
        stored=options.stored,
        producer=producer,
    )


def provenance(job: Job, options: ExtractOptions, device: str, *, shrunk: bool, threads: int) -> dict[str, Any]:
    """What made a part, recorded and never in the key."""
    return {
        "model": job.model,
        "data": job.data,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "batch_size": options.batch_size,
        "shrunk": shrunk,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def committed_failures(directory: Path, rows: int) -> list[Failure]:
    """The failure records of all parts that are committed, by row; a damaged commit is left to `complete_bank`."""
    found: list[Failure] = []
    for part in range(count_parts(rows)):
        with contextlib.suppress(Bad, OSError):
            found += Commit.from_bytes(read_regular(commit_file(directory, part), limit=MAX_RECORD)).failures
    return found


def how_to_fix(manifest: Manifest, directories: Sequence[Path]) -> str:
    """What to do about images that were unreadable when the banks in `directories` were made."""
    if manifest.decode.get("identity") != "path":
        return "repair them and extract again"
    # ids that are not of the contents: the banks cannot see that an image was repaired
    commands = (f"`{on_cache(d.parents[2])}w2s-fast cache repair --failed {d.name}`" for d in directories)
    return f"repair them, run {' and '.join(commands)}, and extract again"


def _finish(
    job: Job,
    directory: Path,
    manifest: Manifest,
    options: ExtractOptions,
    root: Path,
    made: int,
    images_per_second: float | None,
) -> Extracted:
    rows = len(manifest.ids)
    failures = committed_failures(directory, rows)
    missing = len(missing_parts(directory, rows))
    if len(failures) == rows:
        again = how_to_fix(manifest, [directory])
        raise DataError(
            f"{job.data}: none of its {rows} images can be read; the first: {failures[0]['reason']}; {again}"
        )
    digest = None if missing else complete_bank(directory, rows=rows, rows_digest=manifest.rows_digest)
    if digest is not None:
        write_ref(
            root,
            model=job.model,
            data=job.data,
            options=options.in_key(),
            key=job.key,
            rows_digest=manifest.rows_digest,
            weights=job.encoder.weight_files,
        )
    return Extracted(
        model=job.model,
        data=job.data,
        key=job.key,
        rows=rows,
        made_parts=made,
        failures=len(failures),
        digest=digest,
        images_per_second=images_per_second,
        missing=missing,
    )
