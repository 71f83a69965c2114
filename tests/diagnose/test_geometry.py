"""Spectra, alignment and prototypes against NumPy's own decompositions."""

import math

import numpy as np
import pytest
import torch
from diagnose_worlds import clusters

from w2s_fast.diagnose import diagnose
from w2s_fast.diagnose.prototypes import angles
from w2s_fast.diagnose.spectrum import cka, effective_rank, intrinsic_dimension


def test_spectrum_is_numpys() -> None:
    subject = clusters()
    x = subject.features.double().numpy()[len(subject) // 4 :]
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    share = values / values.sum()
    row = diagnose(subject, ["spectrum(tail=.05)"])[0].records()[0]
    assert row["features"] == "strong"
    assert row["effective rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert row["intrinsic dimension"] == next(d for d in range(1, 9) if share[d:].sum() <= 0.05)
    assert row["first"] == pytest.approx(share[0])


def test_ranks_of_known_spectra() -> None:
    assert effective_rank(torch.ones(7)) == pytest.approx(7)
    assert effective_rank(torch.tensor([1.0, 0.0])) == 1
    assert effective_rank(torch.zeros(3)) == 0
    assert intrinsic_dimension(torch.tensor([8.0, 1.0, 1.0]), 0.15) == 2
    assert intrinsic_dimension(torch.tensor([8.0, 1.0, 1.0]), 0.2) == 1
    assert intrinsic_dimension(torch.zeros(3), 0.1) == 0


def test_cka_is_that_of_centred_kernels() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 9, generator=g) + 3, torch.randn(60, 4, generator=g)
    centre = np.eye(60) - 1 / 60
    k, m = (centre @ (z.double() @ z.double().T).numpy() @ centre for z in (x, y))
    assert cka(x, y) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))
    turn = torch.linalg.qr(torch.randn(9, 9, generator=g))[0]
    assert cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert cka(x, torch.ones(60, 2)) is None


def test_prototypes_by_hand() -> None:
    subject = clusters()
    rows = diagnose(subject, ["prototypes"])[0].records()
    w, text = subject.heads["learned"].double().numpy(), subject.text.double().numpy()
    unit = w / np.linalg.norm(w, axis=1, keepdims=True)
    t = text / np.linalg.norm(text, axis=1, keepdims=True)
    drift = np.degrees(np.arccos((unit * t).sum(1)))
    cosines = unit @ unit.T
    between = cosines - 9 * np.eye(5)
    whole, by_class = rows[0], rows[1:]
    assert whole["class"] == "all"
    assert whole["drift"] == pytest.approx(drift.mean())
    assert whole["cosine"] == pytest.approx(cosines[~np.eye(5, dtype=bool)].mean())
    assert whole["norm"] == pytest.approx(np.linalg.norm(w, axis=1).mean())
    assert [subject.classes.index(r["class"]) for r in by_class] == np.argsort(-drift).tolist()
    for row in by_class:
        c = subject.classes.index(row["class"])
        assert row["drift"] == pytest.approx(drift[c])
        assert subject.classes.index(row["nearest"]) == between[c].argmax()
        assert row["cosine"] == pytest.approx(between[c].max())


def test_small_angles_are_exact() -> None:
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1e-9], [-3.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    np.testing.assert_allclose(angles(a, b).numpy(), [math.degrees(1e-9), 180, 0], rtol=1e-6)
