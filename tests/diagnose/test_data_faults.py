"""Planted faults are named: copies, a leaking fold, swapped labels, outliers; and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diagnose_worlds import clusters, planted, precision_recall

from w2s_fast.diagnose import diagnose
from w2s_fast.diagnose.duplicates import near_pairs, sets_of
from w2s_fast.diagnose.imbalance import Imbalance
from w2s_fast.diagnose.outliers import Outliers
from w2s_fast.diagnose.subject import Subject


@pytest.fixture(scope="module")
def world() -> tuple[Subject, dict]:
    clean = clusters(n=1500, k=6, d=24, spread=0.5)
    return planted(clean, copies=12, swapped=40, leaks=9)


def test_planted_copies_and_leaks_are_all_named_and_nothing_else(world: tuple[Subject, dict]) -> None:
    subject, faults = world
    sets = {tuple(sorted(r["ids"].split())) for r in diagnose(subject, ["duplicates"])[0].records()}
    leaks = {tuple(sorted((r["id"], r["other"]))) for r in diagnose(subject, ["leakage"])[0].records()}
    for what, found, wanted in (
        ("duplicates", sets, faults["copies"] | faults["leaks"]),
        ("leakage", leaks, faults["leaks"]),
    ):
        precision, recall = precision_recall(found, wanted)
        print(f"{what}: {len(wanted)} planted, {len(found)} named, precision {precision:.3f}, recall {recall:.3f}")
        assert (precision, recall) == (1, 1)


def test_swapped_labels_are_all_named(world: tuple[Subject, dict]) -> None:
    subject, faults = world
    found = {r["id"] for r in diagnose(subject, ["mislabelled"])[0].records()}
    precision, recall = precision_recall(found, faults["swapped"])
    print(f"mislabelled: {len(faults['swapped'])} planted, {len(found)} named, {precision:.3f}, {recall:.3f}")
    assert (precision, recall) == (1, 1)


def test_pairs_are_those_of_all_distances(world: tuple[Subject, dict]) -> None:
    subject, _ = world
    x = subject.features.double().numpy()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    far = 1 - unit @ unit.T
    np.fill_diagonal(far, np.inf)
    least = 0.13 * np.median(far.min(1))
    pairs, ours = near_pairs(subject, 0.13)
    assert ours == pytest.approx(least, rel=1e-3)
    assert {(a, b) for a, b, _ in pairs} == {(a, b) for a, b in np.argwhere(far < least).tolist() if a < b}


def test_the_threshold_has_no_scale_and_equal_rows_are_always_found() -> None:
    subject = clusters(n=300)
    x = subject.features.clone()
    x[200:] = x[100:200]
    twice = replace(subject, features=x)
    found = {(a, b) for a, b, _ in near_pairs(twice, 0.01)[0]}
    assert {(i, i + 100) for i in range(100, 200)} <= found
    assert {(a, b) for a, b, _ in near_pairs(replace(twice, features=8 * x), 0.01)[0]} == found
    same = replace(subject, features=torch.ones(300, 8))
    assert len(list(sets_of(near_pairs(same, 0.13)[0], 300))) == 1, "all rows alike are one set"


def test_sets_are_joined_through_chains() -> None:
    assert list(sets_of([(4, 7, 0.0), (1, 2, 0.0), (2, 7, 0.0), (5, 6, 0.0)], 9)) == [[1, 2, 4, 7], [5, 6]]


def test_copies_with_two_labels_are_told() -> None:
    subject = clusters(n=80)
    x, labels = subject.features.clone(), torch.zeros(80, dtype=torch.int64)
    x[11], labels[11] = x[10], 3
    row = diagnose(replace(subject, features=x, labels=labels), ["duplicates(share=.001)"])[0].records()[0]
    assert row["ids"].split() == [subject.ids[10], subject.ids[11]]
    assert row["labels differ"] is True
    assert row["labels"] == "class 0 | class 3"


def test_outliers_are_far_from_all() -> None:
    subject = clusters(n=400, d=16, spread=0.3)
    x = subject.features.clone()
    g = torch.Generator().manual_seed(5)
    x[[17, 300]] = 5 * torch.randn(2, 16, generator=g)
    diagnosis = Outliers(k=5).of(replace(subject, features=x))
    named = [r["id"] for r in diagnosis.records()]
    assert {subject.ids[17], subject.ids[300]} <= set(named[:3])
    unit = x.double().numpy() / np.linalg.norm(x.double().numpy(), axis=1, keepdims=True)
    far = np.sort(1 - unit @ unit.T, axis=1)[:, 1:6].mean(1)
    spread = 1.4826 * np.median(np.abs(far - np.median(far)))
    assert set(named) == {subject.ids[i] for i in np.flatnonzero((far - np.median(far)) / spread > 6)}
    for row in diagnosis.records():
        i = subject.ids.index(row["id"])
        assert row["distance"] == pytest.approx(far[i], rel=1e-4)
        assert row["z"] == pytest.approx((far[i] - np.median(far)) / spread, rel=1e-3)
    assert Outliers().of(replace(subject, features=torch.ones(400, 16))).rows == ()


def test_imbalance_by_hand() -> None:
    subject = clusters(n=80)
    labels = torch.tensor([0] * 40 + [1] * 30 + [2] * 10)
    row = Imbalance().of(replace(subject, labels=labels)).records()[0]
    share = np.array([40, 30, 10]) / 80
    assert (row["ratio"], row["absent"], row["rarest"], row["rows of rarest"]) == (4, 2, "class 2", 10)
    assert row["even"] == pytest.approx(-(share * np.log(share)).sum() / np.log(5))
