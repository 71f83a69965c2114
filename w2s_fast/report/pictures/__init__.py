"""Print-ready pictures of results, found by name: SVG, PDF or PNG, through matplotlib (the extra `report`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core import plugins
from w2s_fast.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from w2s_fast.results.results import Results

PICTURES: dict[str, str] = {
    "accuracy": "w2s_fast.report.pictures.accuracy:draw",
    "curves": "w2s_fast.report.pictures.curves:draw",
    "sensitivity": "w2s_fast.report.pictures.sensitivity:draw",
    "map": "w2s_fast.report.pictures.sensitivity:draw_map",
    "pgr": "w2s_fast.report.pictures.pgr:draw",
    "gain": "w2s_fast.report.pictures.gain:draw",
    "beta": "w2s_fast.report.pictures.beta:draw",
    "features": "w2s_fast.report.pictures.features:draw",
}
"""Name -> "module:attribute" of a function (results, **options) -> Figure; packages add to the group below."""
GROUP = "w2s_fast.pictures"
FORMATS = ("svg", "pdf", "png")


def picture(results: Results, kind: str = "accuracy", path: str | Path | None = None, **options: Any) -> Figure:
    """A picture of results as a matplotlib figure; with a path it is also written there, by its ending.

    kind: `accuracy` (with intervals), `curves` (by epoch), `sensitivity` (accuracy against one setting, `x`), `map`
    (against two, `x` and `y`), `pgr` (methods x domains), `gain` (against weak accuracy), `beta` (of adaptive
    confidence), `features` (with class weights, in two dimensions). The same results give the same file. Raises
    `UsageError` for an unknown kind or ending, or without matplotlib; `DataError` where there is nothing to draw.
    """
    try:
        draw = plugins.load(PICTURES, GROUP, kind)
    except KeyError:
        raise UsageError(f"there is no picture {kind!r}{nearest(kind, plugins.names(PICTURES, GROUP))}") from None
    except ImportError as error:
        raise UsageError(f"pictures need matplotlib ({error}): pip install 'w2s_fast[report]'") from None
    from w2s_fast.report.pictures.style import printed, save

    if path is not None and Path(path).suffix.lstrip(".").lower() not in FORMATS:
        raise UsageError(f"{path}: a picture is written as {', '.join(FORMATS)}; give one of these endings")
    with printed():
        figure = draw(results, **options)
        if path is not None:
            save(figure, Path(path))
    return figure
