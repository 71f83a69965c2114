"""Orders that a device sorts are those of the host, also where words repeat; runs of one seed are drawn once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tasks import task, thirds

from w2s_fast.heads.linear import Linear
from w2s_fast.train import Run, fit_heads, order
from w2s_fast.train import sorted_order as there
from w2s_fast.train.layout import lay_out
from w2s_fast.train.run import resolve

CPU = torch.device("cpu")


def laid(lengths, seeds, *, sort_there, epoch=3):
    tables = {n: np.random.default_rng(n).permutation(5 * n)[:n] for n in set(lengths)}
    rows = [tables[n] for n in lengths]
    runs = [
        Run(head="linear", loss="kd", seed=s, split=n, batch_size=8, epochs=9)
        for s, n in zip(seeds, lengths, strict=True)
    ]
    setups = [replace(resolve(i, run), n_train=n) for i, (run, n) in enumerate(zip(runs, lengths, strict=True))]
    return lay_out(setups, rows, epoch, dtype=torch.float64, device=CPU, on_device=True, sort_there=sort_there)


@pytest.mark.parametrize(
    ("lengths", "seeds"),
    [([40, 40, 40], [0, 1, 2]), ([40, 31, 40, 7], [0, 0, 0, 5]), ([9, 9], [3, 3]), ([1, 2], [0, 1])],
)
def test_a_device_sorts_as_the_host_does(lengths, seeds):
    host, device = (laid(lengths, seeds, sort_there=s) for s in (False, True))
    assert torch.equal(host.rows, device.rows)


def test_words_that_repeat_and_the_largest_word_stay_in_place(monkeypatch):
    def words(seed, epoch, n):
        drawn = np.random.default_rng(seed).integers(0, 3, n).astype(np.uint64)
        return np.array([0, 1 << 63, (1 << 64) - 1], np.uint64)[drawn]

    monkeypatch.setattr(there, "words", words)
    rows = [np.arange(100, 150), np.arange(60)]
    found = there.shuffled_on(CPU, rows, [4, 5], 0).numpy()
    for own, got, seed in zip(rows, found, (4, 5), strict=True):
        wanted = own[np.argsort(words(seed, 0, len(own)), kind="stable")]
        assert (got[: len(own)] == wanted).all() and (got[len(own) :] == wanted[-1]).all()


def test_the_order_is_the_documented_one():
    rows = np.arange(30)
    assert (there.shuffled_on(CPU, [rows, rows], [7, 8], 2).numpy()[1] == order(8, 2, 30)).all()


def test_runs_of_one_seed_are_drawn_once(monkeypatch):
    calls = []
    whole = Linear.init

    def init(self, start, *, seed, **rest):
        calls.append(seed)
        return whole(self, start, seed=seed, **rest)

    monkeypatch.setattr(Linear, "init", init)
    t = task()
    runs = [Run(head="linear", loss=x, seed=s, epochs=0) for x in ("kd", "ce", "gce") for s in (0, 1)]
    runs += [Run(head="linear(init='text')", loss="kd", seed=0, epochs=0)]
    given = {"splits": [thirds(t.n, 60)], "supervisions": [t.sup], "start": t.start, "truth": t.y}
    fits = {f.index: f.theta["last"]["weight"] for f in fit_heads(t.x, runs, **given)}
    assert sorted(calls) == [0, 0, 1]
    assert torch.equal(fits[0], fits[2]) and not torch.equal(fits[0], fits[1]) and not torch.equal(fits[0], fits[6])
