"""What the page shows beside rows: the images and diagnostics of the tasks that results name, where they are cached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from w2s_fast.core.errors import W2SError
from w2s_fast.diagnose import diagnose
from w2s_fast.diagnose.diagnosis import Diagnosis
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.report.page.gallery import Pair
from w2s_fast.report.subjects import subject_of
from w2s_fast.results.results import Results
from w2s_fast.store.bank import open_bank
from w2s_fast.tasks.opening import open_task

OF_STUDENTS = ("students", "class_gains", "confusion", "pairs")
OF_TASKS = ("purity", "weak_errors", "overlap", "confident_joint", "duplicates", "leakage")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Tasks by name with their manifests and subjects, their diagnostics, and remarks on those that stay closed."""

    tasks: dict[str, Pair] = field(default_factory=dict[str, Pair])
    diagnoses: dict[str, list[Diagnosis]] = field(default_factory=dict[str, list[Diagnosis]])
    remarks: list[str] = field(default_factory=list[str])


def open_tasks(
    results: Results,
    *,
    selection: str = "last",
    root: str | Path | None = None,
    identity: str = "content",
    class_names: str | Path | None = None,
    cache: str | Path | None = None,
) -> Opened:
    """The tasks that rows name (data, strong, weak), each at its least run seed; nothing is extracted.

    A task whose features are not in the cache, or whose data cannot be opened any more, is left out with a remark.
    """
    out = Opened()
    known = {(r.get("data"), r.get("strong"), r.get("weak")): r for r in reversed(results.rows) if r.get("data")}
    for (data, strong, weak), row in sorted(known.items(), key=lambda one: str(one[0])):
        name = str(data) if len({(k[0]) for k in known}) == len(known) else f"{data}, {strong}, {weak}"
        try:
            open_bank(str(strong), str(data), cache=cache, options=ExtractOptions().in_key())
            task = open_task(
                str(data), strong=str(strong), weak=str(weak), root=root, identity=identity, class_names=class_names,
                cache=cache, drop_failed=True, say=lambda _: None,
            )  # fmt: skip
            seeds = [r.get("seed", 0) for r in results.rows if (r.get("data"), r.get("strong")) == (data, strong)]
            subject = subject_of(
                task, results=results, seed=min(seeds), mode=row.get("split", "rotate"), selection=selection
            )
        except W2SError as error:
            out.remarks.append(f"no images of {name}: {error}")
            continue
        out.tasks[name] = (task.manifest, subject)
        out.diagnoses[name] = diagnose(subject, (*(OF_STUDENTS if subject.students else ()), *OF_TASKS))
    return out
