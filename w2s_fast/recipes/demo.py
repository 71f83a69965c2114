"""The whole story on the embedded world: one supervisor trained live, six domains extracted, fitted and compared.

Methods and settings were frozen on seeds 100-104; the demo reports seeds 0-4 (benchmarks/drawn_settings/README.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.data import expand_data
from w2s_fast.finetune.supervisors import train_supervisors
from w2s_fast.report.claims import Claim, ordering, sentences
from w2s_fast.report.picture import to_svg
from w2s_fast.report.tables import to_markdown
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.study import Study
from w2s_fast.tasks.extraction import extract_all
from w2s_fast.tasks.task import log

if TYPE_CHECKING:
    from w2s_fast.extract.worker import OnProgress

METHODS = ("ce+lp", "kd+lp", "aux+lp", "aux_argmax+lp", "adapt+lp", "cpl")
ORDER = ("cpl", "kd+lp", "ce+lp", "weak")
LIVE_DOMAIN = "drawn:quickdraw"


@dataclass(frozen=True, kw_only=True, eq=False)
class Story:
    """What the demo found and where it wrote it."""

    results: Results
    table: Table
    claims: list[Claim]
    said: list[str]
    files: dict[str, Path]


def live_supervisor(*, cache: Path | None = None, on_progress: OnProgress | None = None) -> Iterator[dict[str, Any]]:
    """Train the seed-0 supervisor of one domain anew, as `w2s-fast weak` does; its record."""
    return train_supervisors(
        [LIVE_DOMAIN], model="drawn:cnn", name="demo", seeds=[0], cache=cache, on_progress=on_progress
    )


def run(
    *,
    out: Path,
    seeds: int = 5,
    data: tuple[str, ...] = ("drawn:*",),
    cache: Path | None = None,
    say: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Story:
    """Extract, fit and compare; writes results.jsonl with predictions, table.md and picture.svg into `out`."""
    tell = say or log
    names = tuple(expand_data(data))
    for record in extract_all(names, cache=cache, say=say, on_progress=on_progress):
        if record["made_parts"] and record["model"] == "drawn:clip" and record["data"] in names:
            tell(f"{record['data']}: {record['rows']:,} images through drawn:clip and five supervisors")
    results: Results | None = None
    written = out / "results.jsonl"
    written.unlink(missing_ok=True)
    asked = Experiment.of({"data": names, "method": METHODS, "seeds": seeds}, cache=cache)
    for one in Study.of(asked).fit(say=say, on_progress=on_progress):
        one.save(written)
        results = one if results is None else results + one
    assert results is not None, "expand_data gives at least one data set"
    table = results.table()
    claims = ordering(results.systems(), order=ORDER)
    files = {"rows": written, "table": out / "table.md", "picture": out / "picture.svg"}
    said = sentences(claims)
    files["table"].write_text(to_markdown(table) + "\n" + "\n".join(f"* {s}" for s in said) + "\n", encoding="utf-8")
    files["picture"].write_text(to_svg(table), encoding="utf-8")
    return Story(results=results, table=table, claims=claims, said=said, files=files)
