"""Rows and kept predictions -> one table: accuracies and PGR per domain, with intervals, guards and what they cover.

`summarise(rows, systems)` gives a `Table` of plain numbers; `report` and the command line only render it.
"""

from w2s_fast.results.summary.domain import Group, group_names, group_of
from w2s_fast.results.summary.page import BEST, summarise
from w2s_fast.results.summary.systems import Systems
from w2s_fast.results.summary.table import EMPTY, Cell, Column, Line, Table, text, wide

__all__ = [
    "BEST",
    "EMPTY",
    "Cell",
    "Column",
    "Group",
    "Line",
    "Systems",
    "Table",
    "group_names",
    "group_of",
    "summarise",
    "text",
    "wide",
]
