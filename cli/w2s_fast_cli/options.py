"""Options that several commands share, with one name, one meaning and one help text each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

DATA = typer.Option("--data", help="Data set: imagefolder:DIR, list:FILE, drawn:DOMAIN; globs; may repeat.")
Data = Annotated[list[str] | None, DATA]
Root = Annotated[Path | None, typer.Option(help="Folder that the lines of a list: are relative to.")]
Identity = Annotated[str, typer.Option(help="Row ids from the images' bytes (content) or path and size (path).")]
ClassNames = Annotated[Path | None, typer.Option(help="Class names for prompts, one a line in label order.")]
Cache = Annotated[
    Path | None, typer.Option(help="Cache folder or s3://... (default: $W2S_FAST_CACHE or ~/.cache/w2s_fast).")
]
Json = Annotated[bool, typer.Option("--json", help="Data alone on stdout, as JSON; progress on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Strong = Annotated[
    list[str] | None,
    typer.Option(help="Strong encoder, e.g. open_clip:ViT-B-32/openai; several at once (default: drawn:clip)."),
]
Weak = Annotated[
    list[str] | None, typer.Option(help="Weak supervisor, e.g. weak:NAME; several at once (default: drawn:cnn).")
]
Teachers = Annotated[
    list[str] | None, typer.Option(help="More weak models, for supervisions that read several, e.g. weak:r34 weak:r50.")
]
Pool = Annotated[bool, typer.Option("--pool", help="Join all data sets into one task, with their domains as groups.")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Take an untrained network, knowingly.")]
AllowMismatch = Annotated[bool, typer.Option("--allow-mismatch", help="Accept weights that do not fit the model.")]


class ComputeIn(StrEnum):
    """Compute dtypes."""

    fp32 = "fp32"
    bf16 = "bf16"


class StoredIn(StrEnum):
    """Dtypes on disk."""

    f16 = "f16"
    f32 = "f32"


Compute = Annotated[ComputeIn, typer.Option(help="fp32, or bf16 autocast; enters the cache key.")]
Stored = Annotated[StoredIn, typer.Option(help="Stored as f16 or f32; enters the cache key.")]
BatchSize = Annotated[int, typer.Option(help="Images per forward pass.")]
Workers = Annotated[int | None, typer.Option(help="Decoding processes (default: by cores and device).")]
Template = Annotated[list[str] | None, typer.Option(help="Prompt with {} for the class name; may repeat.")]


MANY = (
    "--method", "--loss", "--head", "--data", "--model", "--weak", "--strong", "--teachers", "--supervision",
    "--template", "--set", "--systems", "--columns", "--what", "--item", "--space",
)  # fmt: skip
"""Options that take several values after one flag: `--method cpl kd+lp` is `--method cpl --method kd+lp`."""


def spread(args: list[str]) -> list[str]:
    """Repeat a flag of `MANY` before each of the values that follow it."""
    out: list[str] = []
    flag, seen = "", False
    for arg in args:
        if arg.startswith("-"):
            flag, seen = (arg, False) if arg in MANY else ("", False)
            out.append(arg)
        elif flag and seen:
            out += [flag, arg]
        else:
            out.append(arg)
            seen = bool(flag)
    return out


def settings(assignments: list[str] | None) -> dict[str, Any]:
    """`--set key=value` as a dictionary of Python literals; a bare word is a string."""
    import ast

    from w2s_fast.core.errors import UsageError

    found: dict[str, Any] = {}
    for text in assignments or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text!r}: write --set key=value")
        try:
            found[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key.strip()] = value
    return found


def seed_list(text: str) -> list[int]:
    """`5` as the seeds 0..4, `100-104` as those five; a count below 1, or a range that runs backwards, is refused."""
    from w2s_fast.core.errors import UsageError

    first, dash, last = text.partition("-")
    try:
        seeds = list(range(int(first), int(last) + 1)) if dash else list(range(int(text)))
    except ValueError:
        raise UsageError(f"--seeds {text!r}: give a count (5) or a range (100-104)") from None
    if not seeds:
        raise UsageError(f"--seeds {text!r} names no seed: give a count from 1 (5) or a rising range (100-104)")
    return seeds


def check_selection(name: str) -> None:
    """Refuse an unknown selection."""
    from w2s_fast.core.errors import UsageError, nearest
    from w2s_fast.results.results import CRITERION

    if name not in CRITERION:
        raise UsageError(f"unknown selection {name!r}{nearest(name, CRITERION)}")


@contextmanager
def writing(path: Path, flag: str) -> Iterator[None]:
    """What goes wrong on disk inside is a `UsageError` that names the option and the path."""
    from w2s_fast.core.errors import UsageError

    try:
        yield
    except OSError as error:
        raise UsageError(f"{flag}: cannot write {path}: {error.strerror or error}") from error


def check_file(path: Path, flag: str) -> None:
    """Make the parent folder of a file to be appended to, and refuse a path that cannot be written."""
    with writing(path, flag):
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("ab"):
            pass
        if not there:
            path.unlink()


def check_folder(path: Path, flag: str) -> None:
    """Make a folder, and refuse one that cannot be written into."""
    with writing(path, flag):
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
