"""Test images in two dimensions of the strong encoder's space, with the class weights among them."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import UsageError
from w2s_fast.report.pictures.style import COLOURS, INK, MARKS, figure
from w2s_fast.results.fitted_head import FittedHead
from w2s_fast.results.results import Results

SHOWN = len(COLOURS)
"""Classes that a map can tell apart."""


def draw(
    results: Results, *, method: str | None = None, selection: str = "last", by: str = "pca", most: int = SHOWN
) -> Figure:
    """Features of the test images of the first `most` classes, and their class weights (large crosses), by PCA or UMAP.

    The axes are those of the unit features alone; class weights are moved to the same mean. by: `pca`, or `umap`
    (pip install umap-learn), whose distances between groups say little.
    """
    fitted = results.best(selection, method=method)
    assert isinstance(fitted, FittedHead), "networks have no class weights on cached features"
    task, rows = fitted.task, torch.from_numpy(fitted.split.test)
    x, w, labels = task.features, fitted.head.weights(fitted.theta)[0].detach(), task.labels[rows]
    assert isinstance(x, Tensor)
    most = min(most, SHOWN)
    chosen = labels < most
    x, labels, w = (
        normalize(x[rows][chosen].double(), dim=-1),
        labels[chosen],
        normalize(w.double()[: min(most, SHOWN)], dim=-1),
    )
    points, weights = flat(x, w, by=by)
    made, (axes,) = figure(1, width=5.0, height=3.8)
    for c in range(len(w)):
        here = (labels == c).numpy()
        axes.plot(*points[here].T, MARKS[c], color=COLOURS[c], markersize=3, alpha=0.6, label=task.classes[c])
        axes.plot(*weights[c], "X", color=COLOURS[c], markersize=11, markeredgecolor=INK)
    axes.set_xlabel(f"{by} 1")
    axes.set_ylabel(f"{by} 2")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return made


def flat(x: Tensor, w: Tensor, *, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates for rows x f[n, d] and w f[k, d]."""
    if by == "pca":
        _, _, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        axes = v[:2] * torch.where(v[:2].abs().max(1).values == v[:2].max(1).values, 1.0, -1.0).unsqueeze(1)
        return ((x - x.mean(0)) @ axes.T).numpy(), ((w - w.mean(0)) @ axes.T).numpy()
    if by != "umap":
        raise UsageError(f"by={by!r} is neither 'pca' nor 'umap'")
    try:
        import umap  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError("by='umap' needs umap-learn: pip install umap-learn; or take by='pca'") from None
    both = umap.UMAP(random_state=0, metric="cosine").fit_transform(torch.cat([x, w]).numpy())
    return np.asarray(both[: len(x)]), np.asarray(both[len(x) :])
