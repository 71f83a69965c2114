"""The adaptive confidence of AdaptConf over the test images, as its figure 3."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from w2s_fast.report.pictures.style import COLOURS, figure
from w2s_fast.results.fitted_head import FittedHead
from w2s_fast.results.results import Results


def draw(
    results: Results, *, method: str | None = None, selection: str = "last", T: float = 0.5, bins: int = 25
) -> Figure:
    """Histograms of b over the test images where student and supervisor agree, and where they differ.

    Taken at the end of the fit of the best run of `method`. Source: Guo et al. 2024 (arXiv 2402.03749), figure 3.
    """
    agree, differ = betas(results, method=method, selection=selection, T=T)
    made, (axes,) = figure(1, width=4.2)
    edges = np.linspace(0, 0.5, bins + 1)
    axes.hist([agree, differ], bins=edges.tolist(), stacked=True, color=list(COLOURS[:2]),
              label=[f"agree ({len(agree)})", f"differ ({len(differ)})"])  # fmt: skip
    axes.set_xlabel("b = sigmoid((z_w - z_s) / T)")
    axes.set_ylabel("test images")
    axes.legend()
    return made


def betas(results: Results, *, method: str | None, selection: str, T: float) -> tuple[np.ndarray, np.ndarray]:
    """b of the test images on which the best run agrees with its weak model, and of those on which it does not."""
    fitted = results.best(selection, method=method)
    assert isinstance(fitted, FittedHead), "networks are drawn from their kept predictions"
    task, rows = fitted.task, torch.from_numpy(fitted.split.test)
    features = task.features
    assert isinstance(features, Tensor)
    with torch.no_grad():
        z = fitted.to_torch()(features[rows]) / fitted.head.tau_s
    taught = fitted.supervision.weak[rows].double().softmax(-1)
    weak = (taught if taught.ndim == 2 else taught.mean(1)).argmax(-1, keepdim=True)
    own = z.argmax(-1, keepdim=True)
    b = torch.sigmoid((z.gather(1, weak) - z.gather(1, own)) / T)[:, 0].numpy()
    same = (weak == own)[:, 0].numpy()
    return b[same], b[~same]
