"""An experiment under way: its tasks opened one after the other, each fitted and yielded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from w2s_fast.backbones import parse_model
from w2s_fast.backbones.weak import list_supervisors
from w2s_fast.core.errors import W2SError
from w2s_fast.core.paths import cache_root
from w2s_fast.core.shares import ALL, Share
from w2s_fast.data import on_disk
from w2s_fast.data.manifest import Manifest
from w2s_fast.results.results import Results
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.written import keep
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.opening import open_task
from w2s_fast.tasks.pooling import pool_tasks
from w2s_fast.tasks.task import Say, Task

if TYPE_CHECKING:
    from w2s_fast.extract.worker import OnProgress

Prepare = Callable[[str, Manifest], None]
"""What is done with a data set before its task is opened, such as training its supervisors."""

LONGEST = 180
"""Characters of a head's file name before the run's id; file systems allow 255 bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment whose data sets and supervisors were found; `of` makes it, `fit` runs it."""

    experiment: Experiment
    share: Share = ALL
    """Which of the experiment's tasks are opened, by their place in `Experiment.points`."""
    manifests: dict[str, Manifest] = field(default_factory=dict[str, Manifest], repr=False)

    @staticmethod
    def of(
        experiment: Experiment, *, untrained: Collection[str] = (), listed: bool = False, share: Share = ALL
    ) -> Study:
        """Refuse at once what could not be opened after hours of extraction.

        Of several data sets on disk, names and sizes of files are read here and their bytes when their turn comes;
        `listed`: of every data set. untrained: weak models that need not be there yet. Raises `DataError` for a data
        set that is not there, `ModelError` for a supervisor that is not there.
        """
        asked = experiment.models
        sets = list(dict.fromkeys(name for several, _, _ in _points(experiment, share) for name in several))
        for model in (*asked.strong, *asked.weak, *asked.teachers):
            parse_model(model)
        trained = {one.name for one in list_supervisors(cache_root(experiment.cache))}
        opened: dict[str, Manifest] = {}
        for name in sets:
            later = experiment.data.identity == "content" and on_disk(name) and (listed or len(sets) > 1)
            manifest = experiment.open_manifest(name, identity="path" if later else None)
            if not later:
                opened[name] = manifest
            for weak in filter(supervisors.is_supervisor, (*asked.weak, *asked.teachers)):
                if weak not in untrained and parse_model(weak).name not in trained:
                    supervisors.seeds_of(weak, manifest, data=name, cache=experiment.cache)
        return Study(experiment=experiment, share=share, manifests=opened)

    def manifest(self, data: str) -> Manifest:
        """The manifest of one of its data sets, opened once."""
        if data not in self.manifests:
            self.manifests[data] = self.experiment.open_manifest(data)
        return self.manifests[data]

    def tasks(
        self, *, say: Say | None = None, on_progress: OnProgress | None = None, prepare: Prepare | None = None
    ) -> Iterator[Task]:
        """The task of each data set (with `pool`: of all) x strong x weak, opened when it is asked for."""
        opening = self.experiment.opening()
        prepared: set[str] = set()

        def opened(data: str, strong: str, weak: str) -> Task:
            manifest = self.manifest(data)
            if prepare is not None and data not in prepared:
                prepare(data, manifest)
                prepared.add(data)
            return open_task(
                data, strong=strong, weak=weak, manifest=manifest, say=say, on_progress=on_progress, **opening
            )

        for several, strong, weak in _points(self.experiment, self.share):
            tasks = (opened(data, strong, weak) for data in several)
            yield pool_tasks(list(tasks), say=say) if self.experiment.data.pool else next(tasks)

    def fit(
        self,
        *,
        say: Say | None = None,
        on_progress: OnProgress | None = None,
        on_final: Callable[[Results], object] | None = None,
        prepare: Prepare | None = None,
    ) -> Iterator[Results]:
        """The results of each task, whose rows name the experiment.

        Where Ctrl-C or an error cuts a task short, what is done of it is yielded before that is raised. on_final: given
        results whose rows nothing can change any more while their task goes on; they are yielded with it all the same.
        """
        from w2s_fast.methods.fit import fit_plan

        asked = self.experiment
        for task in self.tasks(say=say, on_progress=on_progress, prepare=prepare):
            report = None if on_progress is None else _labelled(on_progress, f"{task.domain}: fits")
            cut: list[Results] = []
            try:
                results = fit_plan(
                    task,
                    asked.plan,
                    compute=asked.compute,
                    on_progress=report,
                    on_cut=cut.append,
                    on_final=None if on_final is None else lambda one: on_final(_of(asked, one)),
                )
            except (KeyboardInterrupt, W2SError):
                yield from (_of(asked, one) for one in cut)
                raise
            yield _of(asked, results)


def run(
    experiment: Experiment,
    *,
    out: str | Path | None = None,
    say: Say | None = None,
    on_progress: OnProgress | None = None,
) -> Results:
    """The results of every task of an experiment; with `out` they are appended to that file as each task ends.

    Errors: those of `Study`. What was fitted before an error is in `out`.
    """
    total = Results(rows=[])
    for results in Study.of(experiment).fit(say=say, on_progress=on_progress):
        if out is not None:
            keep(experiment, out)
            results.save(out)
        total = total + results
    return total


def _points(experiment: Experiment, share: Share) -> Iterator[tuple[list[str], str, str]]:
    return (point for number, point in enumerate(experiment.points()) if number in share)


def _of(experiment: Experiment, results: Results) -> Results:
    """The results with the experiment's digest in every row."""
    rows = [row.copy() for row in results.rows]
    for row in rows:
        row["experiment"] = experiment.digest
    return replace(results, rows=rows)


def _labelled(on_progress: Callable[[str, int, int], None], label: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(label, done, total)


def save_every_head(results: Results, directory: Path) -> list[Path]:
    """Write each fitted head under each selection as safetensors with its card; the files written.

    Their names end in the run's id, so that no two runs share one, whatever their models, data and methods are called.
    """
    written: list[Path] = []
    for one in results.fits:
        if one.fitted is None:
            continue
        for selection in one.fitted.selections:
            name = f"{one.domain}-{one.method}-s{one.seed}"
            name += f"-w{one.weak_seed}" if one.weak_seed is not None else ""
            safe = "".join(c if c.isalnum() or c in "+-._" else "_" for c in f"{name}-{selection}")[:LONGEST]
            path = directory / f"{safe}-{one.run_id()}.safetensors"
            written.append(one.fitted.under(selection).save(path))
    return written
