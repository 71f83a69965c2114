"""Saving, loading and exporting heads."""

from __future__ import annotations

import json

import pytest
import torch

from w2s_fast.core.errors import Damaged, DataError, NewerFormat, UsageError
from w2s_fast.heads import export_classifier, load_head, make, save_head


def some(spec, k=4, d=6):
    g = torch.Generator().manual_seed(0)
    if spec.startswith("linear"):
        return make(spec), {"weight": torch.randn(k, d, generator=g), "bias": torch.randn(k, generator=g)}
    return make(spec), {"prototypes": torch.randn(k, d, generator=g)}


@pytest.mark.parametrize("spec", ["linear(init='text')", "prototype(tau_s=.1)"])
def test_round_trip(tmp_path, spec):
    head, theta = some(spec)
    written = save_head(tmp_path / "a" / "cpl.v2", head, theta, {"classes": ["über", "b"], "acc": 0.5})
    assert written == tmp_path / "a" / "cpl.v2.safetensors" or written.name == "cpl.v2.safetensors"
    again, tensors, card = load_head(tmp_path / "a" / "cpl.v2.safetensors")
    assert str(again.spec()) == str(head.spec()) and card == {"classes": ["über", "b"], "acc": 0.5}
    assert all(torch.equal(theta[n], tensors[n]) for n in theta)
    assert load_head(tmp_path / "a" / "cpl.v2.json")[2] == card
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["cpl.v2.json", "cpl.v2.safetensors"]
    save_head(tmp_path / "b", spec, theta)
    assert load_head(tmp_path / "b")[0].tau_s == head.tau_s


def test_views_and_gradients_are_saved_as_numbers(tmp_path):
    base = torch.randn(2, 4, 6, requires_grad=True)
    save_head(tmp_path / "h", "prototype", {"prototypes": base[1].t().contiguous().t()})
    assert torch.equal(load_head(tmp_path / "h")[1]["prototypes"], base[1].detach())


def test_damage_is_found(tmp_path):
    head, theta = some("linear")
    path = save_head(tmp_path / "h", head, theta)
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Damaged, match=r"h\.safetensors"):
        load_head(path)
    path.write_bytes(raw[:-4])
    with pytest.raises(Damaged):
        load_head(path)
    path.unlink()
    with pytest.raises(DataError, match="no file"):
        load_head(path)
    with pytest.raises(DataError, match="no file"):
        load_head(tmp_path / "nothing")


def test_foreign_and_newer_cards_are_refused(tmp_path):
    head, theta = some("linear")
    save_head(tmp_path / "h", head, theta)
    card = tmp_path / "h.json"
    about = json.loads(card.read_text())
    card.write_text(json.dumps({**about, "format": 2}))
    with pytest.raises(NewerFormat):
        load_head(tmp_path / "h")
    for text in ("{", "[]", "{}", "null"):
        card.write_text(text)
        with pytest.raises(Damaged):
            load_head(tmp_path / "h")
    export_classifier(theta, head, tmp_path / "c")
    with pytest.raises(DataError, match="classifier"):
        load_head(tmp_path / "c")


def test_classifier_of_a_cosine_head_is_open_clips(tmp_path):
    from safetensors.torch import load_file

    head, theta = some("prototype")
    names = ["a", "b", "c", "d"]
    matrix = load_file(export_classifier(theta, head, tmp_path / "m", names=names))["classifier"]
    assert matrix.shape == (6, 4) and matrix.is_contiguous()
    assert torch.allclose(matrix.norm(dim=0), torch.ones(4), atol=1e-6)
    x = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    expected = torch.nn.functional.cosine_similarity(x[:, None], theta["prototypes"][None], dim=-1)
    assert torch.allclose(x @ matrix, expected, atol=1e-6)
    card = json.loads((tmp_path / "m.json").read_text())
    assert card["classes"] == names and card["unit_columns"] and card["tau_s"] == 0.05 and not card["bias"]


def test_classifier_of_a_linear_head_folds_the_scale(tmp_path):
    from safetensors.torch import load_file

    head, theta = some("linear")
    found = load_file(export_classifier(theta, head, tmp_path / "m"))
    x = torch.nn.functional.normalize(torch.randn(5, 6), dim=-1)
    expected = 10 * x @ theta["weight"].T + theta["bias"]
    assert torch.allclose(x @ found["classifier"] + found["bias"], expected, atol=1e-5)
    card = json.loads((tmp_path / "m.json").read_text())
    assert card["x_scale_folded"] and card["bias"] and not card["unit_columns"]


def test_what_cannot_be_exported(tmp_path):
    head, theta = some("linear")
    with pytest.raises(UsageError, match="2 class names for 4"):
        export_classifier(theta, head, tmp_path / "m", names=["a", "b"])
    with pytest.raises(UsageError, match="stack"):
        export_classifier({n: p[None] for n, p in theta.items()}, head, tmp_path / "m")
    assert not list(tmp_path.iterdir())
