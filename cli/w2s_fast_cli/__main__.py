"""`python -m w2s_fast_cli` is `w2s-fast`."""

from w2s_fast_cli.main import run

run()
