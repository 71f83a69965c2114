"""The prompt head: starts, class weights, gradients through the engine, files, refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.text import text_features
from w2s_fast.core.errors import MissingText, SpecError, UsageError
from w2s_fast.heads import Start, export_classifier, load_head, make, save_head
from w2s_fast.train import Run, Supervision, fit_heads

NAMES = ("cat", "ice_cream", "bicycle", "sun", "tree")
K, D, N = len(NAMES), 128, 40


@pytest.fixture(scope="module")
def tower() -> Any:
    return open_encoder("drawn:clip").text_tower()


@pytest.fixture(scope="module")
def start(tower: Any) -> Start:
    return Start(k=K, d=D, names=NAMES, text=text_features(tower, NAMES), tower=tower)


@pytest.fixture(scope="module")
def world() -> tuple[Tensor, Supervision, SimpleNamespace]:
    g = torch.Generator().manual_seed(3)
    x, weak = torch.randn(N, D, generator=g), 2 * torch.randn(N, K, generator=g)
    split = SimpleNamespace(train=np.arange(4, 32), val=np.arange(32, 36), test=np.arange(36, 40))
    return x, Supervision(weak=weak), split


def begin(spec: str, start: Start, *, seed: int = 0) -> tuple[Any, dict[str, Tensor]]:
    head = make(spec).bind(start)
    return head, head.init(start, seed=seed, x=None, rows=None, supervision=None)


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_words_start_as_zero_shot(start: Start, tower: Any) -> None:
    head, theta = begin("prompt", start)
    assert list(theta) == ["context"] and theta["context"].shape == (4, 64)
    w, b = head.weights(theta)
    assert b is None and far(w, torch.nn.functional.normalize(start.text, dim=-1)) < 1e-6
    assert head.tau_s == pytest.approx(1 / 18.36, rel=1e-3) and head.unit_x and head.x_scale == 1
    assert begin("prompt(tau_s=0.3)", start)[0].tau_s == 0.3
    coop, theta = begin("prompt(tail='.')", start)
    ended = torch.nn.functional.normalize(text_features(tower, NAMES, "a photo of a {}."), dim=-1)
    assert far(coop.weights(theta)[0], ended) < 1e-6 < far(ended, w)
    short, theta = begin("prompt(words='photo of')", start)
    other = torch.nn.functional.normalize(text_features(tower, NAMES, "photo of {}"), dim=-1)
    assert theta["context"].shape == (2, 64) and far(short.weights(theta)[0], other) < 1e-6


def test_random_starts(start: Start) -> None:
    theta = begin("prompt(init='random', m=5)", start)[1]
    assert theta["context"].shape == (5, 64) and abs(float(theta["context"].std()) / 0.02 - 1) < 0.1
    assert torch.equal(theta["context"], 0.02 * torch.randn(5, 64, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(theta["context"], begin("prompt(init='random', m=5)", start, seed=1)[1]["context"])
    own = begin("prompt(init='random', m=5, csc=True)", start)[1]["context"]
    assert own.shape == (K, 5, 64) and not torch.equal(own[0], own[1])
    alike = begin("prompt(csc=True)", start)[1]["context"]
    assert alike.shape == (K, 4, 64) and torch.equal(alike[0], alike[1])


def naive_weights(tower: Any, context: Tensor, *, position: str = "end", csc: bool = False) -> Tensor:
    """The tower's whole pass over concatenated prompts."""
    words = [n.replace("_", " ") for n in NAMES]
    ids = tower._tokens([f"a photo of a {word}" for word in words])
    rows = []
    for c, word in enumerate(words):
        emb, n = tower.embed(ids[c : c + 1])[0].to(context.dtype), len(word.split())
        own = context[c] if csc else context
        name, rest = emb[5 : 5 + n], emb[5 + n :]
        parts = {"end": [own, name], "middle": [own[:2], name, own[2:]], "front": [name, own]}[position]
        rows.append(torch.cat([emb[:1], *parts, rest]))
    return torch.nn.functional.normalize(tower._core.plain(torch.stack(rows), ids.argmax(-1), torch.float32), dim=-1)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("csc", [False, True])
