"""Fits become rows: accuracies on the same test items, agreement, guarded PGR, references and keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.hashing import digest_json
from w2s_fast.core.rows import SCHEMA, Row
from w2s_fast.core.statistics import PGR, paired_gap_se, pgr
from w2s_fast.core.version import CODE
from w2s_fast.heads.classifier import classifier
from w2s_fast.results.outcome import Scored
from w2s_fast.results.predictions import CEILING_SELECTION, Predictions, System
from w2s_fast.results.results import Results
from w2s_fast.results.summary import group_of
from w2s_fast.tasks import references
from w2s_fast.tasks.features import parts
from w2s_fast.tasks.task import Task
from w2s_fast.train import SELECTIONS


def score(
    task: Task, scored: Sequence[Scored], *, mode: str, precision: str, device: str, unfinished: int = 0
) -> Results:
    """One row per fit and selection, ceilings included, and the predictions of every system.

    Students that saw test images, and so are transductive, are a group of their own, with the same references and
    ceilings. unfinished: how many more fits were asked for; what is measured against a missing ceiling is then null.
    """
    seen = [s for s in scored if s.trial.transductive]
    others = [s for s in scored if not s.trial.transductive]
    pages: list[tuple[list[Scored], bool]] = [(others, False)] if others else []
    if seen:
        pages += [([*seen, *(s for s in others if s.trial.ceiling)], True)]
    found = [_page(task, page, mode=mode, precision=precision, device=device, transductive=t) for page, t in pages]
    return Results(
        rows=[row for page in found for row in page.rows],
        kept=tuple(kept for page in found for kept in page.kept),
        fits=tuple(scored),
        unfinished=unfinished,
    )


def _page(
    task: Task, scored: Sequence[Scored], *, mode: str, precision: str, device: str, transductive: bool
) -> Results:
    """The results of fits that are ranked together."""
    ceilings = [s for s in scored if s.trial.ceiling and s.fit.status == "ok"]
    said = _References(task)
    better = said.better_base([s for s in scored if not s.trial.ceiling])
    rows: list[Row] = []
    systems: dict[str, System] = {}
    for one in scored:
        run_id = _run_id(task, one, mode, precision, transductive=transductive)
        labels = {sel: np.asarray(p).astype(np.int64) for sel, p in one.fit.predicted.items()}
        systems[run_id] = System(
            name=one.trial.method.name, seed=one.trial.seed, weak_seed=one.trial.weak_seed, run_id=run_id, labels=labels
        )
        context = _Context(
            task=task,
            ceilings=ceilings,
            said=said,
            better=better,
            mode=mode,
            load=task.load_seconds / len(scored),
            transductive=transductive,
        )
        for selection in [s for s in SELECTIONS if s in labels] or ["last"]:
            rows.append(_row(one, selection, context, run_id=run_id, precision=precision, device=device))
    for system in said.systems(scored):
        systems[system.run_id] = system
    kept = Predictions(
        group=group_of(rows[0]),
        systems=tuple(systems.values()),
        rows={s.trial.seed: np.asarray(s.split.test) for s in scored},
        truth=np.asarray(task.manifest.labels),
        ids=task.ids,
    )
    return Results(rows=rows, kept=(kept,))


class _References:
    """Weak, zero-shot and fused predictions over all rows, computed once."""

    def __init__(self, task: Task) -> None:
        self.task = task
        found = references.with_text(task)
        self.zero_shot = None if found is None else found.zero_shot
        self.weak = {w: references.weak(task, w) for w in task.weak_logits}
        self.fused = {w: None if found is None else found.fusion[w] for w in task.weak_logits}

    def accuracy(self, predicted: Tensor | None, rows: np.ndarray) -> float | None:
        if predicted is None:
            return None
        at = torch.from_numpy(np.asarray(rows))
        return references.accuracy(predicted[at], self.task.labels[at])

    def better_base(self, students: Sequence[Scored]) -> str:
        """Which of weak and zero-shot is better in the mean over runs: the base of `pgr_zs`."""
        if self.zero_shot is None or not students:
            return "weak"
        weak = [self.accuracy(self.weak[_weak_seed(self.task, s)], s.split.test) for s in students]
        prior = [self.accuracy(self.zero_shot, s.split.test) for s in students]
        return "zero-shot" if np.mean([p or 0 for p in prior]) > np.mean([w or 0 for w in weak]) else "weak"

    def systems(self, scored: Sequence[Scored]) -> list[System]:
        """The references as systems, one per seed (and weak seed)."""
        pairs = {
            (s.trial.seed, s.trial.weak_seed): np.asarray(s.split.test) for s in scored if s.trial.weak_seed is not None
        }
        found: list[System] = []
        for (seed, weak_seed), rows in pairs.items():
            for name, predicted in (("weak", self.weak[weak_seed]), ("fusion", self.fused[weak_seed])):
                found += self._system(name, seed, weak_seed, predicted, rows)
        for seed, rows in {seed: rows for (seed, _), rows in pairs.items()}.items():
            found += self._system("zero-shot", seed, None, self.zero_shot, rows)
        return found

    def _system(
        self, name: str, seed: int, weak_seed: int | None, predicted: Tensor | None, rows: np.ndarray
    ) -> list[System]:
        if predicted is None:
            return []
        run_id = digest_json([self.task.data, self.task.strong, self.task.weak, name, seed, weak_seed])[:16]
        labels = {"last": predicted.numpy()[rows].astype(np.int64)}
        return [System(name=name, seed=seed, weak_seed=weak_seed, run_id=run_id, labels=labels)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Context:
    task: Task
    ceilings: list[Scored]
    said: _References
    better: str
    mode: str
    load: float
    transductive: bool


def _weak_seed(task: Task, one: Scored) -> int:
    return one.trial.weak_seed if one.trial.weak_seed is not None else task.pairs([one.trial.seed])[0][1]


def _row(one: Scored, selection: str, context: _Context, *, run_id: str, precision: str, device: str) -> Row:
    task, trial, fit, said = context.task, one.trial, one.fit, context.said
    test = np.asarray(one.split.test)
    weak_seed = _weak_seed(task, one)
    weak_labels = said.weak[weak_seed].numpy()[test]
    truth = np.asarray(task.manifest.labels)[test]
    acc_weak = said.accuracy(said.weak[weak_seed], test)
    predicted = fit.predicted.get(selection)
    correct = one.correct(selection)
    acc = None if correct is None else float(correct.mean())
    same = None if predicted is None else np.asarray(predicted) == weak_labels
    weak_right = weak_labels == truth
    ceiling, best = (None, None) if trial.ceiling else _ceilings_of(one, selection, context)
    base = (
        said.zero_shot.numpy()[test] == truth
        if context.better == "zero-shot" and said.zero_shot is not None
        else weak_right
    )
    same_head = _pgr(weak_right, correct, ceiling)
    resolved, head = fit.resolved, fit.head
    return Row(
        schema=SCHEMA,
        run_id=run_id,
        status=fit.status,
        data=task.data,
        domain=task.domain,
        weak=task.weak,
        weak_seed=trial.weak_seed,
        strong=task.strong,
        method=trial.method.name,
        head=str(trial.method.head),
        loss=trial.method.loss_name,
        loss_resolved=trial.method.loss_resolved,
        init=getattr(head, "init_from", None) or "own",
        init_norm=getattr(head, "init_norm", None),
        feat_scale=head.x_scale if head.unit_x else None,
        template=task.template,
        supervision=trial.supervision,
        reads_truth=trial.settings.w_gt > 0 or trial.strategy.truth,
        transductive=context.transductive,
        stages=[dict(stage) for stage in one.student.details] or None,
        seed=trial.seed,
        split_seed=one.split.split_seed,
        selection=selection,
        selected_epoch=fit.selected_epoch.get(selection),
        agree_val=_on_val(one, selection, "agree_val"),
        acc_val=_on_val(one, selection, "acc_val"),
        acc_weak=acc_weak,
        acc_zero_shot=said.accuracy(said.zero_shot, test),
        acc_fusion=said.accuracy(said.fused[weak_seed], test),
        acc_w2s=acc,
        acc_w2s_pool=_pool_accuracy(one, selection, task) if context.mode == "paper" else None,
        acc_ceiling=None if ceiling is None else float(ceiling.mean()),
        acc_ceiling_best=None if best is None else float(best.mean()),
        pgr=_null(same_head),
        pgr_best=_null(_pgr(weak_right, correct, best)),
        pgr_zs=_null(_pgr(base, correct, ceiling)),
        pgr_flag=None if trial.ceiling else same_head.flag,
        agreement=None if same is None else float(same.mean()),
        agree_right=_mean_where(same, weak_right),
        agree_wrong=_mean_where(same, ~weak_right),
        n_train=fit.resolved["n_train"],
        n_test=len(test),
        optimizer=trial.settings.solver,
        schedule=trial.settings.schedule if resolved.get("schedule") else None,
        lr=resolved.get("lr"),
        warmup=resolved.get("warmup"),
        weight_decay=trial.settings.weight_decay,
        epochs=trial.settings.epochs or fit.run.epochs,
        batch_size=resolved.get("batch_size"),
        order=resolved.get("order"),
        tau_s=resolved.get("tau_s"),
        tau_w=resolved.get("tau_w"),
        precision=resolved.get("precision", precision),
        device=device,
        seconds=fit.seconds["total"],
        seconds_load=context.load + fit.seconds["load"],
        seconds_compile=fit.seconds["compile"],
        seconds_fit=fit.seconds["train"],
        seconds_evaluate=fit.seconds["evaluate"],
        stack=fit.stack,
        split=context.mode,
        split_hash=one.split.digest,
        truth_digest=task.manifest.truth_digest,
        feature_key=task.keys.get("features"),
        weak_key=(task.keys.get("weak") or {}).get(weak_seed),
        text_key=task.keys.get("text"),
        preds=None,
        code=CODE,
        note="; ".join([*fit.notes, *([task.text_note] if task.text_note else [])]) or None,
    )


def _ceilings_of(one: Scored, selection: str, context: _Context) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Correctness of the same head's ceiling and of the best one, which is chosen on hold-val, never on the test."""
    read = CEILING_SELECTION[selection]
    mine = [c for c in context.ceilings if c.trial.seed == one.trial.seed]
    same = next((c for c in mine if c.trial.ceiling_key == one.trial.ceiling_key), None)
    best = max(mine, key=lambda c: -1.0 if (v := _on_val(c, read, "acc_val")) is None else v, default=None)
    return (None if same is None else same.correct(read)), (None if best is None else best.correct(read))


