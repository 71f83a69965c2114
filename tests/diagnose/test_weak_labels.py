"""Diagnostics of weak labels, against naive NumPy over brute-force neighbours and cleanlab's confident joint."""

import numpy as np
import pytest
import torch
from diagnose_worlds import clusters

from w2s_fast.diagnose import diagnose
from w2s_fast.diagnose.confident_joint import calibrated, confident_joint, neighbour_probs
from w2s_fast.diagnose.subject import Subject


@pytest.fixture(scope="module")
def subject() -> Subject:
    return clusters()


def brute(x: np.ndarray, k: int) -> np.ndarray:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :k]


def of_pool(subject: Subject, k: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    pool = np.arange(len(subject) // 4, len(subject))
    near = brute(subject.features.numpy()[pool], k)
    return near, subject.labels.numpy()[pool], {n: z.numpy()[pool].argmax(1) for n, z in subject.weak.items()}


def test_purity_is_that_of_naive_loops(subject: Subject) -> None:
    found = {r["labels"]: r for r in diagnose(subject, ["purity"])[0].records()}
    near, truth, weak = of_pool(subject, 50)
    for name, labels in {**weak, "ground truth": truth}.items():
        for k in (1, 5, 10, 50):
            pairs = [(labels[i], labels[j]) for i in range(len(labels)) for j in near[i, :k]]
            known = [a == b for a, b in pairs if a >= 0 and b >= 0]
            assert found[name][f"k={k}"] == pytest.approx(np.mean(known))
        shares = np.bincount(labels[labels >= 0]) / (labels >= 0).sum()
        assert found[name]["base"] == pytest.approx((shares**2).sum())


def test_weak_errors_are_those_of_naive_loops(subject: Subject) -> None:
    diagnosis = diagnose(subject, ["weak_errors(k=7)"])[0]
    near, truth, weak = of_pool(subject, 7)
    for row in diagnosis.records():
        labels = weak[row["weak"]]
        flagged = np.array([np.bincount(labels[n], minlength=5).argmax() != labels[i] for i, n in enumerate(near)])
        wrong, known = labels != truth, truth >= 0
        expansion = np.array(
            [np.mean([truth[j] == truth[i] and not wrong[j] for j in near[i]]) for i in range(len(near))]
        )
        assert row["flagged"] == pytest.approx(flagged.mean())
        assert row["error"] == pytest.approx(wrong[known].mean())
        assert row["error_flagged"] == pytest.approx(wrong[known & flagged].mean())
        assert row["error_unflagged"] == pytest.approx(wrong[known & ~flagged].mean())
        assert row["recall"] == pytest.approx(flagged[known & wrong].mean())
        assert row["expansion"] == pytest.approx(expansion[known & wrong].mean())
        assert row["robust"] == pytest.approx((~flagged)[known & ~wrong].mean())
    blind = diagnose(subject.without_truth(), ["weak_errors(k=7)"])[0]
    assert not blind.reads_truth
    assert blind.columns == ("weak", "rows", "flagged")
    assert blind.column("flagged") == diagnosis.column("flagged")


def test_overlap_is_cut_as_a_naive_search_cuts(subject: Subject) -> None:
    rows = [r for r in diagnose(subject, ["overlap"])[0].records() if r["weak"] == "weak/0"]
    pool = np.arange(len(subject) // 4, len(subject))
    z, x = subject.weak["weak/0"].double().numpy()[pool], subject.features.double().numpy()[pool]
    p = np.exp(z - z.max(1, keepdims=True))
    sure = (p / p.sum(1, keepdims=True)).max(1)

    def cut(values: np.ndarray) -> float:
        s = np.sort(values)
        within = [
            ((s[:c] - s[:c].mean()) ** 2).sum() + ((s[c:] - s[c:].mean()) ** 2).sum() for c in range(2, len(s) - 1)
        ]
        return s[2 + int(np.argmin(within))]

    hard = sure < cut(sure)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = (unit[~hard] @ unit[hard].T).max(1)
    assert [r["rows"] for r in rows] == [
        int(hard.sum()), int((near >= cut(near)).sum()), int((near < cut(near)).sum())
    ]  # fmt: skip
    assert rows[0]["cut"] == pytest.approx(cut(sure))
    wrong = z.argmax(1) != subject.labels.numpy()[pool]
    known = subject.labels.numpy()[pool] >= 0
    assert rows[0]["weak_error"] == pytest.approx(wrong[hard & known].mean())


@pytest.mark.parametrize("seed", range(4))
def test_confident_joint_is_cleanlabs(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count")
    rng = np.random.default_rng(seed)
    n, k = 500, 6
    truth = rng.integers(k, size=n)
    labels = np.where(rng.random(n) < 0.3, rng.integers(k, size=n), truth)
    probs = rng.dirichlet(np.ones(k), size=n) + 1.5 * np.eye(k)[truth] * rng.random((n, 1))
    if seed == 3:  # probabilities that tie, as shares of neighbours do
        probs = np.round(probs, 1) + 0.1
    probs /= probs.sum(1, keepdims=True)
    ours, theirs = confident_joint(labels, probs), count.compute_confident_joint(labels, probs, calibrate=False)
    np.testing.assert_array_equal(ours, theirs)
    scaled = calibrated(ours, np.bincount(labels, minlength=k))
    assert scaled.sum() == pytest.approx(1)
    np.testing.assert_allclose(scaled.sum(1), np.bincount(labels, minlength=k) / n)
    rounded = count.estimate_joint(labels, probs, confident_joint=theirs)  # to whole rows, hence within one
    np.testing.assert_allclose(scaled, rounded, atol=1 / n)


def test_confident_joint_of_neighbours_votes_is_cleanlabs(subject: Subject) -> None:
    count = pytest.importorskip("cleanlab.count")
    near, _, weak = of_pool(subject, 20)
    labels = weak["weak/0"]
    probs = np.stack([np.bincount(labels[n], minlength=5) / 20 for n in near])
    ours = neighbour_probs(torch.from_numpy(labels), torch.from_numpy(near), 5).numpy()
    np.testing.assert_allclose(ours, probs)
    theirs = count.compute_confident_joint(labels, probs, calibrate=False)
    shown = [r for r in diagnose(subject, ["confident_joint"])[0].records() if r["weak"] == "weak/0"]
    assert shown
    for row in shown:
        at = subject.classes.index(row["weak label"]), subject.classes.index(row["class"])
        assert row["likely"] == theirs[at]


def test_a_label_without_rows_and_rows_confident_of_nothing() -> None:
    labels, probs = np.array([0, 0, 1]), np.array([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7], [0.4, 0.6, 0.0]])
    joint = confident_joint(labels, probs)
    assert joint.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]], "the second row is sure of a class that none carries"
    assert calibrated(joint, np.array([2, 1, 0])).sum() == pytest.approx(1)
    assert calibrated(np.zeros((3, 3), np.int64), np.array([2, 1, 0])).tolist() == [
        [2 / 3, 0, 0], [0, 1 / 3, 0], [0, 0, 0]
    ]  # fmt: skip


def test_discrepancy_is_that_of_dense_kernels(subject: Subject) -> None:
    rows = {r["weak view"]: r for r in diagnose(subject, ["discrepancy(tail=.1, ridge=.05)"])[0].records()}
    pool = np.arange(len(subject) // 4, len(subject))
    views = {"weak/0 logits": subject.weak["weak/0"], "other": subject.spaces["other"], "strong": subject.features}

    def parts(x: torch.Tensor) -> tuple[np.ndarray, int, np.ndarray]:
        m = x.double().numpy()[pool]
        m = m - m.mean(0)
        kernel = m @ m.T
        values, vectors = np.linalg.eigh(kernel)
        values, vectors = values[::-1], vectors[:, ::-1]
        d = next(i for i in range(1, len(values) + 1) if values[i:].sum() <= 0.1 * values.sum())
        smooth = kernel @ np.linalg.inv(kernel + 0.05 * values[0] * np.eye(len(kernel)))
        return vectors[:, :d], d, smooth

    u_s, d_s, p_s = parts(views["strong"])
    for name in ("weak/0 logits", "other"):
        u_w, d_w, p_w = parts(views[name])
        assert (rows[name]["d_s"], rows[name]["d_w"]) == (d_s, d_w)
        overlap = np.linalg.norm(u_s.T @ u_w) ** 2
        assert rows[name]["overlap"] == pytest.approx(overlap)
        assert rows[name]["apart"] == pytest.approx(d_w - overlap)
        assert rows[name]["reach"] == pytest.approx(np.linalg.norm(p_s @ (np.eye(len(pool)) - p_w), 2))
