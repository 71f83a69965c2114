"""Many tasks one after the other: data sets x strong encoders x weak models, each fitted and yielded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2s_fast.backbones import DEFAULT_STRONG, DEFAULT_WEAK
from w2s_fast.backbones import canonical as canonical_model
from w2s_fast.backbones.device import pick_device
from w2s_fast.core.errors import UsageError, W2SError, nearest
from w2s_fast.core.paths import cache_root
from w2s_fast.core.templates import DEFAULT_TEMPLATE, check_templates
from w2s_fast.data import DEFAULT_DATA, canonical, expand_data, open_manifest
from w2s_fast.results.results import Results
from w2s_fast.tasks import supervisors
from w2s_fast.tasks.features import Streaming
from w2s_fast.tasks.opening import (
    open_task,
)
from w2s_fast.tasks.pooling import pool_tasks
from w2s_fast.tasks.task import Say, Task

if TYPE_CHECKING:
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.extract.worker import OnProgress
    from w2s_fast.methods.method import Method

LONGEST = 180
"""Characters of a head's file name before the run's id; file systems allow 255 bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied, by name; empty `data`, `strong`, `weak` and `templates` are the embedded defaults.

    pool: all data sets together are one task, with their domains as groups (`pooled.pool_tasks`).
    """

    data: tuple[str, ...] = ()
    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    weak_seeds: int | None = None
    teachers: tuple[str, ...] = ()
    root: Path | None = None
    identity: str = "content"
    class_names: Path | None = None
    templates: tuple[str, ...] = ()
    drop_failed: bool = False
    cache: Path | None = None
    options: ExtractOptions | None = None
    stream: Streaming = None
    pool: bool = False

    def check(
        self,
        *,
        method: Any = None,
        loss: Any = None,
        head: Any = None,
        seeds: int | Sequence[int] = 1,
        split: str = "rotate",
        supervision: Any = None,
        precision: str = "fp32",
        device: str = "auto",
        references: bool = True,
        **grid: Any,
    ) -> None:
        """Refuse at once what `fit` would refuse after hours of extraction; reads no image and opens no model.

        Errors: `UsageError` for a wrong argument or name, `DataError` for a data set that is not there, `ModelError`
        for a supervisor that is not there.
        """
        from w2s_fast.backbones import parse_model
        from w2s_fast.backbones.weak import list_supervisors
        from w2s_fast.data.splits import MODES
        from w2s_fast.methods.plan import seed_numbers
        from w2s_fast.methods.resolve import resolve
        from w2s_fast.train.engine import PRECISIONS

        methods = resolve(method, loss, head, supervision)
        _check_points(methods, grid)
        seed_numbers(seeds)
        choices = {"split": (split, MODES)}
        for what, (given, known) in {**choices, "precision": (precision, tuple(PRECISIONS))}.items():
            if given not in known:
                raise UsageError(f"unknown {what} {given!r}{nearest(given, known)}")
        pick_device(device)
        if self.weak_seeds is not None and self.weak_seeds < 1:
            raise UsageError(f"--weak-seeds must be at least 1, not {self.weak_seeds}")
        check_templates(self.templates or (DEFAULT_TEMPLATE,))
        if self.options is not None:
            self.options.checked()
        for model in (*self.strong, *self.weak, *self.teachers):
            parse_model(model)
        trained = {one.name for one in list_supervisors(cache_root(self.cache))}
        for name in self.sets():
            # paths and sizes, not bytes: `content` would read every image of every data set here
            manifest = open_manifest(
                name, root=self.root, identity="path", class_names=self.class_names, cache=cache_root(self.cache)
            )
            for weak in filter(supervisors.is_supervisor, (*(self.weak or (DEFAULT_WEAK,)), *self.teachers)):
                if parse_model(weak).name not in trained:
                    supervisors.seeds_of(weak, manifest, data=canonical(name), cache=self.cache)

    def sets(self) -> list[str]:
        """The data sets by name, globs expanded."""
        found = expand_data(self.data or (DEFAULT_DATA,))
        if self.pool and len(found) < 2:
            raise UsageError(f"--pool joins several data sets, and only {found[0]} is named; add one: --data A B")
        if len(found) > 1 and self.class_names is not None:
            raise UsageError("--class-names belongs to one data set; give one --data")
        return found

    def tasks(self, *, say: Say | None = None, on_progress: OnProgress | None = None) -> Iterator[Task]:
        """The task of each data set (with `pool`: of all) x strong x weak, opened when it is asked for."""
        templates = check_templates(self.templates or (DEFAULT_TEMPLATE,))

        def opened(data: str, strong: str, weak: str) -> Task:
            return open_task(
                data,
                strong=strong,
                weak=weak,
                weak_seeds=self.weak_seeds,
                teachers=self.teachers,
                root=self.root,
                identity=self.identity,
                class_names=self.class_names,
                templates=templates,
                drop_failed=self.drop_failed,
                cache=self.cache,
                options=self.options,
                stream=self.stream,
                say=say,
                on_progress=on_progress,
            )

        for several, strong, weak in self.points():
            tasks = (opened(data, strong, weak) for data in several)
            yield pool_tasks(list(tasks), say=say) if self.pool else next(tasks)

    def points(self) -> Iterator[tuple[list[str], str, str]]:
        """(data sets, strong, weak) of each task: one data set, or with `pool` all of them."""
        sets = self.sets()
        for several in [sets] if self.pool else [[data] for data in sets]:
            for strong in map(canonical_model, self.strong or (DEFAULT_STRONG,)):
                for weak in map(canonical_model, self.weak or (DEFAULT_WEAK,)):
                    yield several, strong, weak

    def fit(
        self,
        *,
        say: Say | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
        **arguments: Any,
    ) -> Iterator[Results]:
        """`fit` of each task, with the same arguments, all of which are checked before the first task is opened.

        Where Ctrl-C or an error cuts a task short, what is done of it is yielded before that is raised.
        """
        from w2s_fast.methods.fit import fit

        self.check(**arguments)
        for task in self.tasks(say=say, on_progress=on_progress):
            label = f"{task.domain}: fits"
            report = None if on_progress is None else _labelled(on_progress, label)
            cut: list[Results] = []
            try:
                results = fit(task, stream=self.stream, on_progress=report, on_cut=cut.append, **arguments)
            except (KeyboardInterrupt, W2SError):
                yield from cut
                raise
            yield results


def _check_points(methods: Sequence[Method], grid: Mapping[str, Any]) -> None:
    """Refuse settings that no method takes, and values out of range, as the fits themselves would."""
    from w2s_fast.core.schedule import make_schedule
    from w2s_fast.methods.grid import grid_of
    from w2s_fast.methods.plan import check_supervision, check_taken, variant_of
    from w2s_fast.train.solver import make_solver

    for point in grid_of(grid):
        make_solver(point.settings.solver)
        make_schedule(point.settings.schedule)
        variants = [variant_of(method, point) for method in methods]
        check_taken(variants, {**point.of_head, **point.of_loss})
        check_supervision(variants, w_gt=point.settings.w_gt)


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