def test_vjp_is_that_of_the_whole_pass(start: Start, tower: Any, position: str, csc: bool) -> None:
    head, theta = begin(f"prompt(position={position!r}, csc={csc})", start)
    g = torch.Generator().manual_seed(1)
    contexts = theta["context"] + 0.05 * torch.randn(3, *theta["context"].shape, generator=g)
    dw = torch.randn(3, K, D, generator=g)
    w, b, pull = head.vjp({"context": contexts})
    slope = pull(dw, None)["context"]
    assert b is None and w.shape == (3, K, D) and not w.requires_grad
    for r in range(3):
        leaf = contexts[r].clone().requires_grad_()
        expected = naive_weights(tower, leaf, position=position, csc=csc)
        assert far(w[r], expected.detach()) < 1e-5
        assert far(slope[r], torch.autograd.grad((expected * dw[r]).sum(), leaf)[0]) < 1e-5


def test_one_pass_of_the_tower_per_step_whatever_the_batch(start: Start, world: Any, monkeypatch: Any) -> None:
    x, supervision, split = world
    calls: list[tuple[int, ...]] = []
    encode = type(start.tower).encode
    monkeypatch.setattr(
        type(start.tower), "encode", lambda self, *a, **k: calls.append(tuple(a[2].shape)) or encode(self, *a, **k)
    )
    counts = {}
    for batch in (4, 28):
        calls.clear()
        runs = [
            Run(head="prompt", loss=loss, seed=seed, epochs=1, batch_size=batch)
            for loss in ("kd", "ce", "adapt_conf")
            for seed in (0, 1)
        ]
        fits = fit_heads(
            x,
            runs,
            splits=[split],
            supervisions=[supervision],
            start=start,
            truth=torch.zeros(N, dtype=torch.int64),
            device="cpu",
        )
        assert all(f.status == "ok" for f in fits)
        counts[batch] = sum(shape == (6, 5, 64) for shape in calls)
    # 7 steps or 1 of all six runs together; the scores of two epochs come on top of both
    assert counts[4] - counts[28] == 6


@pytest.mark.parametrize("spec", ["prompt", "prompt(csc=True, tail='.')", "prompt(init='random', m=3, chunk=2)"])
def test_the_engine_against_a_naive_loop(start: Start, world: Any, spec: str) -> None:
    x, supervision, split = world
    runs = [Run(head=spec, loss="kd", seed=seed, epochs=3, batch_size=10, lr=5e-3) for seed in (0, 1)]
    truth = torch.zeros(N, dtype=torch.int64)
    fits = list(
        fit_heads(
            x,
            runs,
            splits=[split],
            supervisions=[supervision],
            start=start,
            truth=truth,
            device="cpu",
            precision="fp64",
        )
    )
    from w2s_fast.core.schedule import make_schedule
    from w2s_fast.train import order

    for fit in fits:
        head, theta = begin(spec, start, seed=fit.run.seed)
        context = theta["context"].double().requires_grad_()
        adam, step = torch.optim.Adam([context], lr=1.0), 0
        factors = make_schedule("linear").factor(np.arange(9), 9)
        for epoch in range(3):
            places = order(fit.run.seed, epoch, len(split.train))
            for at in range(0, len(places), 10):
                rows = split.train[places[at : at + 10]]
                xhat = torch.nn.functional.normalize(x[rows].double(), dim=-1)
                logp = (xhat @ head.weights({"context": context})[0].T / head.tau_s).log_softmax(-1)
                target = supervision.weak[rows].double().softmax(-1)
                adam.param_groups[0]["lr"] = 5e-3 * factors[step]
                adam.zero_grad()
                (-(target * logp).sum(-1).mean()).backward()
                adam.step()
                step += 1
        moved = context.detach() - theta["context"].double()
        assert far(fit.theta["last"]["context"].double() - theta["context"].double(), moved) < 1e-8
        assert float(moved.abs().max()) > 1e-3


def test_runs_of_other_starts_and_temperatures_share_the_tower(start: Start) -> None:
    from w2s_fast.train.plan import group
    from w2s_fast.train.run import resolve

    heads = ["prompt", "prompt(tau_s=.1)", "prompt(words='photo of the a')", "prompt(csc=True)", "prompt(tail='.')"]
    setups = [resolve(i, Run(head=h, loss="kd", batch_size=16), start) for i, h in enumerate(heads)]
    stacks = group(setups, d=D, k=K, device=torch.device("cpu"))
    assert sorted(len(stack) for stack in stacks) == [1, 1, 3]
    many = [resolve(i, Run(head="prompt", loss="kd", seed=i, batch_size=16), start) for i in range(20)]
    assert [len(s) for s in group(many, d=D, k=K, device=torch.device("cpu"))] == [8, 8, 4]
    assert many[0].head.bound is many[1].head.bound


