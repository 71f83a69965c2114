"""A small table of features with weak labels, and what heads start from."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from w2s_fast.heads import Start, make


class Table:
    """A feature table that is read in parts of 7 rows, so that sums over parts are tested."""

    def __init__(self, x):
        self.x, (self.n, self.d) = x, x.shape

    def batches(self, rows, size):
        for i in range(0, len(rows), 7):
            yield rows[i : i + 7], self.x[rows[i : i + 7]]


class World:
    """N rows of which all but the first three are train rows; labels -1 are unknown."""

    K, D, N = 4, 8, 40

    def __init__(self, *, text=True, labels=True, missing=None, tower=None, names=()):
        g = torch.Generator().manual_seed(4)
        k, d, n = self.K, self.D if tower is None else tower.params()["text_projection"].shape[1], self.N
        self.x = torch.randn(n, d, generator=g)
        self.weak = 2 * torch.randn(n, k, generator=g)
        self.labels = torch.randint(0, k, (n,), generator=g)
        if missing is not None:
            self.labels[self.labels == missing] = (missing + 1) % k
        self.labels[::9] = -1
        self.rows = torch.arange(3, n)
        self.text = 3 * torch.randn(k, d, generator=g)
        self.start = Start(k=k, d=d, text=self.text if text else None, tower=tower, names=names)
        self.supervision = SimpleNamespace(
            probs=lambda rows: self.weak[rows].softmax(-1), labels=self.labels if labels else None
        )

    def begin(self, spec, *, seed=0):
        """The bound head and its parameters."""
        head = make(spec).bind(self.start)
        theta = head.init(self.start, seed=seed, x=Table(self.x), rows=self.rows, supervision=self.supervision)
        return head, theta

    def hats(self):
        """Unit features f64[N, D]."""
        return torch.nn.functional.normalize(self.x.double(), dim=-1)


def logits(head, theta, x):
    """Logits f[b, k] of raw features f[b, d], as any head has them."""
    w, b = head.weights(theta)
    xhat = torch.nn.functional.normalize(x, dim=-1) if head.unit_x else x
    z = head.x_scale * head.features(theta, xhat) @ w.mT
    return z if b is None else z + b
