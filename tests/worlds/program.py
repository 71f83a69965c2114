"""The program, called as a user does."""

from collections.abc import Callable

import pytest
from w2s_fast_cli.main import run

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run the program in this process: (exit status, stdout, stderr)."""

    def call(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run([str(a) for a in argv])
        out = capsys.readouterr()
        return int(stop.value.code or 0), out.out, out.err

    return call
