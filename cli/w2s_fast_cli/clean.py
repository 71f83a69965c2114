"""w2s-fast data clean: which images to leave out, and a list of those that stay."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import READING, asks, data_options
from w2s_fast_cli.diagnose import Index
from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.data.manifest import Manifest


@asks(DataOptions, only=READING)
def clean(
    asked: dict[str, Any],
    data: Annotated[str, typer.Argument(help="Data set.")],
    out: Annotated[Path, typer.Option(help="Write what to leave out here, as CSV.")] = Path("leave_out.csv"),
    what: Annotated[
        list[str] | None, typer.Option(help="duplicates (default), mislabelled, outliers; may repeat.")
    ] = None,
    write_list: Annotated[
        Path | None,
        typer.Option("--list", help="Also write what stays as lists for list:FILE, e.g. kept_{train,test}.txt."),
    ] = None,
    strong: Annotated[str | None, typer.Option(help="Encoder whose features decide (default: drawn:clip).")] = None,
    index: Index = "exact",
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write what to leave out: near duplicates but one, and on request labels that neighbours contradict and outliers.

    Nothing is deleted. Of duplicates the pool's copy stays; sets with different labels go whole.

    Example: w2s-fast data clean drawn:sketch --what duplicates --what mislabelled --out leave_out.csv
    """
    from w2s_fast.backbones import DEFAULT_STRONG
    from w2s_fast.diagnose.clean import to_leave_out
    from w2s_fast.report.subjects import subject_of_data

    say = Output(json=json, quiet=quiet)
    with say.progress("images") as advance:
        manifest, subject = subject_of_data(
            data, strong=strong or DEFAULT_STRONG, **data_options(asked), cache=cache,
            index=index, say=say.say, on_progress=advance,
        )  # fmt: skip
    found = to_leave_out(subject, tuple(what or ("duplicates",)))
    row_of = {i: row for row, i in enumerate(manifest.ids)}
    records = [
        {
            "id": one.id,
            "uri": manifest.uris[row_of[one.id]],
            "split": manifest.splits[row_of[one.id]],
            "class": manifest.classes[int(manifest.labels[row_of[one.id]])],
            "reason": one.reason,
            "kept": one.kept,
        }
        for one in found
    ]
    with o.writing(out, "--out"), out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "uri", "split", "class", "reason", "kept"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
    if write_list is not None:
        write_kept(manifest, {row_of[one.id] for one in found}, write_list)
    if json:
        say.lines(records)
        return
    counts = Counter(one.reason for one in found)
    print(f"{len(found)} of {len(manifest)} images to leave out, written to {out}")
    for reason, count in counts.items():
        print(f"  {count} {reason}")


def write_kept(manifest: Manifest, out: set[int], path: Path) -> None:
    """Lines `path label` of the rows that stay, for `list:FILE`; one file a half where the name holds {train,test}."""
    from w2s_fast.core.errors import UsageError
    from w2s_fast.data.paths import BRACES

    if manifest.packed or manifest.root == Path():
        raise UsageError(f"--list: {manifest.name} is no folder of image files; leave rows out by the CSV's ids")
    halves = any(manifest.splits)
    if halves != (BRACES in str(path)):
        wanted = "has an official split: give a name with {train,test}" if halves else "has no split: give a plain name"
        raise UsageError(f"--list {path}: {manifest.name} {wanted}")
    for part in ("train", "test") if halves else ("",):
        target = Path(str(path).replace(BRACES, part))
        kept = [r for r in range(len(manifest)) if r not in out and manifest.splits[r] == part]
        lines = [f"{manifest.uris[r]} {int(manifest.labels[r])}\n" for r in kept]
        with o.writing(target, "--list"):
            target.write_text("".join(lines), encoding="utf-8")
