"""Which code made a result."""

from importlib.metadata import PackageNotFoundError, version


def _code() -> str:
    try:
        return f"w2s_fast {version('w2s-fast')}"
    except PackageNotFoundError:
        return "w2s_fast (not installed)"


CODE = _code()
"""As rows and commit records name it."""
