"""What an experiment would fit, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from w2s_fast_cli.output import Output

if TYPE_CHECKING:
    from w2s_fast.studies.dry_run import Group
    from w2s_fast.studies.experiment import Experiment


def show_outline(say: Output, experiment: Experiment) -> None:
    """The groups of stacks that would be trained, what would be extracted first, and the totals."""
    from w2s_fast.studies.dry_run import Group, Missing, dry_run

    groups: list[Group] = []
    for one in dry_run(experiment):
        if isinstance(one, Group):
            groups.append(one)
        elif isinstance(one, Missing):
            say.say(f"not extracted yet: {one.model} on {one.data}; it will be, or: {one.command}")
        if say.json:
            say.lines([{"kind": type(one).__name__.lower(), **asdict(one)}])
    _show_groups(say, groups)


def _show_groups(say: Output, groups: Sequence[Group]) -> None:
    from w2s_fast.studies.dry_run import totals
    from w2s_fast.train.memory import gib

    whole = totals(groups)
    if say.json:
        say.lines([{"kind": "total", **whole}])
        return
    columns = ["data", "head", "losses", "batch", "runs", "stacks x width", "memory", "seconds"]
    several = len({(g.strong, g.weak) for g in groups}) > 1
    rows = [
        [
            f"{g.data} {g.strong} {g.weak}" if several else g.data,
            g.head,
            ", ".join(f"{loss} x {count}" if count > 1 else loss for loss, count in g.losses.items()),
            g.batch_size or "all",
            g.runs,
            " + ".join(f"{count} x {width}" for width, count in sorted(Counter(g.widths).items(), reverse=True)),
            gib(g.bytes),
            f"{g.seconds:,.1f}",
        ]
        for g in groups
    ]
    rows.append(["all", "", "", "", whole["runs"], whole["stacks"], gib(whole["bytes"]), f"{whole['seconds']:,.1f}"])
    say.grid("", columns, rows)
    say.say("memory: a group's widest stack; seconds: estimated from rates measured just now, without any extraction")
