"""Many tasks one after the other: data sets x strong encoders x weak models, each fitted and yielded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import UsageError
from w2s_fast.data import expand_data
from w2s_fast.methods.prepare import (
    DEFAULT_DATA,
    DEFAULT_STRONG,
    DEFAULT_TEMPLATE,
    DEFAULT_WEAK,
    check_templates,
    open_task,
)
from w2s_fast.methods.results import Results
from w2s_fast.methods.task import Say, Task

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.extract.worker import OnProgress


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied, by name; empty `data`, `strong`, `weak` and `templates` are the embedded defaults."""

    data: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    weak_seeds: int | None = None
    root: Path | None = None
    identity: str = "content"
    class_names: Path | None = None
    templates: tuple[str, ...] = ()
    drop_failed: bool = False
    cache: Path | None = None
    options: ExtractOptions | None = None

    def tasks(self, *, say: Say | None = None, on_progress: OnProgress | None = None) -> Iterator[Task]:
        """The task of each data set x strong x weak, opened when it is asked for."""
        templates = check_templates(self.templates or (DEFAULT_TEMPLATE,))
        sets = expand_data(self.data or (DEFAULT_DATA,))
        if len(sets) > 1 and self.class_names is not None:
            raise UsageError("--class-names belongs to one data set; give one --data")
        for data in sets:
            for strong in self.strong or (DEFAULT_STRONG,):
                for weak in self.weak or (DEFAULT_WEAK,):
                    yield open_task(
                        data,
                        strong=strong,
                        weak=weak,
                        weak_seeds=self.weak_seeds,
                        root=self.root,
                        identity=self.identity,
                        class_names=self.class_names,
                        templates=templates,
                        drop_failed=self.drop_failed,
                        cache=self.cache,
                        options=self.options,
                        say=say,
                        on_progress=on_progress,
                    )

    def fit(
        self,
        *,
        say: Say | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        **arguments: Any,
    ) -> Iterator[Results]:
        """`fit` of each task, with the same arguments; names are checked before the first task is opened."""
        from w2s_fast.methods.fit import fit
        from w2s_fast.methods.presets import resolve

        resolve(arguments.get("method"), arguments.get("loss"), arguments.get("head"))
        for task in self.tasks(say=say, on_progress=on_progress):
            label = f"{task.domain}: fits"
            report = None if on_progress is None else _labelled(on_progress, label)
            yield fit(task, on_progress=report, **arguments)


def _labelled(on_progress: Callable[[str, int, int], None], label: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(label, done, total)


def save_every_head(results: Results, directory: Path) -> list[Path]:
    """Write each fitted head under each selection as safetensors with its card; the files written."""
    from w2s_fast.methods.best import BestHead

    written: list[Path] = []
    for scored in results.fits:
        for selection in scored.fit.theta:
            arm = scored.arm
            name = f"{scored.task.domain}-{arm.method.name}-s{arm.seed}"
            name += f"-w{arm.weak_seed}" if arm.weak_seed is not None else ""
            safe = "".join(c if c.isalnum() or c in "+-._" else "_" for c in f"{name}-{selection}")
            written.append(BestHead(scored=scored, selection=selection).save(directory / f"{safe}.safetensors"))
    return written
