from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from tiny import built, clip_config, clip_folder
from torch import Tensor

from w2s_fast.backbones import open_encoder
from w2s_fast.backbones.text import OpenClipText, text_features
from w2s_fast.backbones.tokens import Tokens
from w2s_fast.core.errors import MissingText, ModelError, UsageError
from w2s_fast.core.protocols import TextTower

TEXTS = ["a photo of a cat", "hot dog", "a photo of a aircraft carrier", "x"]
KINDS: dict[str, dict[str, Any]] = {
    "clip": {},
    "quick": {"quick_gelu": True},
    "custom": {"custom_text": True},
    "bias": {"text_cfg": {"proj_bias": True}},
    "both ways": {"custom_text": True, "text_cfg": {"no_causal_mask": True, "pool_type": "last"}},
    "first": {"custom_text": True, "text_cfg": {"no_causal_mask": True, "pool_type": "first"}},
    "eos": {"custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 49407}},
}


@pytest.fixture(params=list(KINDS))
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, OpenClipText]:
    net = clip_folder(tmp_path, **KINDS[request.param])
    return net, open_encoder(f"local:{tmp_path}").text_tower()


def off(a: Tensor, b: Tensor) -> float:
    """The largest difference of two rows, relative to the row."""
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max())


def reference(net: Any, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return net.encode_text(open_clip.SimpleTokenizer(context_length=16)(texts))


def test_encode_equals_encode_text(pair: tuple[Any, OpenClipText]) -> None:
    net, tower = pair
    assert isinstance(tower, TextTower)
    tokens = tower.tokenize(TEXTS)
    with torch.no_grad():
        ours = tower.encode(tower.embed(tokens), tower.eot(tokens))
    expected = reference(net, TEXTS)
    assert off(ours, expected) < 1e-6 and expected.std() > 0.1
    assert tower.width == 24 and tower.context_length == 16
    assert tower.logit_scale == pytest.approx(float(net.logit_scale.detach().exp()))
    assert tokens.shape[1] == (8 if tower.causal else 16)
    assert off(text_features(tower, TEXTS, "{}"), expected) < 1e-6


def test_a_prefix_is_the_same_as_the_whole_text(pair: tuple[Any, OpenClipText]) -> None:
    _, tower = pair
    tokens = tower.tokenize(["a photo of a cat", "a photo of a hot dog"])
    emb, eot = tower.embed(tokens), tower.eot(tokens)
    if not tower.causal:
        return
    with torch.no_grad():
        whole = tower.encode(emb, eot)
        split = tower.encode(emb[:, 5:], eot - 5, prefix=emb[0, :5])
    assert off(whole, split) < 1e-6


def test_leads_broadcast_against_a_naive_loop(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    tokens = tower.tokenize(["cat", "hot dog", "fish"])[:, 1:]
    emb, eot = tower.embed(tokens), tower.eot(tokens)
    prefix = torch.randn(2, 4, 24, generator=torch.Generator().manual_seed(0))
    out = tower.encode(emb, eot, prefix=prefix)
    assert out.shape == (2, 3, 20)
    for r in range(2):
        for c in range(3):
            text = torch.cat([prefix[r], emb[c]])[None, None, None]
            one = tower.encode(text, eot[c : c + 1] + 4)
            assert one.shape == (1, 1, 1, 20) and (one[0, 0, 0] - out[r, c]).abs().max() < 1e-6
    stacked = emb.expand(2, 3, *emb.shape[1:])
    assert torch.equal(tower.encode(stacked, eot, prefix=prefix), out)
    with pytest.raises(UsageError, match="more than the context"):
        tower.encode(emb, eot, prefix=torch.zeros(14, 24))


def test_params_replace_the_towers_own_and_carry_gradients(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    other = built(clip_config(), seed=7)
    theirs = OpenClipText(other, Tokens(open_clip.SimpleTokenizer(), context_length=16, model="o"), name="o")
    tokens = tower.tokenize(TEXTS)
    emb, eot = theirs.embed(tokens), tower.eot(tokens)
    own, others = tower.params(), theirs.params()
    assert own.keys() == others.keys() and not any(v.requires_grad for v in own.values())
    with torch.no_grad():
        expected = theirs.encode(emb, eot)
        assert torch.equal(tower.encode(emb, eot, params=others), expected)
        stack = {k: torch.stack([own[k], others[k]]) for k in own}
        both = tower.encode(emb, eot, params=stack)
    assert both.shape == (2, 4, 20)
    assert torch.equal(both[1], expected) and torch.equal(both[0], tower.encode(emb, eot))
    leaf = {k: v.clone().requires_grad_() for k, v in own.items() if k != "token_embedding.weight"}
    prefix = torch.randn(2, 24, requires_grad=True)
    tower.encode(emb, eot, prefix=prefix, params={**own, **leaf}).sum().backward()
    assert prefix.grad is not None and float(prefix.grad.abs().sum()) > 0
    assert all(v.grad is not None and float(v.grad.abs().sum()) > 0 for v in leaf.values())
    assert all(p.grad is None for p in tower._core.parameters())


def test_the_tower_shares_memory_and_device(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    encoder = open_encoder(f"local:{tmp_path}")
    tower = encoder.text_tower()
    shared = dict(encoder.module.named_parameters())["positional_embedding"]
    assert tower.params()["positional_embedding"].data_ptr() == shared.data_ptr()
    assert tower.device.type == "cpu"


# ---- class names


def test_text_features_by_hand(tmp_path: Path) -> None:
    net = clip_folder(tmp_path)
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    one = text_features(tower, ["Hot_Dog", "cat"])
    assert off(one, reference(net, ["a photo of a hot dog", "a photo of a cat"])) < 1e-6
    assert one.dtype == torch.float32 and not one.is_inference() and not one.requires_grad
    forms = ["a {}.", "the {} there"]
    units = [torch.nn.functional.normalize(reference(net, [f.format(n) for n in ("hot dog", "cat")])) for f in forms]
    mean = text_features(tower, ["hot_dog", "cat"], forms, batch_size=1)
    assert off(mean, (units[0] + units[1]) / 2) < 1e-6
    assert (mean.norm(dim=1) < 1).all()
    assert text_features(tower, ["a {0} b", "{x}"], "{}").shape == (2, 20)


def test_text_feature_errors(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    with pytest.raises(MissingText, match=r"'n01440764' is a WordNet id.*--class-names FILE"):
        text_features(tower, ["cat", "n01440764"])
    for form in ("a photo", "{} and {}"):
        with pytest.raises(UsageError, match=r"exactly one {}"):
            text_features(tower, ["cat"], form)
    with pytest.raises(UsageError, match="at least one"):
        text_features(tower, [])
    with pytest.raises(MissingText, match=r"class name 'cat cat .*has 17 tokens, and local.* takes 16"):
        text_features(tower, ["dog", "cat " * 11])


class Cutting:
    """As tokenizers of Hugging Face do: cuts and pads in silence, here with the end of text (1) as padding."""

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        rows = [[*(ord(c) for c in text)][: context_length - 1] for text in texts]
        return torch.tensor([row + [1] * (context_length - len(row)) for row in rows])


def test_tokenizers_of_others_do_not_cut_in_silence() -> None:
    tokens = Tokens(Cutting(), context_length=6, model="siglip")
    assert tokens(["cat", "", "horse"]).tolist()[2] == [*map(ord, "horse"), 1]
    for long in ("horses", "horse carriage", "x" * 99):
        with pytest.raises(MissingText, match=rf"'{long}' has more than 6 tokens, and siglip takes 6"):
            tokens(["cat", long])


# ---- compacted vocabularies


def compacted(folder: Path, words: str) -> tuple[Any, list[int], Any]:
    """A folder with a compacted vocabulary, its kept ids, and the uncompacted model of the same weights."""
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    kept = sorted({0, tokenizer.sot_token_id, tokenizer.eot_token_id, *tokenizer.encode(words)})
    small = clip_folder(folder, kept=kept, text_cfg={"vocab_size": len(kept)})
    whole = built(clip_config())
    state = {k: v for k, v in small.state_dict().items() if k != "token_embedding.weight"}
    whole.load_state_dict(state, strict=False)
    whole.token_embedding.weight.data[kept] = small.token_embedding.weight.data
    return small, kept, whole


def test_a_compacted_vocabulary_is_remapped(tmp_path: Path) -> None:
    _, kept, whole = compacted(tmp_path, "a photo of a cat hot dog")
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    texts = ["a photo of a cat", "hot dog"]
    tokens = tower.tokenize(texts)
    original = open_clip.SimpleTokenizer(context_length=16)(texts)
    assert torch.equal(torch.tensor(kept)[tokens], original[:, : tokens.shape[1]])
    ours = text_features(tower, ["cat", "hot dog"], "a photo of a {}")
    assert off(ours, reference(whole, ["a photo of a cat", "a photo of a hot dog"])) < 1e-6


def test_an_unknown_token_is_an_error_that_names_it(tmp_path: Path) -> None:
    compacted(tmp_path, "a photo of a cat")
    tower = open_encoder(f"local:{tmp_path}").text_tower()
    with pytest.raises(MissingText, match=r"class name 'Hot_Dog': 'a photo of a hot dog' has the token 'hot', which"):
        text_features(tower, ["cat", "Hot_Dog"])
    with pytest.raises(MissingText, match="'dog', which the vocabulary of local:"):
        tower.tokenize(["a dog"])


def test_vocabularies_that_do_not_fit(tmp_path: Path) -> None:
    _, kept, _ = compacted(tmp_path, "a photo of a cat")
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps({"tokenizer": "open_clip.SimpleTokenizer", "ids": kept}))
    fits = open_encoder(f"local:{tmp_path}").text_tower().tokenizer_digest
    for content, says in (
        (json.dumps(kept[:-1]), f"has {len(kept) - 1} ids, but the text tower has {len(kept)} rows"),
        (json.dumps(kept[::-1]), "must ascend"),
        (json.dumps([*kept[:-1], kept[-1] - 2]), "must ascend"),
        ("{", "is not a list of token ids"),
        ('{"a": 1}', "is not a list of token ids"),
    ):
        path.write_text(content)
        with pytest.raises(ModelError, match=says):
            open_encoder(f"local:{tmp_path}").text_tower()
    other = kept.copy()
    other[1] += 1
    path.write_text(json.dumps(other))
    assert open_encoder(f"local:{tmp_path}").text_tower().tokenizer_digest != fits


def test_towers_that_cannot_be_taken_apart(tmp_path: Path) -> None:
    clip_folder(tmp_path, custom_text=True, text_cfg={"embed_cls": True})
    encoder = open_encoder(f"local:{tmp_path}")
    with pytest.raises(MissingText, match="text tower of a kind"):
        encoder.text_tower()
