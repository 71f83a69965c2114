"""The `w2s-fast` program: its commands, and how errors leave it."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from w2s_fast_cli.options import spread

COMMANDS: dict[str, str] = {
    "demo": "w2s_fast_cli.demo:app",
    "data": "w2s_fast_cli.data:app",
    "extract": "w2s_fast_cli.extract:app",
    "weak": "w2s_fast_cli.weak:app",
    "finetune": "w2s_fast_cli.finetune:app",
    "train": "w2s_fast_cli.train:app",
    "sweep": "w2s_fast_cli.sweep:app",
    "recipe": "w2s_fast_cli.recipe:app",
    "diagnose": "w2s_fast_cli.diagnose:app",
    "explain": "w2s_fast_cli.explain:app",
    "report": "w2s_fast_cli.report:app",
    "export": "w2s_fast_cli.export:app",
    "cache": "w2s_fast_cli.cache:app",
    "losses": "w2s_fast_cli.families:losses",
    "heads": "w2s_fast_cli.families:heads",
    "supervisions": "w2s_fast_cli.families:supervisions",
    "methods": "w2s_fast_cli.families:methods",
    "models": "w2s_fast_cli.models:app",
}


class _Commands(TyperGroup):
    """Commands in the order of a study, each imported only when it is asked for or listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        app: typer.Typer = getattr(import_module(module), attribute)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


app = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode="rich", add_completion=True,
                  pretty_exceptions_enable=False)  # fmt: skip


def _version(value: bool) -> None:
    if value:
        from w2s_fast.core.version import CODE

        typer.echo(CODE)
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; works after any command too."),
) -> None:
    """Weak-to-strong generalization on cached features: extract once, then fit hundreds of heads in seconds.

    Exit status: 0 done, 1 failed, 2 wrong usage, 3 done in part.

    Example: w2s-fast extract && w2s-fast train --loss cpl --seeds 5
    """


def run(argv: list[str] | None = None) -> NoReturn:
    """Run the program; a `W2SError` is one sentence on stderr and exit status 1 or 2, with `--debug` a traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    _never_end_at_a_character()
    try:
        app(args=spread([a for a in args if a != "--debug"]), prog_name="w2s-fast")
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as end:
        if end.code == TYPER_INTERRUPTED:
            _stopped()
        raise
    except Exception as error:
        if debug:
            raise
        if isinstance(error, BrokenPipeError):
            _close_quietly()
            sys.exit(0)
        text, status = _told(error)
        typer.echo(f"error: {text}", err=True)
        sys.exit(status)
    sys.exit(0)


TYPER_INTERRUPTED = 130


def _stopped() -> NoReturn:
    """Ctrl-C where nothing was under way that could be kept."""
    typer.echo("stopped", err=True)
    sys.exit(1)


def _told(error: Exception) -> tuple[str, int]:
    """One sentence for an error, and the exit status."""
    from w2s_fast.core.errors import W2SError

    if isinstance(error, W2SError):
        return str(error), error.exit_status
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        # a library's own errors (of the network, say) are OSErrors without a file
        return (f"cannot read or write {error.filename}: {reason}" if error.filename is not None else reason), 1
    return f"{type(error).__name__}: {error} (a defect: please report it with --debug's output)", 1


def _never_end_at_a_character() -> None:
    """A terminal that is not UTF-8 shows `\\xb1` for what it lacks, and the command goes on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_quietly() -> None:
    """After a closed pipe (`| head`), keep the interpreter from flushing into it again."""
    devnull: Any = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
