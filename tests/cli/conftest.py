"""What tests of the command line share."""

from program import said  # noqa: F401
