"""A share of numbered work: which of N workers does what."""

from __future__ import annotations

from dataclasses import dataclass

from w2s_fast.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Share:
    """Share `index` of `count`, counted from 0: the numbers that leave `index` when divided by `count`."""

    index: int
    count: int

    @staticmethod
    def of(text: str) -> Share:
        """`3/8` as the share 3 of 0..7; anything else is a `UsageError`."""
        index, slash, count = text.partition("/")
        if not slash or not index.isdecimal() or not count.isdecimal() or int(index) >= int(count):
            raise UsageError(f"{text!r} is not a share: write I/N with I from 0 to N - 1, such as 0/8 to 7/8")
        return Share(index=int(index), count=int(count))

    def __contains__(self, number: int) -> bool:
        return number % self.count == self.index


ALL = Share(index=0, count=1)
"""The share that is everything."""
