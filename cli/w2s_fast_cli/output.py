"""Where words go: data to stdout, everything else to stderr, progress as a bar or as a line every ten seconds."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from w2s_fast.results.summary import Table

DONE_IN_PART = 3
"""Exit status of a command that leaves something useful, though not all that was asked for."""
LINE_SECONDS = 10.0
FILE_WIDTH = 140
"""Characters per line of a table where stdout is not a terminal and $COLUMNS is not set."""


def speed(rate: float, unit: str) -> str:
    """So many units a second; a minute or an hour where that would be less than one."""
    per = next(((seconds, of) for seconds, of in ((1, "s"), (60, "min")) if rate * seconds >= 1), (3600, "h"))
    many = rate * per[0]
    return f"{many:,.0f} {unit}/{per[1]}" if many >= 10 else f"{many:.1f} {unit}/{per[1]}"


class Output:
    """One command's output. `json`: data alone on stdout. `quiet`: nothing but data and errors."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet

    def say(self, text: str) -> None:
        """A remark, on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def lines(self, records: Iterable[Mapping[str, Any]]) -> None:
        """One JSON line per record, on stdout."""
        from w2s_fast.core.rows import dump

        for record in records:
            print(dump(dict(record)), flush=True)

    def document(self, value: Any) -> None:
        """One JSON document, on stdout."""
        print(json.dumps(value, indent=1, ensure_ascii=False))

    def table(self, table: Table) -> None:
        """A result table, on stdout."""
        from w2s_fast_cli.tables import rendered

        console = _console(FILE_WIDTH)
        console.print(rendered(table, width=console.width))

    def grid(self, title: str, columns: list[str], rows: Iterable[Iterable[Any]]) -> None:
        """A plain listing, on stdout."""
        from rich.table import Table as RichTable
        from rich.text import Text

        heading = Text(title) if title else None
        table = RichTable(title=heading, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for column in columns:
            table.add_column(Text(column), overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
        _console(160).print(table)

    @contextmanager
    def stoppable(self, consequence: str | Callable[[], str]) -> Iterator[None]:
        """Ctrl-C and SIGTERM inside say what they leave behind and end with status 3, done in part.

        Processes that are forked inside (decoders) ignore Ctrl-C: they end with this one, and have nothing to say.
        """
        before = _fork_aware()
        try:
            yield
        except KeyboardInterrupt as error:
            # frees the loader that the frames hold, so that its processes end before their pipes do
            traceback.clear_frames(error.__traceback__)
            print(f"stopped: {consequence if isinstance(consequence, str) else consequence()}", file=sys.stderr)
            raise SystemExit(DONE_IN_PART) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def progress(self, unit: str) -> Iterator[Callable[[str, int, int], None]]:
        """A function (label, done, total) that shows progress on stderr with rate and time left."""
        if self.quiet:
            yield lambda label, done, total: None
        elif sys.stderr.isatty():
            with _bar(unit) as advance:
                yield advance
        else:
            yield _Lines(unit)


def _fork_aware() -> dict[signal.Signals, Any]:
    """Let Ctrl-C and SIGTERM interrupt this process alone; the handlers that were there (none off the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    own = os.getpid()

    def interrupt(number: int, frame: Any) -> None:
        if os.getpid() == own:
            raise KeyboardInterrupt
        if number == signal.SIGTERM:  # how the parent ends a process of its own
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    return {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}


def _console(width: int) -> Console:
    """A console on stdout: a terminal's own width, else $COLUMNS, else `width`."""
    from rich.console import Console

    console = Console(markup=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(markup=False, width=width)


@contextmanager
def _bar(unit: str) -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    started: dict[str, float] = {}
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def advance(label: str, done: int, total: int) -> None:
            if label not in tasks:
                started[label] = time.perf_counter()
                tasks[label] = progress.add_task(label, total=total, rate="")
            seconds = time.perf_counter() - started[label]
            rate = speed(done / seconds, unit) if seconds > 0.5 else ""
            progress.update(tasks[label], completed=done, total=total, rate=rate)

        yield advance


class _Lines:
    """Progress where there is no terminal: one line every ten seconds."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.started: dict[str, tuple[float, int]] = {}
        self.last = time.perf_counter()

    def __call__(self, label: str, done: int, total: int) -> None:
        now = time.perf_counter()
        since, at = self.started.setdefault(label, (now, done))
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        rate = (done - at) / max(1e-9, now - since)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        print(f"{label}: {done:,} of {total:,}, {speed(rate, self.unit)}{left}", file=sys.stderr, flush=True)
