"""Diagnostics of students against scikit-learn, scipy and naive loops."""

import numpy as np
import pytest
import torch
from diagnose_worlds import clusters
from sklearn import metrics

from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.diagnose import diagnose, missing, names
from w2s_fast.diagnose import make as make_diagnostic
from w2s_fast.diagnose.calibration import brier, ece
from w2s_fast.diagnose.paired import holm
from w2s_fast.diagnose.subject import Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return clusters()


def known(subject: Subject, student: str, weak: str = "weak/0"):
    said = subject.students[student]
    truth = subject.labels.numpy()[said.rows]
    at = truth >= 0
    probs = None if said.probs is None else said.probs.double().numpy()[at]
    return said.labels.numpy()[at], truth[at], subject.weak[weak].numpy()[said.rows][at].argmax(1), probs


def test_students_are_scored_as_scikit_learn_scores(subject: Subject) -> None:
    rows = diagnose(subject, ["students"])[0].records()
    assert [(r["student"], r["weak"]) for r in rows] == [(s, w) for s in subject.students for w in subject.weak]
    for row in rows:
        said, truth, weak, probs = known(subject, row["student"], row["weak"])
        assert row["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
        assert row["balanced"] == pytest.approx(metrics.balanced_accuracy_score(truth, said))
        assert row["agree right"] == pytest.approx(np.mean(said[weak == truth] == weak[weak == truth]))
        assert row["agree wrong"] == pytest.approx(np.mean(said[weak != truth] == weak[weak != truth]))
        assert row["corrected"] - row["spoiled"] == pytest.approx(row["gain"])
        assert row["gain"] == pytest.approx(np.mean(said == truth) - np.mean(weak == truth))
        assert (row["top-5"] is None) == (probs is None)


def test_top_k_is_scikit_learns(subject: Subject) -> None:
    from w2s_fast.diagnose.students import top

    _, truth, _, probs = known(subject, "good")
    for k in (1, 2, 4):
        wanted = metrics.top_k_accuracy_score(truth, probs, k=k, labels=np.arange(5))
        assert top(torch.from_numpy(probs), torch.from_numpy(truth), k) == pytest.approx(wanted)
    tied = torch.full((2, 4), 0.25)
    assert top(tied, torch.tensor([1, 3]), 2) == 0.5, "of equal probabilities the lower classes come first"


def test_recalls_and_confusions_are_scikit_learns(subject: Subject) -> None:
    gains = [
        r for r in diagnose(subject, ["class_gains"])[0].records() if r["student"] == "good" and r["weak"] == "weak/1"
    ]
    said, truth, weak, _ = known(subject, "good", "weak/1")
    ours, theirs = (metrics.recall_score(truth, x, average=None, labels=np.arange(5)) for x in (said, weak))
    for row in gains:
        c = subject.classes.index(row["class"])
        assert (row["student recall"], row["weak recall"]) == (pytest.approx(ours[c]), pytest.approx(theirs[c]))
        assert row["rows"] == (truth == c).sum()
    changes = [abs(r["gain"]) for r in gains]
    assert changes == sorted(changes, reverse=True)
    matrix = metrics.confusion_matrix(truth, weak, labels=np.arange(5))
    shown = [
        r for r in diagnose(subject, ["confusion"])[0].records() if r["student"] == "good" and r["weak"] == "weak/1"
    ]
    assert sum(r["rows"] for r in shown) == matrix.sum() - np.trace(matrix)
    for row in shown:
        i, j = subject.classes.index(row["class"]), subject.classes.index(row["weak label"])
        here = (truth == i) & (weak == j)
        assert row["rows"] == matrix[i, j]
        assert (row["kept"], row["corrected"]) == ((said[here] == j).sum(), (said[here] == i).sum())


def test_calibration_is_that_of_naive_loops(subject: Subject) -> None:
    _, truth, _, probs = known(subject, "poor")
    sure, said = probs.max(1), probs.argmax(1)
    total = 0.0
    for low in np.arange(15) / 15:
        here = (sure > low) & (sure <= low + 1 / 15)
        if here.any():
            total += here.sum() * abs((said == truth)[here].mean() - sure[here].mean())
    given = torch.from_numpy(probs), torch.from_numpy(truth)
    assert ece(*given, bins=15) == pytest.approx(total / len(truth))
    assert brier(*given) == pytest.approx(np.mean(((probs - np.eye(5)[truth]) ** 2).sum(1)))
    row = next(r for r in diagnose(subject, ["calibration"])[0].records() if r["system"] == "poor")
    assert row["ece"] == pytest.approx(total / len(truth))
    assert row["nll"] == pytest.approx(
        metrics.log_loss(truth, probs / probs.sum(1, keepdims=True), labels=np.arange(5))
    )
    systems = [r["system"] for r in diagnose(subject, ["calibration"])[0].records()]
    assert systems == ["weak/0", "weak/1", "zero-shot", "good", "poor"]
    bins = [r for r in diagnose(subject, ["reliability"])[0].records() if r["system"] == "poor"]
    assert sum(r["rows"] for r in bins) == len(truth)
    assert sum(r["rows"] * r["accuracy"] for r in bins) / len(truth) == pytest.approx(np.mean(said == truth))


def test_a_confidence_on_a_border_belongs_below_it() -> None:
    probs, truth = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 0])
    assert ece(probs, truth, bins=2) == pytest.approx(0.25)


