"""The tables of a recipe over any rows: its own, or those of `train` and `sweep`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from w2s_fast.core.rows import Row
from w2s_fast.recipes.recipe import Recipe, globs
from w2s_fast.report.comparison import comparison, fits
from w2s_fast.report.matrix import matrices
from w2s_fast.results.summary import Group, Systems, Table

if TYPE_CHECKING:
    from w2s_fast.results.results import Results


def tables_of(
    recipe: Recipe,
    scale: str,
    rows: Sequence[Row],
    systems: Mapping[Group, Systems],
    *,
    selection: str = "last",
    unverified: Collection[str] = (),
) -> list[Table]:
    """The tables of a recipe at one scale over any rows; errors are those of `report.comparison`."""
    published = recipe.published(scale)
    if recipe.lines is None:
        return [comparison(rows, systems, published, selection=selection, unverified=unverified)]
    named = {
        axis: {label: globs(name) for label, name in names.items()}
        for axis, names in recipe.scale(scale).labels.items()
    }
    return matrices(
        rows,
        systems,
        title=recipe.title,
        weak=named["weak"],
        strong=named["strong"],
        show=recipe.show,
        selection=selection,
        notes=published.notes,
    )


def tables_against(
    recipe: Recipe,
    rows: Sequence[Row],
    systems: Mapping[Group, Systems],
    *,
    selection: str = "last",
    unverified: Collection[str] = (),
) -> list[Table]:
    """Any rows beside a recipe's numbers: those of its real scale if there are any, else of its miniature.

    Errors: `DataError` where no row belongs to a column of either.
    """
    fitting = [scale for scale in recipe.scales if fits(rows, recipe.published(scale))]
    scale = next(iter(fitting or recipe.scales))
    return tables_of(recipe, scale, rows, systems, selection=selection, unverified=unverified)


def by_group(results: Results, *, selection: str = "last") -> dict[Group, Systems]:
    """Correctness per group, as `report.comparison` takes it."""
    kept = results.predictions
    return {kept[name].group: found for name, found in results.systems(selection=selection).items()}