def _on_val(one: Scored, selection: str, curve: str) -> float | None:
    """A curve of hold-val at the selected epoch; None where there is none."""
    epoch = one.fit.selected_epoch.get(selection)
    value = math.nan if epoch is None else float(one.fit.curves[curve][epoch])
    return None if math.isnan(value) else value


def _pgr(base: np.ndarray, correct: np.ndarray | None, ceiling: np.ndarray | None) -> PGR:
    if correct is None or ceiling is None:
        return PGR(value=math.nan, flag=None if correct is not None else "not measured")
    gap_se = paired_gap_se(ceiling, base)
    return pgr(float(base.mean()), float(correct.mean()), float(ceiling.mean()), gap_se=gap_se)


def _null(value: PGR) -> float | None:
    return None if math.isnan(value.value) else value.value


def _mean_where(values: np.ndarray | None, where: np.ndarray) -> float | None:
    return None if values is None or not where.any() else float(values[where].mean())


def _pool_accuracy(one: Scored, selection: str, task: Task) -> float | None:
    """Accuracy on all of the pool (D_test), most of which the student was trained on: the papers' literal text."""
    if selection not in one.fit.theta:
        return None
    module = classifier(one.fit.head, one.fit.theta[selection])
    features = task.features if one.student.request.features is None else one.student.request.features
    predicted = torch.full((len(task.ids),), -1)
    rows = torch.from_numpy(one.split.pool)
    with torch.inference_mode():
        for part, x in parts(features, rows):
            predicted[part] = module(x).argmax(-1)
    return references.accuracy(predicted[rows], task.labels[rows])


def _run_id(task: Task, one: Scored, mode: str, precision: str, *, transductive: bool) -> str:
    """16 hex digits over what decides the run, so that a repetition of the same run has the same id."""
    trial = one.trial
    fields: list[Any] = [
        task.data, task.strong, task.weak, task.keys.get("features"), task.keys.get("text"), task.template,
        (task.keys.get("weak") or {}).get(trial.weak_seed), task.manifest.truth_digest,
        trial.method.name, str(trial.method.head), trial.method.loss_identity, str(trial.settings),
        trial.seed, trial.weak_seed, trial.supervision, mode, precision, one.split.digest,
        *([task.keys.get("teachers"), task.keys.get("weak")] if trial.strategy.teachers > 1 else []),
        *([spaces] if (spaces := task.keys.get("encoders")) and trial.supervision not in ("weak", "gt") else []),
        *(["transductive"] if transductive else []),
        *([order] if (order := one.fit.resolved.get("order")) not in (None, "resident") else []),
    ]  # fmt: skip
    return digest_json(fields)[:16]
