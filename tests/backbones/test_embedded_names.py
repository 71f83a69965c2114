"""Shipped supervisors as encoders of any data: one network by either of its names."""

import pytest
import torch

from w2s_fast.backbones import may_have_text, open_encoder, parse_model
from w2s_fast.backbones.embedded import of_domain
from w2s_fast.core.errors import ModelError, UsageError
from w2s_fast.tasks.supervisors import is_supervisor


def test_a_supervisor_named_with_its_domain_is_the_same_network_whatever_the_data() -> None:
    own = open_encoder("drawn:cnn/1", data="drawn:clipart")
    for data in ("drawn:sketch", "list:/x.txt", None):
        other = open_encoder("drawn:cnn/clipart-1", data=data)
        same = ("weights_digest", "config", "preprocess", "classes", "card", "dim")
        assert all(getattr(own, name) == getattr(other, name) for name in same)
        assert all(torch.equal(v, own.module.state_dict()[k]) for k, v in other.module.state_dict().items())
    assert open_encoder("drawn:cnn/sketch-1").weights_digest != own.weights_digest


def test_it_is_an_encoder_and_no_supervisor_of_the_data() -> None:
    assert [is_supervisor(m) for m in ("drawn:cnn", "drawn:cnn/0", "weak:a-b/0", "drawn:cnn/clipart-0")] == [
        True,
        True,
        True,
        False,
    ]
    assert of_domain(parse_model("drawn:cnn/clipart-3")) == ("clipart", "3")
    assert of_domain(parse_model("drawn:cnn/3")) is None and of_domain(parse_model("weak:cnn/a-3")) is None
    assert not may_have_text("drawn:cnn/clipart-0")


@pytest.mark.parametrize(
    ("model", "error", "told"),
    [
        ("drawn:cnn/clipert-0", ModelError, "did you mean 'clipart'"),
        ("drawn:cnn/clipart-9", ModelError, "seeds 0, 1, 2, 3, 4"),
        ("drawn:cnn/clipart-x", UsageError, "not a number"),
        ("drawn:cnn/-1", ModelError, "no drawn domain ''"),
    ],
)
def test_a_wrong_name_is_told(model: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        open_encoder(model, data="drawn:sketch")
