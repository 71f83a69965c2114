"""Fits become rows: accuracies on the same test items, agreement, guarded PGR, references and keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from w2s_fast.core.rows import SCHEMA, Row
from w2s_fast.core.statistics import PGR, paired_gap_se, pgr
from w2s_fast.core.version import CODE
from w2s_fast.results.measures import Asked, Ceiling, References, ceilings_of
from w2s_fast.results.outcome import Outcome
from w2s_fast.results.predictions import Predictions, System
from w2s_fast.results.results import Results
from w2s_fast.results.summary import group_of
from w2s_fast.tasks.references import accuracy
from w2s_fast.tasks.task import Task
from w2s_fast.train import SELECTIONS


def score(
    task: Task,
    outcomes: Sequence[Outcome],
    *,
    mode: str,
    device: str,
    asked: Asked | None = None,
    wanted: Sequence[Outcome] | None = None,
    references: References | None = None,
) -> Results:
    """One row per run and selection, ceilings included, and the predictions of every system.

    Students that saw test images, and so are transductive, are a group of their own, with the same references and
    ceilings. asked: what a study asks for (None: these outcomes); what is measured against a ceiling that has not
    ended is null, with the reason. wanted: those outcomes whose rows are made (None: all), the others measure them.
    references: those of the task, if they are known already.
    """
    asked, known = asked or Asked.by(outcomes), references or References(task)
    rows: list[Row] = []
    kept: list[Predictions] = []
    for transductive in (False, True):
        students = [student for student in asked.students if student[2] == transductive]
        if transductive and not students:
            continue
        page = _Page(
            task=task,
            ceilings=[one for one in outcomes if one.ceiling],
            asked=asked,
            said=known,
            better=known.better_base(students, asked.splits),
            mode=mode,
            device=device,
            load=task.load_seconds / max(1, asked.runs),
            transductive=transductive,
        )
        mine = [
            one for one in (outcomes if wanted is None else wanted) if one.ceiling or one.transductive == transductive
        ]
        if mine:
            found = page.results(mine)
            rows += found[0]
            kept.append(found[1])
    return Results(
        rows=rows,
        kept=tuple(kept),
        fits=tuple(outcomes if wanted is None else wanted),
        unfinished=asked.runs - len(outcomes),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Page:
    """Runs that are ranked together, and what measures them."""

    task: Task
    ceilings: list[Outcome]
    asked: Asked
    said: References
    better: str
    mode: str
    device: str
    load: float
    transductive: bool

    def results(self, outcomes: Sequence[Outcome]) -> tuple[list[Row], Predictions]:
        """The rows and predictions of these runs."""
        rows: list[Row] = []
        systems: dict[str, System] = {}
        for one in outcomes:
            run_id = one.run_id(transductive=self.transductive)
            labels = {sel: np.asarray(p).astype(np.int64) for sel, p in one.predicted.items()}
            role = "ceiling" if one.ceiling else "student"
            systems[run_id] = System(
                name=one.method, role=role, seed=one.seed, weak_seed=one.weak_seed, run_id=run_id, labels=labels
            )
            rows += [_row(one, selection, self) for selection in [s for s in SELECTIONS if s in labels] or ["last"]]
        kept = Predictions(
            group=group_of(rows[0]),
            systems=(*systems.values(), *self.said.systems(outcomes)),
            rows={s.seed: np.asarray(s.split.test) for s in outcomes},
            truth=np.asarray(self.task.manifest.labels),
            ids=self.task.ids,
        )
        return rows, kept


def _row(one: Outcome, selection: str, page: _Page) -> Row:
    task, said, resolved = page.task, page.said, one.resolved
    test = np.asarray(one.split.test)
    weak_seed = said.weak_seed(one.seed, one.weak_seed)
    weak_labels = said.weak[weak_seed].numpy()[test]
    labels = np.asarray(task.manifest.labels)
    truth = labels[test]
    acc_weak = said.accuracy(said.weak[weak_seed], test)
    predicted = one.predicted.get(selection)
    correct = None if predicted is None else np.asarray(predicted) == truth
    acc = None if correct is None else float(correct.mean())
    same = None if predicted is None else np.asarray(predicted) == weak_labels
    weak_right = weak_labels == truth
    none = (Ceiling(), Ceiling())
    same_ceiling, best_ceiling = none if one.ceiling else ceilings_of(one, selection, page.ceilings, page.asked, labels)
    ceiling, best = same_ceiling.correct, best_ceiling.correct
    base = (
        said.zero_shot.numpy()[test] == truth
        if page.better == "zero-shot" and said.zero_shot is not None
        else weak_right
    )
    same_head = _pgr(weak_right, correct, ceiling)
    reasons = [c.reason for c in (same_ceiling, best_ceiling) if c.reason is not None]
    return Row(
        schema=SCHEMA,
        run_id=one.run_id(transductive=page.transductive),
        role="ceiling" if one.ceiling else "student",
        measured_by={
            **said.ids(one.split, one.seed, one.weak_seed),
            "ceiling": _id(same_ceiling, page),
            "ceiling_best": _id(best_ceiling, page),
        },
        status=one.status,
        data=task.data,
        domain=task.domain,
        weak=task.weak,
        weak_seed=one.weak_seed,
        strong=task.strong,
        method=one.method,
        head=one.head,
        loss=one.loss,
        loss_resolved=one.loss_resolved,
        init=resolved.get("init") or "own",
        init_norm=resolved.get("init_norm"),
        feat_scale=resolved.get("feat_scale"),
        template=task.template,
        supervision=one.supervision,
        reads_truth=one.reads_truth,
        transductive=page.transductive,
        stages=[dict(stage) for stage in one.stages] or None,
        seed=one.seed,
        split_seed=one.split.split_seed,
        selection=selection,
        selected_epoch=one.selected_epoch.get(selection),
        agree_val=one.at_selection(selection, "agree_val"),
        acc_val=one.at_selection(selection, "acc_val"),
        rise_val=one.rise("acc_val"),
        acc_weak=acc_weak,
        acc_zero_shot=said.accuracy(said.zero_shot, test),
        acc_fusion=said.accuracy(said.fused[weak_seed], test),
        acc_w2s=acc,
        acc_w2s_pool=_pool_accuracy(one, selection, task) if page.mode == "paper" else None,
        acc_ceiling=None if ceiling is None else float(ceiling.mean()),
        acc_ceiling_best=None if best is None else float(best.mean()),
        pgr=_null(same_head),
        pgr_best=_null(_pgr(weak_right, correct, best)),
        pgr_zs=_null(_pgr(base, correct, ceiling)),
        pgr_flag=None if one.ceiling else same_head.flag,
        agreement=None if same is None else float(same.mean()),
        agree_right=_mean_where(same, weak_right),
        agree_wrong=_mean_where(same, ~weak_right),
        n_train=resolved["n_train"],
        n_test=len(test),
        optimizer=resolved.get("optimizer") or "",
        schedule=resolved.get("schedule"),
        lr=resolved.get("lr"),
        warmup=resolved.get("warmup"),
        weight_decay=resolved.get("weight_decay"),
        epochs=resolved.get("epochs", one.epochs),
        batch_size=resolved.get("batch_size"),
        order=resolved.get("order"),
        tau_s=resolved.get("tau_s"),
        tau_w=resolved.get("tau_w"),
        precision=resolved.get("precision") or "fp32",
        device=page.device,
        seconds=one.seconds["total"],
        seconds_load=page.load + one.seconds.get("load", 0.0),
        seconds_compile=one.seconds.get("compile", 0.0),
        seconds_fit=one.seconds.get("train", 0.0),
        seconds_evaluate=one.seconds.get("evaluate", 0.0),
        stack=resolved.get("stack", 0),
        split=page.mode,
        split_hash=one.split.digest,
        truth_digest=task.manifest.truth_digest,
        feature_key=task.keys.get("features"),
        weak_key=(task.keys.get("weak") or {}).get(weak_seed),
        text_key=task.keys.get("text"),
        preds=None,
        code=CODE,
        verified=one.verified,
        question=one.question.digest,
        asked=dict(one.question.fields),
        note="; ".join([*one.notes, *reasons, *([task.text_note] if task.text_note else [])]) or None,
    )


def _id(ceiling: Ceiling, page: _Page) -> str | None:
    return None if ceiling.outcome is None else ceiling.outcome.run_id(transductive=page.transductive)


def _pgr(base: np.ndarray, correct: np.ndarray | None, ceiling: np.ndarray | None) -> PGR:
    if correct is None or ceiling is None:
        return PGR(value=math.nan, flag=None if correct is not None else "not measured")
    gap_se = paired_gap_se(ceiling, base)
    return pgr(float(base.mean()), float(correct.mean()), float(ceiling.mean()), gap_se=gap_se)


def _null(value: PGR) -> float | None:
    return None if math.isnan(value.value) else value.value


def _mean_where(values: np.ndarray | None, where: np.ndarray) -> float | None:
    return None if values is None or not where.any() else float(values[where].mean())


def _pool_accuracy(one: Outcome, selection: str, task: Task) -> float | None:
    """Accuracy on all of the pool (D_test), most of which the student was trained on: the papers' literal text."""
    if one.fitted is None or selection not in one.fitted.selections:
        return None
    rows = one.split.pool
    predicted = torch.from_numpy(one.fitted.under(selection).labels(rows))
    return accuracy(predicted, task.labels[torch.from_numpy(rows)])
