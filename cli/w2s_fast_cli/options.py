"""Options that several commands share, with one name, one meaning and one help text each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

Cache = Annotated[
    Path | None, typer.Option(help="Cache folder or s3://... (default: $W2S_FAST_CACHE or ~/.cache/w2s_fast).")
]
Json = Annotated[bool, typer.Option("--json", help="Data alone on stdout, as JSON; progress on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no remarks.")]
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
