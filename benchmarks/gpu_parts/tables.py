"""A run in words: what it found, beside another run, and README's table. Every figure is one of the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.heads_parts.tables import Column, markdown

Result = Mapping[str, Any]
Row = Mapping[str, Any]


def summary(result: Result) -> str:
    """Stage by stage, a line or a table each."""
    lines = [hardware(result), ""]
    for name, one in result["stages"].items():
        word = "failed" if "error" in one or one.get("passed") is False else one.get("left_out", "done")
        lines.append(f"{name}: {one.get('error', word)} ({one.get('seconds', 0.0):.0f} s){_told(name, one)}")
    rows = result["stages"].get("heads", {}).get("rows", [])
    return "\n".join([*lines, "", markdown(COLUMNS, rows)] if rows else lines)


def readme(result: Result) -> str:
    """README's table; `ValueError` for a run that says nothing of a GPU's speed."""
    if result["device"] != "cuda" or result["quick"]:
        raise ValueError("README's table is of whole runs on a GPU; this one was made with --device cpu or --quick")
    rows = result["stages"]["heads"]["rows"]
    gates = result["stages"].get("accuracy", {}).get("gates", [])
    worst = max((abs(one["points"]) for one in gates), default=None)
    parts = [markdown(COLUMNS, rows), "", hardware(result)]
    if worst is not None:
        half = max(one["points_high"] - one["points"] for one in gates)
        parts.append(
            f"Test accuracy of tf32 and bf16 minus fp32 over {gates[0]['seeds']} paired seeds: the largest mean is "
            f"{worst:.2f} points, the widest 95 % interval +- {half:.2f}."
        )
    return "\n".join(parts)


def against(old: Result, new: Result) -> str:
    """Seconds per run of rows that both have, the second over the first; and stages whose word has changed."""
    before = {_key(row): row for row in old["stages"].get("heads", {}).get("rows", [])}
    after = {_key(row): row for row in new["stages"].get("heads", {}).get("rows", [])}
    both = [{**after[key], "old_s": before[key]["engine_s"]} for key in after if key in before]
    lines = [f"first:  {hardware(old)}", f"second: {hardware(new)}", "", markdown(BESIDE, both)]
    for what, some in (
        ("only in the first", before.keys() - after.keys()),
        ("only in the second", after.keys() - before.keys()),
    ):
        if some:
            lines.append(f"{what}: {len(some)} rows")
    for name in old["stages"].keys() | new["stages"].keys():
        words = [_word(result["stages"].get(name)) for result in (old, new)]
        if words[0] != words[1]:
            lines.append(f"{name}: {words[0]}, then {words[1]}")
    return "\n".join(lines)


def hardware(result: Result) -> str:
    """The device, versions, and the rates that floors are made of."""
    stage = result["stages"].get("machine", {})
    about = stage.get("about", {})
    where = about.get("gpu") or about.get("cpu") or "an unknown machine"
    text = f"{where}, {about.get('date', 'no date')}, torch {about.get('versions', {}).get('torch')}"
    if "driver" in stage:
        text += f", driver {stage['driver']}"
    if "rates" in stage:
        r = stage["rates"]
        text += f"; copies {r['bytes'] / 1e12:.2f} TB/s; products {r['bf16'] / 1e12:.0f} TFLOP/s in bf16, "
        text += f"{r['tf32'] / 1e12:.0f} in TF32, {r['fp32'] / 1e12:.0f} in fp32"
    return text + ("; a look at tiny tasks, no measurement" if result.get("quick") else "")


def _told(name: str, one: Row) -> str:
    if name == "tests" and "pytest" in one:
        p = one["pytest"]
        return f": {p['passed']} passed, {p['failed']} failed, {p['skipped']} skipped"
    if name == "heads" and one.get("left_out_rows"):
        return f": {len(one['rows'])} rows, {len(one['left_out_rows'])} left out for time"
    if name == "extraction" and "pipeline" in one:
        alone = ", ".join(f"{speed:,.0f} {compute}" for compute, speed in one["encoder"].items())
        return f": images/s: encoder alone {alone}; with decoding {one['pipeline']:,.0f} ({one['pipeline_compute']})"
    if name == "memory" and one.get("rows"):
        shares = [r["peak_of_counted"] for r in one["rows"] if r["peak_of_counted"] is not None]
        return f": peak at most {100 * max(shares):.0f} % of what was counted" if shares else ""
    if name == "others" and one.get("profile"):
        top = one["profile"][0]
        return f": most time in {top['name']}"
    return ""


def _word(one: Row | None) -> str:
    if one is None:
        return "not there"
    return "failed" if "error" in one or one.get("passed") is False else one.get("left_out", "passed")


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("case", "d", "loss", "precision", "runs"))


def _share(name: str) -> Any:
    return lambda row: "-" if row.get(name) is None else f"{100 * row[name]:.0f} %"


QUESTION: Sequence[Column] = (
    ("task", lambda row: f"{row['case']}, d {row['d']}"),
    ("loss", lambda row: row["loss"]),
    ("precision", lambda row: row["precision"]),
    ("runs a call", lambda row: str(row["runs"])),
)
COLUMNS: Sequence[Column] = (
    *QUESTION,
    ("runs an hour", lambda row: f"{row['runs_an_hour']:,.0f}"),
    ("ms a run", lambda row: f"{1e3 * row['engine_s']:.3g}"),
    ("of the floor", _share("of_floor")),
    ("of the floor, unfused", _share("of_unfused")),
    ("vs resident loop", lambda row: f"{row['ratio_resident']:.1f}x"),
)
BESIDE: Sequence[Column] = (
    *QUESTION,
    ("first, ms a run", lambda row: f"{1e3 * row['old_s']:.3g}"),
    ("second, ms a run", lambda row: f"{1e3 * row['engine_s']:.3g}"),
    ("second / first", lambda row: f"{row['engine_s'] / row['old_s']:.2f}"),
)
