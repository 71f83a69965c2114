from __future__ import annotations

import hashlib
import logging
import pickle
import socket
import urllib.error
from pathlib import Path

import huggingface_hub.constants as hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from w2s_fast.backbones import loading, open_encoder
from w2s_fast.backbones.digests import state_digest
from w2s_fast.backbones.loading import fetching, load_strictly, quiet, read_state, seeded
from w2s_fast.core.errors import ModelError


def test_digest_is_names_dtypes_shapes_and_bytes() -> None:
    state = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(3)}
    expected = hashlib.sha256(
        b"a\0int64\0()\0" + (3).to_bytes(8, "little") + b"b\0float32\0(1, 2)\0" + state["b"].numpy().tobytes()
    ).hexdigest()
    assert state_digest(state) == expected
    assert state_digest(dict(reversed(state.items()))) == expected
    changed = [
        {"b": state["b"], "c": state["a"]},
        {"b": state["b"].double(), "a": state["a"]},
        {"b": state["b"].T, "a": state["a"]},
        {"b": state["b"] + 1e-6, "a": state["a"]},
        {"b": state["b"]},
    ]
    assert len({state_digest(s) for s in (*changed, state)}) == 6


def test_digest_reads_values_not_memory() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert state_digest({"x": x.T}) == state_digest({"x": x.T.contiguous()}) != state_digest({"x": x.reshape(4, 3)})
    half = x.to(torch.bfloat16)
    assert state_digest({"x": half}) != state_digest({"x": x.half()})
    assert state_digest({"x": torch.empty(0, 3)}) != state_digest({"x": torch.empty(3, 0)})
    assert state_digest({"x": nn.Parameter(x)}) == state_digest({"x": x})


def test_seeded_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded("a model"):
        one = torch.rand(2)
    assert torch.equal(torch.rand(3), expected)
    with seeded("a model"):
        assert torch.equal(torch.rand(2), one)
    with seeded("another"):
        assert not torch.equal(torch.rand(2), one)


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:squeezenet1_1", "open_clip:RN50"])
def test_random_weights_only_when_asked_and_reproducible(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("open_clip"):
        name = "open_clip:tiny"
        import open_clip.factory
        from tiny import clip_config

        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", clip_config())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two = (open_encoder(name, random_weights=True) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.weights_digest == two.weights_digest
    assert one.config == two.config and one.config["weights"] == f"random: {name}"
    assert not one.module.training and not any(p.requires_grad for p in one.module.parameters())


def test_reading_state_dicts(tmp_path: Path) -> None:
    state = {"a.weight": torch.rand(2, 3), "a.bias": torch.rand(2)}
    for number, wrapped in enumerate(
        (state, {"state_dict": state, "epoch": 3}, {"model": {f"module.{k}": v for k, v in state.items()}})
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(wrapped, path)
        assert {k: v.tolist() for k, v in read_state(path).items()} == {k: v.tolist() for k, v in state.items()}
    save_file(state, tmp_path / "x.safetensors")
    assert torch.equal(read_state(tmp_path / "x.safetensors")["a.bias"], state["a.bias"])


class Boom:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for path, content in (
        (tmp_path / "a.pt", pickle.dumps({"w": Boom(trap)})),
        (tmp_path / "b.pt", b"nonsense"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"cannot be read as plain tensors .*save its state dict as safetensors"):
            read_state(path)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(ModelError, match="cannot be read as plain tensors"):
        read_state(tmp_path / "module.pt")
    torch.save({"epoch": 3}, tmp_path / "d.pt")
    with pytest.raises(ModelError, match="holds no state dict"):
        read_state(tmp_path / "d.pt")
    (tmp_path / "c.safetensors").write_bytes(b"nonsense that is long enough")
    with pytest.raises(ModelError, match="is damaged"):
        read_state(tmp_path / "c.safetensors")
    assert not trap.exists()
    pickle.loads((tmp_path / "a.pt").read_bytes())
    assert trap.exists()  # the trap works


def test_mismatches_are_errors_or_listed() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    state = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(3), "1.weight": torch.ones(2, 2), "x": torch.ones(1)}
    with pytest.raises(
        ModelError, match=r"of m do not match .*0.bias has shape .3,., not .2,.; 1.bias is missing; x is "
    ):
        load_strictly(net, state, model="m")
    large = nn.Sequential(nn.Linear(3, 20), nn.Linear(20, 20))
    state = {"0.weight": torch.ones(20, 3), "0.bias": torch.ones(3), "1.weight": torch.ones(20, 20), "x": torch.ones(1),
             "1.bias": torch.ones(20)}  # fmt: skip
    found = load_strictly(large, state, model="m", allow=True)
    assert found == ["0.bias has shape (3,), not (20,)", "x is unexpected"]
    assert torch.equal(large[0].weight, torch.ones(20, 3))


# ---- the network


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine without a network: every connection fails, and is counted."""
    asked: list[str] = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        asked.append(address[0])
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    for name in ("https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def unresolved(*_: object, **__: object) -> list[object]:
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    return asked


@pytest.mark.parametrize(
    ("model", "fix"),
    [
        (
            "open_clip:ViT-B-32/laion2b_s34b_b79k",
            "write open_clip:ViT-B-32/laion2b_s34b_b79k@/path/to/weights.safetensors",
        ),
        ("timm:resnet18.a1_in1k", "write timm:resnet18.a1_in1k/@/path/to/weights.safetensors"),
        ("torchvision:squeezenet1_1", "write torchvision:squeezenet1_1/IMAGENET1K_V1@/path/to/weights.pth"),
        ("open_clip:hf-hub:org/name", "write local:/path/to/folder"),
        ("timm:hf-hub:org/name", "write local:/path/to/folder"),
    ],
)
def test_without_a_network_one_sentence(
    model: str, fix: str, offline: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    before = (hub.HF_HUB_OFFLINE, socket.getdefaulttimeout(), logging.root.handlers[:], logging.root.manager.disable)
    with pytest.raises(ModelError) as caught:
        open_encoder(model)
    assert fix in str(caught.value) and "does not answer" in str(caught.value)
    assert "\n" not in str(caught.value) and len(offline) <= 2
    assert caught.value.__suppress_context__
    assert capfd.readouterr() == ("", "")
    after = (hub.HF_HUB_OFFLINE, socket.getdefaulttimeout(), logging.root.handlers[:], logging.root.manager.disable)
    assert after == before


def test_fetch_errors_are_told_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_answers", lambda host: True)
    with (
        pytest.raises(ModelError, match=r"of m are not here .*URLError from example.org.; do x"),
        fetching("m", host="example.org", fix="do x"),
    ):
        raise urllib.error.URLError("gone")
    with pytest.raises(ModelError, match="RuntimeError from"), fetching("m", host="h", fix="do x"):
        try:
            raise ConnectionResetError
        except OSError as error:
            raise RuntimeError("wrapped") from error
    with pytest.raises(ZeroDivisionError), fetching("m", host="h", fix="do x"):
        1 / 0
    with pytest.raises(ModelError, match="mine"), fetching("m", host="h", fix="do x"):
        raise ModelError("mine")


def test_quiet_restores_logging(caplog: pytest.LogCaptureFixture) -> None:
    with quiet():
        logging.getLogger("x").error("hidden")
        logging.error("hidden")
    logging.getLogger("x").error("shown")
    assert [r.message for r in caplog.records] == ["shown"]
