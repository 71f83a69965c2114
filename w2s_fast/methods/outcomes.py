"""What a trial asked, as a `Question`, and what became of it, as an `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from w2s_fast import heads, supervisions
from w2s_fast.core.code_digest import code_digest
from w2s_fast.core.fields import parameters
from w2s_fast.core.hashing import digest_json
from w2s_fast.core.schedule import make_schedule
from w2s_fast.core.specs import Spec
from w2s_fast.core.version import CODE
from w2s_fast.data.splits import Split
from w2s_fast.methods.method import Method
from w2s_fast.methods.plan import Trial
from w2s_fast.results.fitted_head import FittedHead
from w2s_fast.results.measures import Asked
from w2s_fast.results.outcome import Outcome, Question
from w2s_fast.supervisions.fit_request import Student
from w2s_fast.tasks.task import Task
from w2s_fast.train.solver import make_solver


def question_of(task: Task, trial: Trial, *, split: str, precision: str, order: str | None = None) -> Question:
    """What a trial asks: head, loss, supervision and settings with every default written out, and what they read.

    split: its mode. precision: what was computed in. order: how streamed rows were shuffled; None where rows are
    resident. The weak model is not part of it, as it goes with the seed; teachers and encoders are, where read.
    """
    method, settings = trial.method, trial.settings
    solver = make_solver(settings.solver)
    head = heads.find(method.head.name)
    asked: dict[str, Any] = {
        "head": str(Spec(name=method.head.name, args={**parameters(head), **method.head.args})),
        "loss": method.loss_resolved if isinstance(method.loss, Spec) else None,
        "loss_code": None if isinstance(method.loss, Spec) else code_digest(method.loss),
        "supervision": _resolved_supervision(method),
        "optimizer": _spelled(solver),
        "schedule": None if solver.full_batch else _spelled(make_schedule(settings.schedule)),
        "lr": None if solver.full_batch else (head.default_lr if settings.lr is None else settings.lr),
        "weight_decay": settings.weight_decay,
        "epochs": settings.epochs,
        "batch_size": None if solver.full_batch else settings.batch_size,
        "w_gt": settings.w_gt,
        "order": None if order == "resident" else order,
        "precision": precision,
        "split": split,
        "truth_digest": task.manifest.truth_digest,
        "feature_key": task.keys.get("features") or [task.data, task.strong],
        "text_key": task.keys.get("text"),
        "weak_keys": None,
        "teacher_keys": None,
        "encoder_keys": None,
    }
    if trial.strategy.teachers > 1:
        asked["teacher_keys"] = _named(task.keys.get("teachers"))
        asked["weak_keys"] = _named(task.keys.get("weak"))
    if trial.supervision not in ("weak", "gt"):
        asked["encoder_keys"] = task.keys.get("encoders") or None
    return Question(fields=asked)


def _named(keys: Any) -> Any:
    return {str(name): key for name, key in (keys or {}).items()} or None


def _resolved_supervision(method: Method) -> str:
    spec = method.supervision
    return str(Spec(name=spec.name, args={**parameters(supervisions.find(spec.name)), **spec.args}))


def _spelled(part: Any) -> str:
    """A solver or a schedule with every parameter that it has."""
    args = {f.name: getattr(part, f.name) for f in fields(part)}
    return str(Spec(name=type(part).__name__.lower(), args=args))


def outcome_of(task: Task, trial: Trial, student: Student, split: Split, *, mode: str, precision: str) -> Outcome:
    """What a trial on one split became; precision: what was asked for."""
    fit, method, settings = student.fit, trial.method, trial.settings
    computed = fit.resolved.get("precision", precision)
    head, resolved = fit.head, fit.resolved
    return Outcome(
        domain=task.domain,
        method=method.name,
        head=str(method.head),
        loss=method.loss_name,
        loss_resolved=method.loss_resolved,
        supervision=trial.supervision,
        question=question_of(task, trial, split=mode, precision=computed, order=resolved.get("order")),
        split=split,
        seed=trial.seed,
        weak_seed=trial.weak_seed,
        status=fit.status,
        predicted=fit.predicted,
        selected_epoch=fit.selected_epoch,
        curves=fit.curves,
        seconds=fit.seconds,
        resolved={
            "init": getattr(head, "init_from", None) or "own",
            "init_norm": getattr(head, "init_norm", None),
            "feat_scale": head.x_scale if head.unit_x else None,
            "n_train": resolved["n_train"],
            "optimizer": settings.solver,
            "schedule": settings.schedule if resolved.get("schedule") else None,
            "weight_decay": settings.weight_decay,
            "epochs": settings.epochs or fit.run.epochs,
            **{key: resolved.get(key) for key in ("lr", "warmup", "batch_size", "order", "tau_s", "tau_w")},
            "precision": computed,
            "stack": fit.stack,
        },
        ceiling=trial.ceiling,
        ceiling_key=_ceiling_key(trial),
        reads_truth=settings.w_gt > 0 or trial.strategy.truth,
        transductive=trial.transductive,
        verified=method.checked,
        notes=fit.notes,
        stages=tuple(dict(stage) for stage in student.details),
        weak_key=_weak_key(task, trial),
        fitted=_fitted(task, trial, student, split),
    )


def asked(trials: Sequence[Trial], splits: Mapping[int, Split]) -> Asked:
    """What trials ask for, as scoring needs it."""
    ceilings: dict[int, list[str | None]] = {}
    for trial in trials:
        if trial.ceiling:
            ceilings.setdefault(trial.seed, []).append(_ceiling_key(trial))
    students = [(trial.seed, trial.weak_seed, trial.transductive) for trial in trials if not trial.ceiling]
    return Asked(students=students, ceilings=ceilings, splits=splits)


def _ceiling_key(trial: Trial) -> str:
    """What a student shares with the ceiling that measures it: head and settings."""
    return digest_json([trial.ceiling_key[0], str(trial.ceiling_key[1])])


def _weak_key(task: Task, trial: Trial) -> str:
    """Whom a run is measured against, by content: its weak model, or for a ceiling that of its seed."""
    seed = task.pairs([trial.seed])[0][1] if trial.weak_seed is None else trial.weak_seed
    return (task.keys.get("weak") or {}).get(seed) or digest_json([task.weak, seed])


def _fitted(task: Task, trial: Trial, student: Student, split: Split) -> FittedHead:
    request, method = student.request, trial.method
    about = {
        "method": method.name,
        "head": str(method.head),
        "loss": method.loss_name,
        "supervision": trial.supervision,
        "data": task.data,
        "strong": task.strong,
        "weak": task.weak,
        "template": task.template,
        "seed": trial.seed,
        "weak_seed": trial.weak_seed,
        "feature_key": task.keys.get("features"),
        "code": CODE,
    }
    return FittedHead(
        task=task,
        split=split,
        fit=student.fit,
        spec=request.head or method.head,
        supervision=request.supervision,
        train=request.train,
        features=request.features,
        text=request.text,
        move=request.move,
        about=about,
    )
