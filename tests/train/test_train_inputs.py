"""Bad input: one sentence that says what, where and how to fix it, before anything runs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from tasks import split, task, thirds

from w2s_fast.core.errors import MissingText, TrainError, UsageError
from w2s_fast.train import Run, Start, Supervision, fit_heads


def attempt(t, run=None, **changed):
    given = {
        "splits": [thirds(t.n, 60)],
        "supervisions": [t.sup],
        "start": t.start,
        "truth": t.y,
        **changed,
    }
    x = given.pop("x", t.x)
    runs = [run or Run(head="linear", loss="kd", epochs=1)]
    return list(fit_heads(x, runs, **given))


def poked(table, row, value=float("nan")):
    table = table.clone()
    table[row, 0] = value
    return table


def test_a_good_call_works():
    assert attempt(task())[0].status == "ok"


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["row 7", "not finite", "split 0"], lambda t: {"x": poked(t.x, 7)}),
        (["row 7", "not finite"], lambda t: {"x": poked(t.x, 7, float("inf"))}),
        (["shape (120,)"], lambda t: {"x": t.x[:, 0]}),
        (["ndarray", "torch.as_tensor"], lambda t: {"x": t.x.numpy()}),
        (["8 dimensions", "d=9"], lambda t: {"x": t.x[:, :8]}),
        (["truth", "(119,)", "120"], lambda t: {"truth": t.y[:-1]}),
        (["truth 5 of row 3", "0..4"], lambda t: {"truth": torch.where(torch.arange(t.n) == 3, 5, t.y)}),
        (["weak model has 4 classes", "task has 5"], lambda t: {"supervisions": [Supervision(weak=t.weak[:, :4])]}),
        (["weak logits", "(119, 5)"], lambda t: {"supervisions": [Supervision(weak=t.weak[:-1])]}),
        (["weak of row 9"], lambda t: {"supervisions": [Supervision(weak=poked(t.weak, 9))]}),
        (["weight", "(3,)"], lambda t: {"supervisions": [Supervision(weak=t.weak, weight=torch.ones(3))]}),
        (
            ["weight of row 0", "negative"],
            lambda t: {"supervisions": [Supervision(weak=t.weak, weight=-torch.ones(t.n))]},
        ),
        (["labels 9 of row 0"], lambda t: {"supervisions": [Supervision(weak=t.weak, labels=t.y * 0 + 9)]}),
        (["pick", "one"], lambda t: {"supervisions": [Supervision(weak=t.weak, pick=t.y * 0)]}),
        (
            ["pick 3 of row 0", "0..1"],
            lambda t: {"supervisions": [Supervision(weak=t.weak[:, None].expand(-1, 2, -1), pick=t.y * 0 + 3)]},
        ),
        (["split 0", "no train rows"], lambda t: {"splits": [split([], [1], [2])]}),
        (["test", "row 120"], lambda t: {"splits": [split([0], [1], [120])]}),
        (["val has type bool"], lambda t: {"splits": [split([0], np.ones(t.n, bool), [2])]}),
        (["train has type float"], lambda t: {"splits": [split([0.0, 1.0], [1], [2])]}),
        (["val", "row -1"], lambda t: {"splits": [split([0], [-1], [2])]}),
        (["text features", "(4, 9)"], lambda t: {"start": Start(k=5, d=9, text=t.text[:4])}),
        (["'fp8'", "fp32, tf32, bf16, fp64"], lambda t: {"precision": "fp8"}),
        (["'tpu'"], lambda t: {"device": "tpu"}),
        (["split=1", "1 were given"], lambda t: {"run": Run(head="linear", loss="kd", split=1)}),
        (["supervision=2"], lambda t: {"run": Run(head="linear", loss="kd", supervision=2)}),
        (["epochs=-1"], lambda t: {"run": Run(head="linear", loss="kd", epochs=-1)}),
        (["batch_size=0"], lambda t: {"run": Run(head="linear", loss="kd", batch_size=0)}),
        (["seed=1.5"], lambda t: {"run": Run(head="linear", loss="kd", seed=1.5)}),
        (["lr=nan"], lambda t: {"run": Run(head="linear", loss="kd", lr=float("nan"))}),
        (["weight_decay=-1"], lambda t: {"run": Run(head="linear", loss="kd", weight_decay=-1)}),
    ],
)
def test_errors_say_what_and_where(words, change):
    t = task()
    with pytest.raises((TrainError, UsageError)) as caught:
        attempt(t, **change(t))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_outside_every_split_may_be_bad():
    t = task()
    part = split(range(10, 60), range(60, 80), range(80, 120))
    sup = Supervision(weak=poked(t.weak, 4))
    assert attempt(t, x=poked(t.x, 3), splits=[part], supervisions=[sup])[0].status == "ok"
    for bad in ({"x": poked(t.x, 59)}, {"supervisions": [Supervision(weak=poked(t.weak, 80))]}):
        with pytest.raises(TrainError, match="uses that row"):
            attempt(t, splits=[part], **bad)


def test_huge_finite_features_are_not_called_bad():
    t = task()
    assert attempt(t, x=t.x * 1e37, run=Run(head="linear", loss="kd", epochs=1))[0].status in ("ok", "diverged")


def test_no_text():
    t = task()
    with pytest.raises(MissingText, match="weak_mean"):
        attempt(t, Run(head="prototype", loss="cpl"), start=Start(k=t.k, d=t.d))
    run = Run(head="prototype(init='weak_mean')", loss="cpl", epochs=1)
    assert attempt(t, run, start=Start(k=t.k, d=t.d))[0].status == "ok"


def test_errors_come_before_the_first_run():
    t = task()
    with pytest.raises(UsageError):
        fit_heads(
            t.x,
            [Run(head="linear", loss="kd"), Run(head="linear", loss="kd", lr=-1)],
            splits=[thirds(t.n, 60)],
            supervisions=[t.sup],
            start=t.start,
            truth=t.y,
        )


def test_fp32_is_ieee_whatever_the_process_has_set():
    t, seen = task(), []

    def loss(z, weak, batch):
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    torch.set_float32_matmul_precision("high")
    try:
        attempt(t, run=Run(head="linear", loss=loss, epochs=1))
        assert set(seen) == {("ieee", "ieee")}
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_numpy_truth_lists_and_narrow_types():
    t = task()
    a = attempt(t)[0]
    b = attempt(
        t,
        truth=t.y.numpy().astype(np.int16),
        splits=[split(list(range(60)), list(range(60, 90)), list(range(90, 120)))],
        supervisions=[Supervision(weak=t.weak.double())],
        x=t.x.double(),
    )[0]
    assert torch.allclose(a.theta["last"]["weight"], b.theta["last"]["weight"], atol=1e-6)


def test_grad_mode_and_generators_are_left_alone():
    t = task()
    state = torch.random.get_rng_state()
    for _ in fit_heads(
        t.x,
        [Run(head=h, loss="kd", epochs=1) for h in ("linear", "prototype(init='random')")],
        splits=[thirds(t.n, 60)],
        supervisions=[t.sup],
        start=t.start,
        truth=t.y,
    ):
        assert torch.is_grad_enabled()
    assert torch.equal(state, torch.random.get_rng_state())


def test_training_imports_no_image_or_model_library():
    code = (
        "import sys, torch; from types import SimpleNamespace as N;"
        "from w2s_fast.train import Run, Start, Supervision, fit_heads;"
        "x = torch.randn(12, 3); y = torch.arange(12) % 2; s = N(train=[0, 1, 2], val=[3, 4], test=[5]);"
        "u = [Supervision(weak=torch.randn(12, 2))];"
        "list(fit_heads(x, [Run(head='linear', loss='kd')], splits=[s], supervisions=u,"
        "start=Start(k=2, d=3), truth=y));"
        "bad = {'PIL', 'timm', 'open_clip', 'transformers', 'zarr', 'torchvision', 'faiss'} & set(sys.modules);"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
