"""What tests of launchers share."""

from program import said  # noqa: F401
