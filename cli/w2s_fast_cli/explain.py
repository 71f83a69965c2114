"""w2s-fast explain: one image, what every system says of it, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import READING, asks, data_options
from w2s_fast_cli.diagnose import open_subject
from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.core.rows import Row
    from w2s_fast.report.explaining import Explanation

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@asks(DataOptions, only=READING)
def explain(
    asked: dict[str, Any],
    results: Annotated[Path, typer.Argument(help="Results file (JSONL) with kept predictions beside it.")],
    item: Annotated[list[str] | None, typer.Option(help="Id of a test image, or its beginning; may repeat.")] = None,
    worst: Annotated[int | None, typer.Option(help="The N images that the student gets wrong most surely.")] = None,
    method: Annotated[str | None, typer.Option(help="Which student (default: the first in the file).")] = None,
    data: Annotated[str | None, typer.Option(help="Which data set of the file (default: the only one).")] = None,
    head: Annotated[list[Path] | None, typer.Option(help="Saved head, for its prototypes and its top-5.")] = None,
    seed: Annotated[int | None, typer.Option(help="Run seed (default: the least that tested the image).")] = None,
    selection: Annotated[str, typer.Option(help="last, weak_val, oracle or test_best.")] = "last",
    no_truth: Annotated[bool, typer.Option("--no-truth", help="Hand over no label.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page with the pictures.")] = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Show a test image's top-5 by weak model, zero-shot and students, its neighbours, and what trained the answer.

    Example: w2s-fast explain w2s_runs/results.jsonl --worst 5 --html worst.html
    """
    from w2s_fast.core.errors import UsageError
    from w2s_fast.report.explaining import explain as explained
    from w2s_fast.report.explaining import worst as find_worst
    from w2s_fast.results.results import Results

    out = Output(json=json, quiet=quiet)
    o.check_selection(selection)
    if (item is None) == (worst is None):
        raise UsageError("say which images: --item ID (may repeat), or --worst N")
    found = Results.load(results)
    rows = _of_data(found.rows, data, results)
    row = rows[0]
    seeds = sorted({r.get("seed", 0) for r in rows})
    chosen = method or next(
        (r.get("method", "") for r in rows if r.get("role", "student") == "student"), rows[0].get("method", "")
    )
    shown: list[Explanation] = []
    for number in seeds if seed is None else [seed]:
        subject = open_subject(
            out, **data_options(asked), data=row.get("data", ""), strong=row.get("strong"), weak=row.get("weak"),
            cache=cache, results=found, heads=head or (), seed=number,
            mode=row.get("split", "rotate"), selection=selection, truth=not no_truth,
        )  # fmt: skip
        if worst is not None:
            wanted = find_worst(subject, chosen, count=worst)
        else:
            tested = set(subject.parts["test"].tolist())
            wanted = [
                r for r, i in enumerate(subject.ids) if r in tested and any(i.startswith(one) for one in item or ())
            ]
        shown = [explained(subject, r, student=chosen) for r in wanted]
        if shown or seed is not None:
            break
    if not shown:
        what = "the student is never wrong" if worst is not None else f"no test image has an id like {item}"
        raise UsageError(f"{results}: {what}; other seeds: --seed, other students: --method")
    if json:
        out.document([one.record() for one in shown])
    else:
        for one in shown:
            show(out, one)
    if html is not None:
        from w2s_fast.core.paths import cache_root
        from w2s_fast.data import open_manifest
        from w2s_fast.report.page.explained import explained_page

        manifest = open_manifest(row.get("data", ""), **data_options(asked), cache=cache_root(cache))
        with o.writing(html, "--html"):
            html.write_text(explained_page(shown, manifest), encoding="utf-8")
        out.say(f"page: {html}")


def show(out: Output, one: Explanation) -> None:
    """One explanation on stdout."""
    truth = "" if one.truth is None else f", truly {one.truth}"
    print(f"{one.id} ({one.part}{truth})")
    systems = [[name, *(_guess(g.label, g.prob) for g in guesses)] for name, guesses in one.systems.items()]
    if one.prototypes:
        systems.append(["nearest class weights", *(_guess(g.label, g.prob) for g in one.prototypes)])
    out.grid("", ["", "1", "2", "3", "4", "5"], [[*line, *[""] * (6 - len(line))] for line in systems])
    for title, rows in (("nearest images", one.neighbours), (f"training images that pulled {one.student}", one.pulled)):
        if rows:
            out.grid(
                title,
                ["id", "part", "cosine", "weak label", "truth", "pull"],
                (
                    [n.id, n.part, f"{n.cosine:.3f}", n.weak, n.truth, "" if n.pull is None else f"{n.pull:.3f}"]
                    for n in rows
                ),
            )
    print()


def _guess(label: str, prob: float | None) -> str:
    return label if prob is None else f"{label} {prob:.2f}"


def _of_data(rows: list[Row], data: str | None, path: Path) -> list[Row]:
    from w2s_fast.core.errors import UsageError, nearest

    known = list(dict.fromkeys((r.get("data", ""), r.get("strong", ""), r.get("weak", "")) for r in rows))
    names = [k for k in known if data in (None, k[0])]
    if not names:
        raise UsageError(f"{path} has no results on {data!r}{nearest(str(data), {k[0] for k in known})}")
    if len(names) > 1:
        shown = "; ".join(" / ".join(n) for n in names)
        raise UsageError(
            f"{path} holds several tasks ({shown}); choose a data set with --data, or give one file a task"
        )
    return [r for r in rows if (r.get("data", ""), r.get("strong", ""), r.get("weak", "")) == names[0]]