def test_half_precision(start: Start) -> None:
    exact = begin("prompt", start)
    for blocks in ("bf16", "fp16"):
        head, theta = begin(f"prompt(blocks={blocks!r})", start)
        w = head.weights(theta)[0]
        assert w.dtype == torch.float32 and 1e-6 < far(w, exact[0].weights(theta)[0]) < 0.03
        assert torch.allclose(w.norm(dim=-1), torch.ones(K), atol=1e-6)


def test_small_gradients_do_not_vanish_in_half_precision(start: Start) -> None:
    """Those of a sure student: a class's row gets about 1e-6 of a step."""
    half, theta = begin("prompt(blocks='fp16')", start)
    g = torch.Generator().manual_seed(1)
    contexts = theta["context"] + 0.05 * torch.randn(3, *theta["context"].shape, generator=g)
    dw = torch.randn(3, K, D, generator=g) * torch.tensor([1.0, 1e-7, 0.0])[:, None, None]
    slope = half.vjp({"context": contexts})[2](dw, None)["context"]
    expected = begin("prompt", start)[0].vjp({"context": contexts})[2](dw, None)["context"]
    assert [far(slope[r], expected[r]) < 0.01 for r in (0, 1)] == [True, True]
    assert not slope[2].any() and float(expected[1].norm()) > 0
    own = begin("prompt(blocks='fp16', csc=True)", start)
    pulled = own[0].vjp(own[1])[2](dw[1], None)["context"]
    assert far(pulled, begin("prompt(csc=True)", start)[0].vjp(own[1])[2](dw[1], None)["context"]) < 0.01


def test_files(start: Start, tmp_path: Any) -> None:
    head, theta = begin("prompt(tail='.', csc=True)", start)
    save_head(tmp_path / "h", make("prompt(tail='.', csc=True)"), theta, {"classes": list(NAMES)})
    back, tensors, card = load_head(tmp_path / "h")
    assert str(back.spec()) == "prompt(csc=True, tail='.')" and card["classes"] == list(NAMES)
    with pytest.raises(UsageError, match=r"not bound to a text tower; call head.bind\(Start"):
        back.weights(tensors)
    expected = head.weights(theta)[0]
    assert torch.equal(back.bind(start).weights(tensors)[0], expected)
    from safetensors.torch import load_file

    path = export_classifier(theta, head, tmp_path / "c", names=NAMES)
    assert torch.equal(load_file(path)["classifier"], expected.T)


def test_what_is_refused(start: Start, tower: Any) -> None:
    def at(spec: str, **changes: Any) -> None:
        make(spec).bind(Start(**{"k": K, "d": D, "names": NAMES, "tower": tower, **changes}))

    with pytest.raises(MissingText, match="learns through the text tower, and this encoder has none"):
        at("prompt", tower=None)
    for names, k in (((), 5), (("cat",), 5)):
        with pytest.raises(UsageError, match=rf"one class name per class: {len(names)} for k={k}"):
            at("prompt", names=names, k=k)
    with pytest.raises(UsageError, match="needs class names and none were given"):
        at("prompt", names=(), k=0)
    with pytest.raises(UsageError, match=r"a context of 16 words or vectors leaves no room.* takes 12 tokens"):
        at("prompt(init='random')")
    with pytest.raises(MissingText, match=r"class name 'cat cat cat cat cat cat cat': .* takes 12"):
        at("prompt", names=(*NAMES[:-1], "cat cat cat cat cat cat cat"))
    with pytest.raises(MissingText, match="class name 'zebra'.*vocabulary"):
        at("prompt", names=(*NAMES[:-1], "zebra"))
    with pytest.raises(MissingText, match=r"the context 'zebra of': 'zebra' has the token .* lacks; give other words"):
        at("prompt(words='zebra of')")
    with pytest.raises(MissingText, match=r"takes 12; give other names with --class-names FILE, a shorter prompt, or"):
        at("prompt", names=(*NAMES[:-1], "cat cat cat cat cat cat cat"))
    with pytest.raises(UsageError, match="has 4 tokens, and m=3"):
        at("prompt(m=3)")
    with pytest.raises(UsageError, match="gives 128 dimensions and the features have 64"):
        at("prompt", d=64)
    for spec in ("prompt(position='back')", "prompt(blocks='fp8')", "prompt(m=-1)", "prompt(init='text')"):
        with pytest.raises(SpecError):
            make(spec)
