"""Rows as tables: Markdown for README, the same for the terminal. Every ratio names its denominator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def table(rows: Sequence[Row]) -> str:
    """Seconds per run of the engine and of every baseline, ratios against the two loops, and the floor."""
    return markdown(COLUMNS, rows)


def markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A Markdown table; columns that no row fills are left out."""
    filled = [(head, [show(row) for row in rows]) for head, show in columns]
    filled = [(head, cells) for head, cells in filled if any(cell != "-" for cell in cells)]
    lines = ["| " + " | ".join(head for head, _ in filled) + " |", "|" + "---|" * len(filled)]
    lines += ["| " + " | ".join(cells[i] for _, cells in filled) + " |" for i in range(len(rows))]
    return "\n".join(lines)


def readme(result: Mapping[str, Any]) -> str:
    """README's performance section from a result file: the table, what it was measured on, and how to read it."""
    # page width: what is a ratio here has its seconds in the file
    parts = [markdown(README_COLUMNS, result["rows"]), "", hardware(result), "", NOTES]
    if result.get("end_to_end"):
        parts += ["", study(result["end_to_end"])]
    return "\n".join(parts)


def hardware(result: Mapping[str, Any]) -> str:
    """One paragraph: the machine, the cores used, versions, and how it was timed."""
    m = result["machine"]
    where = m["gpu"] or f"{m['cpu']}, {_count(m['cores_used'], 'core')} of {m['cores_there']}"
    kinds = ", ".join((m["capability"], *m["instructions"]))
    versions = ", ".join(f"{name} {number}" for name, number in m["versions"].items())
    rows = result["rows"]
    how = ""
    if rows:
        how = f" One process, jobs in turns, medians of {min(r['repeats'] for r in rows)}; engine calls of "
        how += f"{_count(rows[0]['runs'], 'run')}."
    return f"Measured on {m['date']}: {where} ({kinds}); {versions}; load at the start {m['load_at_start']:.1f}.{how}"


NOTES = (
    "Seconds are per run of 10 epochs. *vs DataLoader loop* = seconds of the TensorDataset + DataLoader + autograd "
    "loop (fp32) over seconds of the engine; *vs resident loop* = seconds of the best resident autograd loop (fp32) "
    "over seconds of the engine. All three evaluate val (agreement and accuracy) before training and after every "
    "epoch. The probes have their own loss (CLIP_benchmark and scikit-learn hard, OpenAI soft cross-entropy); the "
    "CLIP_benchmark-like one evaluates once, the OpenAI-like one after every epoch, scikit-learn stops after at most "
    "100 iterations. *uncached* is an estimate: ViT-B-32 at its measured speed on every image of every epoch, plus "
    "the DataLoader loop. *floor*: the matrix products alone, by the fastest library reachable; in README a share of "
    "the engine's seconds. Compilation is not in the engine's seconds and has its own column."
)


def study(result: Row) -> str:
    """The end-to-end case in a sentence."""
    return (
        f"End to end on {_count(result['processes'], 'core')} ({result['precision']}): {result['fits']:,} fits "
        f"({len(result['losses'])} losses x {len(result['heads'])} heads x {result['seeds']} seeds x "
        f"{len(result['domains'])} drawn domains) took {result['engine_s']:.1f} s, from start of the processes to "
        f"scored rows; the DataLoader loop, in as many processes, needs {result['loop_s']:.1f} s for "
        f"{result['loop_fits']} of them (estimated from {result['loop_timed']} timed fits of "
        f"{result['loop_each_s']:.2f} s)."
    )


def told(row: Row) -> str:
    """One line for people while the table is being measured."""
    return (
        f"{row['loss']} {row['precision']}: {row['engine_s']:.3f} s; DataLoader loop {row['loader_s']:.2f} s "
        f"({row['ratio_loader']:.2f}x), resident loop {row['resident_s']:.2f} s ({row['ratio_resident']:.2f}x)"
    )


def scaling(rows: Sequence[Row]) -> str:
    """Cost of a run against one axis after the other."""
    return markdown(SCALING_COLUMNS, rows)


def _seconds(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value = row.get(name)
        if value is None:
            return "-"
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 10 else f"{value:.1f}"

    return show


def _ratio(name: str) -> Callable[[Row], str]:
    return lambda row: "-" if row.get(name) is None else f"{row[name]:.2f}x"


def _task(row: Row) -> str:
    return f"{row['case']}, n {row['n']:,}, k {row['k']}, d {row['d']}"


def _floor_share(row: Row) -> str:
    return "-" if not row.get("floor_s") else f"{100 * row['floor_s'] / row['engine_s']:.0f} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


COLUMNS: tuple[Column, ...] = (
    ("task", _task),
    ("loss", lambda row: row["loss"]),
    ("precision", lambda row: row["precision"]),
    ("w2s_fast, s", _seconds("engine_s")),
    ("DataLoader loop, s", _seconds("loader_s")),
    ("vs DataLoader loop", _ratio("ratio_loader")),
    ("best resident loop, s", _seconds("resident_s")),
    ("vs resident loop", _ratio("ratio_resident")),
    ("resident loop in bf16 autocast, s", _seconds("resident_autocast_s")),
    ("CLIP_benchmark-like, s", _seconds("clip_benchmark_like_s")),
    ("OpenAI-like, s", _seconds("openai_like_s")),
    ("scikit-learn L-BFGS, s", _seconds("sklearn_s")),
    ("uncached (estimate), s", _seconds("uncached_s")),
    ("compile once, s", _seconds("compile_s")),
    ("floor, s", _seconds("floor_s")),
    ("floor / w2s_fast", _floor_share),
)
README_COLUMNS: tuple[Column, ...] = (
    ("", lambda row: f"{row['case']}, d {row['d']}"),
    *(c for c in COLUMNS if c[0] in ("loss", "precision", "w2s_fast, s", "vs DataLoader loop", "vs resident loop")),
    *(c for c in COLUMNS if c[0] in ("CLIP_benchmark-like, s", "OpenAI-like, s", "scikit-learn L-BFGS, s")),
    ("floor", _floor_share),
)
SCALING_COLUMNS: tuple[Column, ...] = (
    ("against", lambda row: row["axis"]),
    ("size", lambda row: f"{row['size']:,}"),
    ("n", lambda row: f"{row['n']:,}"),
    ("k", lambda row: str(row["k"])),
    ("d", lambda row: str(row["d"])),
    ("precision", lambda row: row["precision"]),
    ("w2s_fast, s per run", _seconds("engine_s")),
)
