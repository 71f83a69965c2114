"""Full-batch L-BFGS: the optimum of scikit-learn, of scipy, and of any loss on any head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from naive import HEADS, gap
from scipy.optimize import minimize
from tasks import fits, split, task, thirds

from w2s_fast.core.errors import SpecError, UsageError
from w2s_fast.heads import Start
from w2s_fast.heads.linear import Linear
from w2s_fast.losses import Loss, Supervision
from w2s_fast.train import Run, fit_heads, ground_truth, plan
from w2s_fast.train.full_batch import lbfgs
from w2s_fast.train.solver import make_solver


def flat(theta):
    return torch.cat([p.reshape(-1) for p in theta.values()])


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return torch.as_tensor(x[order], dtype=torch.float32), torch.as_tensor(y[order])


@pytest.mark.parametrize(
    ("precision", "head", "scale", "decay"),
    [
        ("fp32", "linear", 10.0, 1e-2),
        ("fp64", "linear", 10.0, 1e-3),
        ("fp32", "linear(unit_x=False, x_scale=.0625)", None, 1e-3),
    ],
)
def test_digits_are_scikit_learns(digits, precision, head, scale, decay):
    """C sum(loss) + |W|^2 / 2 divided by C n is mean loss + weight_decay / 2 |W|^2 with C = 1 / (n weight_decay)."""
    from sklearn.linear_model import LogisticRegression

    x, y = digits
    part = split(range(900), range(900, 1000), range(1000, len(x)))
    run = Run(head=head, loss="ce", solver="lbfgs(iterations=1000)", epochs=1, weight_decay=decay)
    (fit,) = fit_heads(
        x, [run], splits=[part], supervisions=[ground_truth(y, 10)], start=Start(k=10, d=64), truth=y,
        precision=precision, selections=["last"],
    )  # fmt: skip
    wide = x.double() / 16 if scale is None else scale * torch.nn.functional.normalize(x.double(), dim=-1)
    rows, labels = wide.numpy(), y.numpy()
    model = LogisticRegression(C=1 / (900 * decay), max_iter=10_000, tol=1e-9).fit(rows[:900], labels[:900])
    same = fit.predicted["last"] == model.predict(rows[1000:])
    assert same.mean() >= 0.99, "predictions on the test rows"

    def objective(w, b):
        z = wide[:900] @ torch.as_tensor(w).double().T + torch.as_tensor(b).double()
        return float(torch.nn.functional.cross_entropy(z, y[:900]) + decay / 2 * np.square(np.asarray(w)).sum())

    theta = fit.theta["last"]
    ours, theirs = objective(theta["weight"], theta["bias"]), objective(model.coef_, model.intercept_)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert np.abs(np.asarray(theta["weight"]) - model.coef_).max() < 0.02 * np.abs(model.coef_).max()


def naive_objective(t, run, part, sup, head, loss):
    """Mean loss of plain modules and functions over all train rows, with decay, and its parameters."""
    args = {"init": "text"} if head == "prototype" else {}
    rows = torch.as_tensor(part.train)
    model = HEADS[head](t.k, t.d, args, seed=run.seed, text=t.text, x=None, weak=None, dtype=torch.float64)
    x, weak = t.x.double()[rows], sup.weak.double()[rows]

    def objective():
        raw = model(x)
        value = loss(raw / model.tau_s, weak)
        if run.w_gt:
            value = value + run.w_gt * torch.nn.functional.cross_entropy(
                raw / model.tau_s, sup.labels[rows], reduction="none"
            )
        if sup.weight is not None:
            value = value * sup.weight[rows].double()
        decayed = model.lin.weight if head == "linear" else model.c
        return value.sum() / len(rows) + run.weight_decay / 2 * decayed.square().sum()

    return objective, list(model.parameters())


def soft(z, weak):
    return torch.nn.functional.kl_div(z.log_softmax(1), (weak / 2).softmax(1), reduction="none").sum(1)


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_soft_labels_weights_and_ground_truth_reach_scipys_optimum(head):
    t = task(n=150, noise=1.5)
    weight = torch.rand(t.n, generator=t.g)
    sup = Supervision(weak=t.weak, weight=weight, labels=t.y)
    part = thirds(t.n, 100)
    decay = 1e-3 if head == "linear" else 0.0
    run = Run(head=head, loss="kd(tau_w=2)", solver="lbfgs", epochs=5, weight_decay=decay, w_gt=0.3)
    (fit,) = fits(t, [run], [part], [sup])
    objective, parameters = naive_objective(t, run, part, sup, head, soft)
    shapes = [p.shape for p in parameters]

    def of(vector):
        pieces = torch.as_tensor(vector).split([s.numel() for s in shapes])
        with torch.no_grad():
            for p, piece, shape in zip(parameters, pieces, shapes, strict=True):
                p.copy_(piece.view(shape))
        total = objective()
        return total.item(), torch.cat([g.reshape(-1) for g in torch.autograd.grad(total, parameters)]).numpy()

    start = torch.cat([p.detach().reshape(-1) for p in parameters]).numpy()
    best = minimize(of, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9})
    ours, slope = of(flat(fit.theta["last"]).numpy())
    assert np.abs(slope).max() < 2e-7
    if head == "linear":
        assert ours == pytest.approx(best.fun, rel=1e-8)
    else:
        assert ours < best.fun * 1.01, "not convex: as good an optimum, if another one"
    data = ours - run.weight_decay / 2 * float(parameters[0].detach().square().sum())
    assert fit.curves["loss"][-1] == pytest.approx(data, rel=1e-10), "the curve is the loss, without weight decay"


@dataclass(frozen=True, kw_only=True, eq=False)
class Through(Linear):
    """The linear head by autograd."""

    def features(self, theta, x):
        return x * 1.0


class Streaming:
    def __init__(self, x):
        self.x, self.n, self.d = x, x.shape[0], x.shape[1]

    def batches(self, rows, size):
        for i in range(0, rows.shape[-1], size):
            yield rows[..., i : i + size], self.x[rows[..., i : i + size]]


@pytest.mark.parametrize("how", ["autograd", "streamed", "chunks", "streamed chunks"])
def test_heads_by_autograd_streams_and_chunks_have_the_same_optimum(monkeypatch, how):
    t = task(n=700)
    part = thirds(t.n, 600)
    run = Run(head="linear", loss="adapt_conf(T=1e9)", solver="lbfgs", epochs=2, weight_decay=1e-2)
    (plain,) = fits(t, [run], [part])
    if "chunks" in how:
        monkeypatch.setattr(lbfgs, "MOST_LOGITS", 1)
        assert lbfgs.chunk_rows(k=t.k, d=t.d) == 256
    head = Through() if how == "autograd" else "linear"
    run = Run(head=head, loss=run.loss, solver="lbfgs", epochs=2, weight_decay=1e-2)
    (other,) = fits(t, [run], [part], x=Streaming(t.x) if "streamed" in how else None)
    assert gap(plain.theta["last"], other.theta["last"]) < 1e-5
    assert other.curves["loss"][-1] == pytest.approx(plain.curves["loss"][-1], rel=1e-9)


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched(Loss):
    """Cross-entropy to weak probabilities that notes what it is shown."""

    seen: ClassVar[list] = []

    @property
    def mixes_rows(self):
        return True

    def value(self, z, batch):
        self.seen.append((tuple(z.shape), float(batch.t.reshape(-1)[0])))
        return -(batch.weak.softmax(-1) * z.log_softmax(-1)).sum(-1)


def test_a_batch_is_all_rows_and_t_stands_still_within_an_epoch(monkeypatch):
    t = task(n=700)
    seen = Watched.seen
    seen.clear()
    run = Run(head="linear", loss=Watched(), solver="lbfgs(iterations=3)", epochs=4)
    (fit,) = fits(t, [run], [thirds(t.n, 600)])
    assert {shape for shape, _ in seen} == {(1, 600, 5)}
    assert sorted({when for _, when in seen}) == [0.0, 0.25, 0.5, 0.75]
    assert all(a > b for a, b in zip(fit.curves["loss"][1:], fit.curves["loss"][2:], strict=False))
    monkeypatch.setattr(lbfgs, "MOST_LOGITS", 1)
    for loss in (Watched(), "aux_conf"):
        with pytest.raises(UsageError, match=r"600 train rows in chunks of 256, .* all of them at once; use solver"):
            fits(t, [Run(head="linear", loss=loss, solver="lbfgs")], [thirds(t.n, 600)])
    assert fits(t, [Run(head="linear", loss="aux_conf_argmax", solver="lbfgs", epochs=1)], [thirds(t.n, 600)])


@pytest.mark.parametrize("loss", ["aux_conf", "aux_conf(warmup=0)", "adapt_conf", "gce", "reverse_kl", "ce"])
@pytest.mark.parametrize("head", ["linear", "prototype"])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_every_loss_and_head_trains(loss, head, precision):
    t = task()
    run = Run(head=head, loss=loss, solver="lbfgs(iterations=30)", epochs=3)
    (fit,) = fits(t, [run], [thirds(t.n, 60)], precision=precision)
    assert fit.status == "ok" and np.isfinite(fit.curves["loss"][1:]).all()
    assert fit.curves["acc_val"][-1] > 0.4, "chance is .2"


def test_a_converged_run_repeats_its_values_for_one_look_an_epoch(monkeypatch):
    t = task()
    looks = []
    measure = lbfgs.LbfgsStack._measure
    monkeypatch.setattr(
        lbfgs.LbfgsStack, "_measure", lambda self, when: looks.append(float(when)) or measure(self, when)
    )
    run = Run(head="linear", loss="kd", solver="lbfgs(iterations=500)", epochs=5, weight_decay=0.1)
    (fit,) = fits(t, [run], [thirds(t.n, 60)])
    assert looks.count(0.0) > 5 and [looks.count(e / 5) for e in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert len({*fit.curves["loss"][1:].tolist()}) == 1 and len({*fit.curves["acc_test"][1:].tolist()}) == 1
    assert fit.selected_epoch == {"last": 5, "weak_val": 1, "oracle": 1, "test_best": 1}


def test_a_run_goes_on_where_its_last_epoch_ended():
    t = task()
    base = {"head": "linear", "loss": "kd", "weight_decay": 5e-2}
    runs = [
        Run(**base, solver="lbfgs(iterations=5)", epochs=1),
        Run(**base, solver="lbfgs(iterations=5)", epochs=40),
        Run(**base, solver="lbfgs(iterations=1000)", epochs=1),
    ]
    few, many, long = fits(t, runs, [thirds(t.n, 60)])
    assert few.curves["loss"][-1] == many.curves["loss"][1] > many.curves["loss"][-1]
    assert gap(many.theta["last"], long.theta["last"]) < 1e-3


def test_what_is_not_read_is_null_and_changes_nothing():
    t = task()
    base = {"head": "linear", "loss": "kd", "solver": "lbfgs", "epochs": 1}
    runs = [Run(**base), Run(**base, batch_size=7, lr=3.0, schedule="cosine")]
    a, b = fits(t, runs, [thirds(t.n, 60)])
    assert torch.equal(flat(a.theta["last"]), flat(b.theta["last"]))
    assert all(b.resolved[name] is None for name in ("batch_size", "lr", "schedule", "warmup", "steps"))
    assert b.resolved["solver"] == "lbfgs" and b.resolved["epochs"] == 1
    stacks = plan([*runs, Run(head="linear", loss="kd")], splits=[thirds(t.n, 60)], d=t.d, k=t.k, device="cpu")
    assert sorted(map(len, stacks)) == [1, 1, 1], "every run has curvature of its own"


def test_a_loss_that_is_not_finite_is_reported_and_its_neighbours_go_on():
    t = task()

    def broken(z, weak, ctx):
        return (z.sum(-1) * 0 + 1).log() / 0

    def later(z, weak, ctx):
        return -(weak.probs * z.log_softmax(-1)).sum(-1) * (torch.nan if float(ctx.t) > 0 else 1)

    def unbounded(z, weak, ctx):
        return -z[:, 0].exp()

    def falling(z, weak, ctx):
        return -z[:, 0]

    given = ("kd", broken, later, unbounded, falling)
    runs = [Run(head="linear", loss=loss, solver="lbfgs", epochs=3, weight_decay=1e-3) for loss in given]
    good, first, second, third, fourth = fits(t, runs, [thirds(t.n, 60)], precision="fp32")
    assert good.status == "ok"
    for fit, epoch in ((first, 1), (second, 2)):
        assert fit.status == "diverged" and fit.theta == {} and f"in epoch {epoch} of 3" in fit.notes[0]
        assert "lr" not in fit.notes[0] and "check features and loss" in fit.notes[0]
    assert third.status == fourth.status == "diverged"


def test_memory_and_wrong_options_are_refused():
    t = task()
    with pytest.raises(UsageError, match=r"run 0: solver 'lbfgs' .*aux_conf\(buffer=8\).* memory .* buffer=0"):
        fits(t, [Run(head="linear", loss="aux_conf(buffer=8)", solver="lbfgs")], [thirds(t.n, 60)])
    for spec in ("lbfgs(iterations=0)", "lbfgs(history=0)", "lbfgs(tolerance=0)", "lbfgs(lr=1)", "lbfg"):
        with pytest.raises(SpecError, match="lbfgs"):
            make_solver(spec)


def test_one_class_one_row_and_no_val_rows():
    t = task(n=30, k=1, d=4)
    (fit,) = fits(t, [Run(head="linear", loss="kd", solver="lbfgs", epochs=2)], [split([3], [], range(20, 30))])
    assert fit.status == "ok" and fit.curves["acc_test"][-1] == 1.0


def test_reduced_precision_ends_early_and_near():
    t = task()
    run = Run(head="linear", loss="kd", solver="lbfgs", epochs=3, weight_decay=0.05)
    exact, rough = (fits(t, [run], [thirds(t.n, 60)], precision=p)[0] for p in ("fp64", "bf16"))
    assert rough.status == "ok"
    assert rough.curves["loss"][-1] == pytest.approx(exact.curves["loss"][-1], rel=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same():
    t = task()
    runs = [Run(head=h, loss="kd", solver="lbfgs", epochs=3, weight_decay=0.05) for h in ("linear", "prototype")]
    runs += [Run(head="linear", loss="brier", solver="ridge", epochs=1, weight_decay=w) for w in (0.0, 0.1)]
    pairs = [fits(t, runs[i : i + 1], [thirds(t.n, 60)], device=d)[0] for i in (0, 2, 3) for d in ("cpu", "cuda")]
    for a, b in zip(pairs[::2], pairs[1::2], strict=True):
        assert gap({name: p.cpu() for name, p in b.theta["last"].items()}, a.theta["last"]) < 1e-5
    assert fits(t, [runs[1]], [thirds(t.n, 60)], device="cuda", precision="fp32")[0].status == "ok"
