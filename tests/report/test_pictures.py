"""Every picture is drawn from real fits, says the numbers that it shows, and is the same file twice."""

from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import gaussian_task

import w2s_fast as w2s
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.results.results import Results

pytest.importorskip("matplotlib")
from w2s_fast.report.pictures import PICTURES
from w2s_fast.report.pictures.beta import betas
from w2s_fast.report.pictures.features import flat
from w2s_fast.report.pictures.style import looks


@pytest.fixture(scope="module")
def results() -> Results:
    task = gaussian_task(n=400, k=5)
    return w2s.fit(task, loss="kd", head="linear", seeds=2, epochs=4, lr=[0.01, 0.05], tau_s=[0.5, 1.0]) + w2s.fit(
        task, method="cpl", seeds=2, epochs=4
    )


OPTIONS = {"sensitivity": {"x": "lr"}, "beta": {"method": "cpl"}, "features": {"method": "cpl"}}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_drawn_and_the_same_twice(results: Results, kind: str, tmp_path: Path) -> None:
    every = (("svg", b"<svg"), ("pdf", b"%PDF"), ("png", b"\x89PNG"))
    for ending, mark in every if kind == "pgr" else every[:1]:
        files = [tmp_path / f"{n}.{ending}" for n in range(2)]
        for file in files:
            results.picture(kind, file, **OPTIONS.get(kind, {}))
        assert mark in files[0].read_bytes()[:1000]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_curves_are_the_means_of_runs(results: Results) -> None:
    (axes,) = results.picture("curves").axes
    runs = [100 * one.curves["acc_test"] for one in results.fits if one.method == "cpl" and not one.ceiling]
    (line,) = (one for one in axes.lines if one.get_label() == "cpl")
    np.testing.assert_allclose(line.get_ydata(), np.mean(runs, axis=0))


def test_sensitivity_and_map_are_means_over_rows(results: Results) -> None:
    rows = [r for r in results.rows if r["selection"] == "last" and r["role"] == "student"]
    linear = [r for r in rows if r["method"].startswith("kd+lp")]
    taus, lrs = (sorted({r[k] for r in linear}) for k in ("tau_s", "lr"))
    assert (taus, lrs) == ([0.5, 1.0], [0.01, 0.05])

    def mean(**at: float) -> float:
        return float(np.mean([100 * r["acc_w2s"] for r in linear if all(r[k] == v for k, v in at.items())]))

    maps = {axes.get_title(): axes for axes in results.picture("map", x="tau_s", y="lr").axes}
    table = maps["kd+lp: accuracy, %"].images[0].get_array()
    assert table.tolist() == [[pytest.approx(mean(lr=lr, tau_s=tau)) for tau in taus] for lr in lrs]
    (axes,) = results.picture("sensitivity", x="lr").axes
    drawn = {box.get_label(): box.lines[0].get_ydata().tolist() for box in axes.containers}
    for tau in taus:
        assert drawn[f"kd+lp[tau_s={tau}]"] == [pytest.approx(mean(lr=lr, tau_s=tau)) for lr in lrs]


def test_gain_has_a_point_per_run(results: Results) -> None:
    (axes,) = results.picture("gain").axes
    points = {(round(x, 6), round(y, 6)) for line in axes.lines[:-1] for x, y in zip(*line.get_data(), strict=True)}
    rows = [r for r in results.rows if r["selection"] == "last" and r["role"] == "student"]
    wanted = {(round(100 * r["acc_weak"], 6), round(100 * (r["acc_w2s"] - r["acc_weak"]), 6)) for r in rows}
    assert points == wanted


def test_betas_are_those_of_the_formula(results: Results) -> None:
    agree, differ = betas(results, method="cpl", selection="last", T=0.5)
    fitted = results.best("last", method="cpl")
    rows = fitted.split.test
    z = fitted.to_torch()(fitted.task.features[torch.from_numpy(rows)]).detach().double().numpy() / fitted.head.tau_s
    assert len(agree) + len(differ) == len(rows)
    assert agree == pytest.approx(0.5)
    weak = fitted.supervision.weak[torch.from_numpy(rows)].numpy().argmax(-1)
    at = np.flatnonzero(z.argmax(1) != weak)
    wanted = 1 / (1 + np.exp(-(z[at, weak[at]] - z[at].max(1)) / 0.5))
    np.testing.assert_allclose(differ, wanted, rtol=1e-3, atol=1e-6)


def test_pca_is_scikit_learns() -> None:
    from sklearn.decomposition import PCA

    x = torch.randn(80, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points, _ = flat(x, x[:3], by="pca")
    theirs = PCA(2).fit_transform(x.numpy())
    np.testing.assert_allclose(np.abs(points), np.abs(theirs), atol=1e-9)


def test_what_cannot_be_drawn_is_told(results: Results, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'curves'"):
        results.picture("curvs")
    with pytest.raises(UsageError, match="one of these endings"):
        results.picture("pgr", tmp_path / "a.gif")
    with pytest.raises(DataError, match="what w2s.fit returned"):
        Results(rows=results.rows).picture("curves")
    with pytest.raises(UsageError, match="no run has a number under 'tau'"):
        results.picture("sensitivity", x="tau")
    assert len(set(looks(map(str, range(16))).values())) == 16, "sixteen systems look different"


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    from page_worlds import HOSTILE, rows

    made = Results(rows=rows(52, hostile=True)).picture("gain", tmp_path / "a.svg")
    assert made.axes
    text = (tmp_path / "a.svg").read_text()
    assert "<script" not in text
    assert HOSTILE[4].replace("<", "&lt;").replace(">", "&gt;") in text