def test_misfit_is_that_of_naive_loops(subject: Subject) -> None:
    row = next(r for r in diagnose(subject, ["misfit"])[0].records() if (r["student"], r["weak"]) == ("good", "weak/0"))
    said = subject.students["good"]
    p, z = said.probs.double().numpy(), subject.weak["weak/0"].double().numpy()[said.rows]
    q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    assert row["disagree"] == pytest.approx(np.mean(p.argmax(1) != q.argmax(1)))
    assert row["squared"] == pytest.approx(((p - q) ** 2).sum(1).mean())
    assert row["kl"] == pytest.approx((p * np.log(p / q)).sum(1).mean())
    truth = subject.labels.numpy()[said.rows]
    at, hot = truth >= 0, np.eye(5)[np.maximum(truth, 0)]
    assert row["gain"] == pytest.approx(np.mean((p.argmax(1) == truth)[at]) - np.mean((q.argmax(1) == truth)[at]))
    assert row["gain squared"] == pytest.approx((((q - hot) ** 2).sum(1) - ((p - hot) ** 2).sum(1))[at].mean())


def test_pairs_are_tested_and_corrected() -> None:
    from scipy.stats import binomtest

    subject = clusters(n=320)
    rows = diagnose(subject, ["pairs"])[0].records()
    assert len(rows) == 3
    for row in rows:
        truth = subject.labels.numpy()[subject.students[row["a"]].rows]
        a, b = (subject.students[row[s]].labels.numpy() == truth for s in "ab")
        only = (a & ~b).sum(), (b & ~a).sum()
        assert (row["only a right"], row["only b right"]) == only
        assert row["p"] == pytest.approx(binomtest(int(min(only)), int(sum(only))).pvalue)
    assert [r["holm"] for r in rows] == holm([r["p"] for r in rows])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_reads_truth_cannot_be_asked_without(subject: Subject) -> None:
    blind = subject.without_truth()
    for name in names():
        one = make_diagnostic(name)
        if "labels" in one.needs:
            assert missing(one, blind) == "ground truth"
            with pytest.raises(UsageError, match=f"{name}.*needs ground truth"):
                diagnose(blind, [name])
    given = diagnose(blind)
    assert given
    assert not any(d.reads_truth for d in given)
    assert {d.name for d in diagnose(subject)} == set(names())
    with pytest.raises(DataError, match="--no-truth"):
        blind.truth(np.array([0]))


def test_unknown_names_and_options_are_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'purity'"):
        diagnose(clusters(n=40), ["puriti"])
    with pytest.raises(UsageError, match="no parameter 'kk'"):
        diagnose(clusters(n=40), ["weak_errors(kk=3)"])
    with pytest.raises(UsageError, match="outside"):
        diagnose(clusters(n=40), ["duplicates(share=2)"])
