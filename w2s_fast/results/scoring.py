"""Fits become rows: accuracies on the same test items, agreement, guarded PGR, references and keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w2s_fast.core.hashing import digest_json
from w2s_fast.core.rows import SCHEMA, Row
from w2s_fast.core.statistics import PGR, paired_gap_se, pgr
from w2s_fast.core.version import CODE
from w2s_fast.results.outcome import Outcome
from w2s_fast.results.predictions import CEILING_SELECTION, Predictions, System
from w2s_fast.results.results import Results
from w2s_fast.results.summary import group_of
from w2s_fast.tasks import references
from w2s_fast.tasks.task import Task
from w2s_fast.train import SELECTIONS


def score(task: Task, outcomes: Sequence[Outcome], *, mode: str, device: str, unfinished: int = 0) -> Results:
    """One row per run and selection, ceilings included, and the predictions of every system.

    Students that saw test images, and so are transductive, are a group of their own, with the same references and
    ceilings. unfinished: how many more fits were asked for; what is measured against a missing ceiling is then null.
    """
    seen = [s for s in outcomes if s.transductive]
    others = [s for s in outcomes if not s.transductive]
    pages: list[tuple[list[Outcome], bool]] = [(others, False)] if others else []
    if seen:
        pages += [([*seen, *(s for s in others if s.ceiling)], True)]
    found = [_page(task, page, mode=mode, device=device, transductive=t) for page, t in pages]
    return Results(
        rows=[row for page in found for row in page.rows],
        kept=tuple(kept for page in found for kept in page.kept),
        fits=tuple(outcomes),
        unfinished=unfinished,
    )


def _page(task: Task, scored: Sequence[Outcome], *, mode: str, device: str, transductive: bool) -> Results:
    """The results of runs that are ranked together."""
    ceilings = [s for s in scored if s.ceiling and s.status == "ok"]
    said = _References(task)
    better = said.better_base([s for s in scored if not s.ceiling])
    rows: list[Row] = []
    systems: dict[str, System] = {}
    for one in scored:
        run_id = one.run_id(transductive=transductive)
        labels = {sel: np.asarray(p).astype(np.int64) for sel, p in one.predicted.items()}
        systems[run_id] = System(name=one.method, seed=one.seed, weak_seed=one.weak_seed, run_id=run_id, labels=labels)
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
            rows.append(_row(one, selection, context, run_id=run_id, device=device))
    for system in said.systems(scored):
        systems[system.run_id] = system
    kept = Predictions(
        group=group_of(rows[0]),
        systems=tuple(systems.values()),
        rows={s.seed: np.asarray(s.split.test) for s in scored},
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

    def better_base(self, students: Sequence[Outcome]) -> str:
        """Which of weak and zero-shot is better in the mean over runs: the base of `pgr_zs`."""
        if self.zero_shot is None or not students:
            return "weak"
        weak = [self.accuracy(self.weak[_weak_seed(self.task, s)], s.split.test) for s in students]
        prior = [self.accuracy(self.zero_shot, s.split.test) for s in students]
        return "zero-shot" if np.mean([p or 0 for p in prior]) > np.mean([w or 0 for w in weak]) else "weak"

    def systems(self, scored: Sequence[Outcome]) -> list[System]:
        """The references as systems, one per seed (and weak seed)."""
        pairs = {(s.seed, s.weak_seed): np.asarray(s.split.test) for s in scored if s.weak_seed is not None}
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
    ceilings: list[Outcome]
    said: _References
    better: str
    mode: str
    load: float
    transductive: bool


def _weak_seed(task: Task, one: Outcome) -> int:
    return one.weak_seed if one.weak_seed is not None else task.pairs([one.seed])[0][1]


def _row(one: Outcome, selection: str, context: _Context, *, run_id: str, device: str) -> Row:
    task, said, resolved = context.task, context.said, one.resolved
    test = np.asarray(one.split.test)
    weak_seed = _weak_seed(task, one)
    weak_labels = said.weak[weak_seed].numpy()[test]
    truth = np.asarray(task.manifest.labels)[test]
    acc_weak = said.accuracy(said.weak[weak_seed], test)
    predicted = one.predicted.get(selection)
    correct = None if predicted is None else np.asarray(predicted) == truth
    acc = None if correct is None else float(correct.mean())
    same = None if predicted is None else np.asarray(predicted) == weak_labels
    weak_right = weak_labels == truth
    ceiling, best = (None, None) if one.ceiling else _ceilings_of(one, selection, context)
    base = (
        said.zero_shot.numpy()[test] == truth
        if context.better == "zero-shot" and said.zero_shot is not None
        else weak_right
    )
    same_head = _pgr(weak_right, correct, ceiling)
    return Row(
        schema=SCHEMA,
        run_id=run_id,
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
        transductive=context.transductive,
        stages=[dict(stage) for stage in one.stages] or None,
        seed=one.seed,
        split_seed=one.split.split_seed,
        selection=selection,
        selected_epoch=one.selected_epoch.get(selection),
        agree_val=one.at_selection(selection, "agree_val"),
        acc_val=one.at_selection(selection, "acc_val"),
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
        device=device,
        seconds=one.seconds["total"],
        seconds_load=context.load + one.seconds.get("load", 0.0),
        seconds_compile=one.seconds.get("compile", 0.0),
        seconds_fit=one.seconds.get("train", 0.0),
        seconds_evaluate=one.seconds.get("evaluate", 0.0),
        stack=resolved.get("stack", 0),
        split=context.mode,
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
        note="; ".join([*one.notes, *([task.text_note] if task.text_note else [])]) or None,
    )


def _ceilings_of(one: Outcome, selection: str, context: _Context) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Correctness of the same head's ceiling and of the best one, which is chosen on hold-val, never on the test."""
    read = CEILING_SELECTION[selection]
    mine = [c for c in context.ceilings if c.seed == one.seed]
    same = next((c for c in mine if c.ceiling_key == one.ceiling_key), None)
    best = max(mine, key=lambda c: -1.0 if (v := c.at_selection(read, "acc_val")) is None else v, default=None)
    return _correct(same, read, context.task), _correct(best, read, context.task)


def _correct(one: Outcome | None, selection: str, task: Task) -> np.ndarray | None:
    """bool[n_test], or None where there is no run, or none under this selection."""
    predicted = None if one is None else one.predicted.get(selection)
    return None if one is None or predicted is None else np.asarray(predicted) == task.manifest.labels[one.split.test]


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
    return references.accuracy(predicted, task.labels[torch.from_numpy(rows)])
