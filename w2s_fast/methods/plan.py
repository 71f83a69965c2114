"""Which fits a study asks for: methods x grid x seeds x supervisors, and the ceilings that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from w2s_fast import heads, losses, supervisions
from w2s_fast.core.code_digest import code_digest
from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.core.fields import argument_of
from w2s_fast.core.hashing import canonical_json, digest_bytes
from w2s_fast.core.options import at
from w2s_fast.core.schedule import make_schedule
from w2s_fast.core.settings import Settings
from w2s_fast.core.specs import Spec, parse
from w2s_fast.data.splits import hold_train_rows
from w2s_fast.methods.grid import Point, grid_of, passed_on
from w2s_fast.methods.method import GT, Method
from w2s_fast.methods.options import FitOptions
from w2s_fast.methods.resolve import resolve, short
from w2s_fast.supervisions.strategy import Strategy
from w2s_fast.tasks.task import Task
from w2s_fast.train.solver import Ridge, make_solver

CEILING_HEADS = ("linear", "prototype")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A method at one point of the grid, for one seed and supervisor; a ceiling is a run on ground truth."""

    method: Method
    settings: Settings
    seed: int
    weak_seed: int | None
    ceiling: bool = False

    @property
    def supervision(self) -> str:
        """Who teaches, as rows write it."""
        return str(self.method.supervision)

    @property
    def strategy(self) -> Strategy:
        """The supervision itself."""
        return supervisions.make(self.method.supervision)

    @property
    def transductive(self) -> bool:
        """Whether test images, unlabelled, were seen in training."""
        return bool(getattr(self.strategy, "transductive", False))

    @property
    def ceiling_key(self) -> tuple[str, Settings, int]:
        """Which ceiling a trial is measured against: same head, same settings, same seed."""
        return (str(_ceiling_head(self.method.head)), self.settings, self.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What `FitOptions` ask for, resolved once: every method at every point of the grid, for any task.

    variants: the method, named after its point, with its settings before the data's defaults. first: the settings of
    the first point, without what methods bring, for the ceilings of the standard heads.
    """

    variants: tuple[tuple[Method, Settings], ...]
    first: Settings
    seeds: tuple[int, ...]
    split: str
    references: bool
    own: tuple[str, ...] = ()
    """sha256 of each file of one's own that a loss comes from."""

    @staticmethod
    def of(asked: FitOptions, *, where: str = "") -> Plan:
        """Names looked up, grids spanned, and what no task could fit refused: `UsageError`, `SpecError`.

        where: as `core.options.read_options` takes it.
        """
        with at(where, "[settings]"):
            points = grid_of(asked.settings)
        with at(where):
            methods = resolve(asked.method, asked.loss, asked.head, asked.supervision)
        with at(where, "[settings]"):
            variants = [one for point in points for one in _at_point(methods, point)]
        return Plan(
            variants=tuple(variants),
            first=points[0].settings,
            seeds=asked.seeds,
            split=asked.split,
            references=asked.references,
            own=tuple(digest_bytes(path.read_bytes()) for path in asked.files()),
        )

    def trials(self, task: Task) -> list[Trial]:
        """Every fit on a task: variants x seeds x supervisors, then the ceilings that they need.

        Raises `MissingText` for a start or a loss that reads text where the task has none.
        """
        pairs = task.pairs(self.seeds)
        trials = [
            Trial(method=method, settings=_resolved(settings, task), seed=seed, weak_seed=weak_seed)
            for method, settings in self.variants
            for seed, weak_seed in pairs
        ]
        _check_starts(task, trials)
        _check_prior(task, trials)
        if self.references and any(trial.method.supervision != GT for trial in trials):
            trials += _ceilings(task, trials, _resolved(self.first, task))
        return trials

    def identity(self) -> dict[str, Any]:
        """What tells this plan from another, as JSON: no name that is only displayed, no order of what was named."""
        variants = [
            {
                "head": str(method.head),
                "loss": code_digest(method.loss) if not isinstance(method.loss, Spec) else method.loss_resolved,
                "supervision": str(method.supervision),
                "settings": asdict(settings),
            }
            for method, settings in self.variants
        ]
        return {
            "variants": sorted(variants, key=canonical_json),
            "ceilings": asdict(self.first) if self.references else None,
            "seeds": sorted(self.seeds),
            "split": self.split,
            "own": sorted(self.own),
        }


def _at_point(methods: Sequence[Method], point: Point) -> list[tuple[Method, Settings]]:
    """The methods at one point of the grid with their settings; what no task could fit is refused."""
    make_solver(point.settings.solver)
    make_schedule(point.settings.schedule)
    variants = [variant_of(method, point) for method in methods]
    check_taken(variants, {**point.of_head, **point.of_loss})
    check_supervision(variants, w_gt=point.settings.w_gt)
    return [(one, point.settings_for(one.settings)) for one in variants]


def variant_of(method: Method, point: Point) -> Method:
    """The method at a point of the grid: with those parameters that its head and its loss have, and named after it."""
    head = passed_on(method.head, point.of_head, cls=heads.find(method.head.name))
    loss = method.loss
    if isinstance(loss, Spec):
        loss = passed_on(loss, point.of_loss, cls=losses.find(loss.name))
    name = f"{method.name}[{point.label}]" if point.label else method.name
    return replace(method, name=name, head=head, loss=loss).canonical()


def check_taken(variants: Sequence[Method], parameters: dict[str, Any]) -> None:
    """Refuse a parameter that not one of the methods has, or a value that none of them knows."""
    limits: dict[str, list[Any]] = {}
    for m in variants:
        classes: list[type[Any]] = [heads.find(m.head.name)]
        classes += [losses.find(m.loss.name)] if isinstance(m.loss, Spec) else []
        for cls in classes:
            for f in fields(cls):
                limits.setdefault(argument_of(cls, f.name), []).append(cls.limits.get(f.name))
    names = ", ".join(m.name for m in variants)
    for name, value in parameters.items():
        if name not in limits:
            raise UsageError(f"{name}={value!r}: none of {names} has a parameter {name!r}")
        known = limits[name]
        allowed = list(dict.fromkeys(v for one in known if isinstance(one, tuple) for v in one))
        if value not in allowed and all(isinstance(one, tuple) for one in known):
            raise UsageError(f"{name}={value!r} is none of {', '.join(map(repr, allowed))}")


def check_supervision(variants: Sequence[Method], *, w_gt: float) -> None:
    """Refuse what a method's supervision cannot teach, and what a student of a weak model may not read."""
    for m in variants:
        if supervisions.make(m.supervision).several and "teachers" not in losses.make(m.loss).needs:
            able = [name for name in losses.names() if "teachers" in losses.make(name).needs]
            raise UsageError(
                f"{m.name}: loss {m.loss_name} takes one teacher; give it their mixture (--supervision ensemble), "
                f"or all of them to a loss that reads several (--loss {' '.join(able)})"
            )
    check_truth(variants, w_gt=w_gt)


def check_truth(variants: Sequence[Method], *, w_gt: float) -> None:
    """Refuse a start or a loss that reads ground truth for students of a weak model, who never see any.

    `w_gt` above 0 says that ground truth takes part, and so does a supervision that is `truth`.
    """
    for m in variants:
        if w_gt > 0 or supervisions.make(m.supervision).truth:
            continue
        if getattr(heads.make(m.head), "init_from", None) == "class_mean":
            raise UsageError(
                f"{m.name}: init='class_mean' reads ground truth, which a student of a weak model never sees; "
                "use init='weak_mean', or --supervision gt for a ceiling"
            )
        loss = losses.make(m.loss)
        if "labels" in loss.needs:
            offers = "weak" in (type(loss).limits.get("target") or ())
            way = f"{m.loss.name}(target='weak')" if offers and isinstance(m.loss, Spec) else "another loss"
            raise UsageError(
                f"{m.name}: {m.loss_name} reads ground-truth labels, which a student of a weak model never sees; "
                f"use {way}, or say by --set w_gt=... that they take part"
            )


def _resolved(settings: Settings, task: Task) -> Settings:
    """The settings on a task: what they leave open is its data's recipe, or follows from its number of rows."""
    full_batch = make_solver(settings.solver).full_batch
    return settings.resolved(task.manifest.defaults, rows=None if full_batch else hold_train_rows(task.manifest))


def _check_starts(task: Task, trials: Sequence[Trial]) -> None:
    """Refuse a start from text, or a head that learns through a text tower, where there is none."""
    for trial in trials:
        head = heads.make(trial.method.head)
        init = getattr(head, "init_from", None)
        if head.needs_tower and task.tower is None:
            raise MissingText(
                f"{trial.method.name}: its head learns through a text tower, and {task.strong} gives none "
                f"({task.text_note or 'none was given'}); take a CLIP model, or a head that needs none, such as linear"
            )
        if task.text is None and init in ("text", "zero_shot"):
            raise MissingText(
                f"{trial.method.name}: {init} init needs text features, and {task.strong} gives none "
                f"({task.text_note}); start from the weak labels instead: --set init=weak_mean"
            )


def _check_prior(task: Task, trials: Sequence[Trial]) -> None:
    """Refuse a loss that reads a prior where there is no text (`MissingText`)."""
    for trial in trials:
        if task.text is None and "prior" in losses.make(trial.method.loss).needs:
            raise MissingText(
                f"{trial.method.name}: its loss reads the zero-shot prior, which needs text features, and "
                f"{task.strong} gives none ({task.text_note}); take a loss without a prior, such as kd"
            )


def _ceiling_head(head: Spec) -> Spec:
    """The head of the ceiling: the same, but never started from weak labels."""
    if head.args.get("init") == "weak_mean":
        return head.with_args({"init": "random" if head.name in CEILING_HEADS else "class_mean"})
    return head


def _is_closed_form(settings: Settings) -> bool:
    return isinstance(make_solver(settings.solver), Ridge)


def _ceilings(task: Task, trials: Sequence[Trial], first: Settings) -> list[Trial]:
    """One ceiling per head, settings and seed of the trials; both standard heads at least, so that a best one exists.

    The latter have the `first` settings that were asked for, without what methods bring.
    Under solver `ridge`, which has no other loss, the ceiling of the linear head is `brier` on ground truth, and the
    prototype's is trained as if no solver and no weight decay were given.
    """
    wanted = {(str(_ceiling_head(trial.method.head)), trial.settings): None for trial in trials}
    for name in CEILING_HEADS:
        settings = first
        if name != "linear" and _is_closed_form(first):
            settings = replace(first, solver=Settings.solver, weight_decay=Settings.weight_decay)
        if not any(parse(head).name == name and one == settings for head, one in wanted):
            head = "prototype(init='random')" if name == "prototype" and task.text is None else name
            wanted[head, settings] = None
    names = _ceiling_names(list(wanted))
    return [
        Trial(
            method=Method(
                name=name,
                head=parse(head),
                loss=Spec(name="brier" if _is_closed_form(settings) else "ce"),
                supervision=GT,
            ),
            settings=settings,
            seed=seed,
            weak_seed=None,
            ceiling=True,
        )
        for (head, settings), name in zip(wanted, names, strict=True)
        for seed in dict.fromkeys(trial.seed for trial in trials)
    ]


def _ceiling_names(wanted: list[tuple[str, Settings]]) -> list[str]:
    """ceiling+lp, ceiling+proto; with the head, and a number per settings, where one name would stand for several."""
    short_names = [f"ceiling+{short(parse(head))}" for head, _ in wanted]
    settings = list(dict.fromkeys(s for _, s in wanted))
    return [
        name
        if short_names.count(name) == 1
        else f"{name}[{head}" + (f", settings {settings.index(s) + 1}]" if len(settings) > 1 else "]")
        for name, (head, s) in zip(short_names, wanted, strict=True)
    ]
