"""Which code made a result."""

from importlib.metadata import PackageNotFoundError, version

try:
    CODE = f"w2s_fast {version('w2s-fast')}"
except PackageNotFoundError:
    CODE = "w2s_fast (not installed)"
