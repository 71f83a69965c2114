"""Packed towers, shared prefixes and prompts against open_clip's own pass over the whole context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from tiny import built, clip_config
from torch import Tensor

from w2s_fast.backbones import class_prompts, encode_prompts, open_encoder, text, tower_of
from w2s_fast.backbones.text import OpenClipText
from w2s_fast.backbones.tokens import Tokens
from w2s_fast.core.errors import MissingText, UsageError

NAMES = ["Hot_Dog", "cat", "aircraft carrier", "x", "the eiffel tower"]
KINDS: dict[str, dict[str, Any]] = {
    "clip": {},
    "quick": {"quick_gelu": True},
    "custom": {"custom_text": True},
    "scales": {"text_cfg": {"ls_init_value": 0.7, "proj_bias": True}},
    "eos": {"custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 49407}},
    "norms": {"text_cfg": {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_fc": True}},
    "both ways": {"custom_text": True, "text_cfg": {"no_causal_mask": True, "pool_type": "last"}},
    "first": {"custom_text": True, "text_cfg": {"no_causal_mask": True, "pool_type": "first"}},
    "causal last": {"custom_text": True, "text_cfg": {"pool_type": "last"}},
}
CONTEXT = 24
TOKENIZER = open_clip.SimpleTokenizer(context_length=CONTEXT)


def net_of(kind: str) -> Any:
    changes = {key: dict(value) if isinstance(value, dict) else value for key, value in KINDS[kind].items()}
    changes["text_cfg"] = {**changes.get("text_cfg", {}), "context_length": CONTEXT}
    net = built(clip_config(**changes)).requires_grad_(False)
    for name, p in net.named_parameters():
        if name.endswith(("head_scale", "gamma")) or "ln_" in name:  # ones and zeros would hide what is left out
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(sum(name.encode()))))
    return net


def plain(net: Any, context: Tensor, *, position: str, end: str, csc: bool) -> Tensor:
    """CoOp as published: prompts of the whole context by concatenation, open_clip's transformer, its own pooling."""
    source = net if hasattr(net, "positional_embedding") else net.text
    m = context.shape[-2]
    words = [name.replace("_", " ").lower() for name in NAMES]
    ids = TOKENIZER([" ".join(["X"] * m) + " " + word + end for word in words])
    emb = source.token_embedding(ids).to(context.dtype)
    rows = []
    for c, word in enumerate(words):
        n = len(TOKENIZER.encode(word))
        own = context[c] if csc else context
        name, rest = emb[c, 1 + m : 1 + m + n], emb[c, 1 + m + n :]
        half = m // 2
        middle = {"end": [own, name], "middle": [own[:half], name, own[half:]], "front": [name, own]}[position]
        rows.append(torch.cat([emb[c, :1], *middle, rest]))
    x = source.transformer(torch.stack(rows) + source.positional_embedding, attn_mask=source.attn_mask)
    pool = getattr(source, "text_pool_type", None) or source.pool_type
    pooled = open_clip.transformer.text_global_pool(source.ln_final(x), ids, pool, eos_token_id=49407)
    projection = source.text_projection
    return projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def both(net: Any, context: Tensor, *, position: str, end: str = ".", csc: bool = False, **how: Any) -> list[Tensor]:
    """Features and context gradients of a random G: the plain pass, then ours."""
    found = []
    for by_us in (False, True):
        leaf = context.clone().requires_grad_()
        if by_us:
            prompts = class_prompts(
                tower_of(net, TOKENIZER), NAMES, m=context.shape[-2], position=position, end=end, csc=csc
            )
            out = encode_prompts(prompts.tower, leaf, prompts, **how)
        else:
            out = plain(net, leaf, position=position, end=end, csc=csc)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5), dtype=out.dtype)
        found += [out.detach(), torch.autograd.grad((out * weight).sum(), leaf)[0]]
    return found


def context_of(m: int, *lead: int) -> Tensor:
    return 0.5 * torch.randn(*lead, m, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_features_and_gradients_equal_the_whole_pass(kind: str, position: str) -> None:
    net = net_of(kind)
    for csc in (False, True):
        context = context_of(5, len(NAMES)) if csc else context_of(5)
        text_plain, grad_plain, ours, grad = both(net, context, position=position, csc=csc)
        assert far(ours, text_plain) < 1e-5 and far(grad, grad_plain) < 1e-5, csc
        assert float(grad_plain.norm()) > 0.1 and float(text_plain.std()) > 0.1


@pytest.mark.parametrize("m", [1, 16])
def test_short_and_long_contexts(m: int) -> None:
    text_plain, grad_plain, ours, grad = both(net_of("clip"), context_of(m), position="end")
    assert far(ours, text_plain) < 1e-5 and far(grad, grad_plain) < 1e-5


def test_double_precision_is_exact() -> None:
    net = net_of("clip").double()
    for position in ("end", "middle"):
        text_plain, grad_plain, ours, grad = both(net, context_of(4).double(), position=position)
        assert ours.dtype == torch.float64 and far(ours, text_plain) < 1e-13 and far(grad, grad_plain) < 1e-12


@pytest.mark.parametrize("kind", ["clip", "both ways"])
def test_chunks_accumulate_the_same_gradient(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls = net_of(kind), []
    checkpoint = text.checkpoint
    monkeypatch.setattr(text, "checkpoint", lambda *a, **k: calls.append(1) or checkpoint(*a, **k))
    for csc in (False, True):
        context = context_of(4, len(NAMES)) if csc else context_of(4)
        text_plain, grad_plain, ours, grad = both(net, context, position="end", csc=csc, chunk=2)
        assert len(calls) == 3 and far(ours, text_plain) < 1e-5 and far(grad, grad_plain) < 1e-5
        calls.clear()
    both(net, context_of(4), position="end")
    assert not calls
    monkeypatch.setattr(text, "_CPU_BYTES", 1)
    both(net, context_of(4), position="end")
    assert len(calls) == len(NAMES)


def test_chunks_bound_what_a_gradient_keeps() -> None:
    net = net_of("clip")
    tower, context = tower_of(net, TOKENIZER), context_of(4).requires_grad_()
    prompts = class_prompts(tower, [f"{a} {b}" for a in "abcdefgh" for b in "abcdefgh"], m=4)
    kept = {}
    for chunk in (64, 4):
        sizes: dict[int, int] = {}

        def pack(t: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        own = {p.untyped_storage().data_ptr() for p in net.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            prompts.encode(context, chunk=chunk)
        kept[chunk] = sum(size for at, size in sizes.items() if at not in own)
    assert kept[4] < kept[64] / 3


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
@pytest.mark.parametrize("kind", ["clip", "norms", "both ways"])
def test_half_precision_blocks(kind: str, dtype: torch.dtype, most: float) -> None:
    _, _, exact, slope = both(net_of(kind), context_of(4), position="end")
    _, _, ours, grad = both(net_of(kind), context_of(4), position="end", dtype=dtype)
    assert ours.dtype == grad.dtype == torch.float32
    assert 1e-6 < far(ours, exact) < most and 1e-6 < far(grad, slope) < 2 * most
    # rows are not of half precision themselves: norms, residual stream and projection are not rounded
    assert not torch.equal(ours, ours.to(dtype).float())


def test_softmax_and_norms_stay_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[torch.dtype]] = {"softmax": set(), "norm": set(), "linear": set()}
    softmax, norm, product = (
        Tensor.softmax,
        text.Core.forward.__globals__["layer_norm"],
        text.Core.forward.__globals__["linear"],
    )
    monkeypatch.setattr(Tensor, "softmax", lambda x, *a: seen["softmax"].add(x.dtype) or softmax(x, *a))
    names = text.Core.forward.__globals__
    monkeypatch.setitem(names, "layer_norm", lambda x, *a: seen["norm"].add(x.dtype) or norm(x, *a))
    monkeypatch.setitem(names, "linear", lambda x, *a: seen["linear"].add(x.dtype) or product(x, *a))
    both(net_of("clip"), context_of(4), position="end", dtype=torch.bfloat16)
    assert seen == {"softmax": {torch.float32}, "norm": {torch.float32}, "linear": {torch.bfloat16}}


def test_leads_are_separate_prompts() -> None:
    net = net_of("clip")
    for position, csc in (("end", False), ("middle", False), ("end", True)):
        shape = (3, len(NAMES)) if csc else (3,)
        context = context_of(4, *shape).requires_grad_()
        out = encode_prompts(tower_of(net, TOKENIZER), context, NAMES, position=position, csc=csc)
        assert out.shape == (3, len(NAMES), 20)
        one = plain(net, context[1], position=position, end=".", csc=csc)
        assert far(out[1].detach(), one.detach()) < 1e-5
        grad = torch.autograd.grad(out[1].sum(), context)[0]
        assert float(grad[0].abs().max()) == float(grad[2].abs().max()) == 0 < float(grad[1].abs().max())


def test_positions_that_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix once, every class its own tokens, and in the last block one position per class."""
    rows: list[int] = []
    names = text.Core.forward.__globals__
    product = names["linear"]
    monkeypatch.setitem(names, "linear", lambda x, *a: rows.append(x.shape[:-1].numel()) or product(x, *a))
    tower = tower_of(net_of("clip"), TOKENIZER)
    encode_prompts(tower, context_of(4), NAMES, end=".")
    own = sum(len(TOKENIZER.encode(n.replace("_", " ").lower())) + 2 for n in NAMES)
    prefix, packed = 5, own
    # two blocks: prefix keys, prefix out, last keys; then texts
    assert rows == [prefix, prefix, prefix, packed, packed, packed, len(NAMES)]


def test_changed_weights_are_seen() -> None:
    net = net_of("clip")
    tower, context = tower_of(net, TOKENIZER), context_of(4)
    before = encode_prompts(tower, context, NAMES, dtype=torch.bfloat16)
    net.transformer.resblocks[0].mlp.c_fc.weight.mul_(1.5)
    after = encode_prompts(tower, context, NAMES, dtype=torch.bfloat16)
    assert far(after, before) > 0.01
    assert far(encode_prompts(tower, context, NAMES), plain(net, context, position="end", end=".", csc=False)) < 1e-5


def test_the_drawn_tower() -> None:
    tower = open_encoder("drawn:clip").text_tower()
    names = ["cat", "ice cream", "bicycle"]
    for end in ("", "."):
        prompts = class_prompts(tower, names, words="a photo of a", end=end)
        assert prompts.m == 4 and prompts.shared == 5
        context = (
            prompts.start + 0.02 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
        ).requires_grad_()
        ids = tower._tokens([f"a photo of a {name}{end}" for name in names])
        emb = torch.cat([tower.embed(ids[:, :1]), context.expand(3, 4, 64), tower.embed(ids[:, 5:])], 1)
        core = tower._core
        whole = core.plain(emb, tower.eot(ids), torch.float32)
        ours = prompts.encode(context)
        weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
        slopes = [torch.autograd.grad((t * weight).sum(), context, retain_graph=True)[0] for t in (ours, whole)]
        assert far(ours.detach(), whole.detach()) < 1e-5 and far(*slopes) < 1e-5
        said = text.text_features(tower, names, "a photo of a {}" + end)
        assert far(prompts.encode(prompts.start), said) < 1e-5


def test_blocks_of_another_kind_run_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    net = net_of("clip")
    net.transformer.resblocks[0].__class__ = type("Other", (type(net.transformer.resblocks[0]),), {})
    assert not tower_of(net, TOKENIZER)._core.packs
    text_plain, grad_plain, ours, grad = both(net, context_of(4), position="middle")
    assert far(ours, text_plain) < 1e-5 and far(grad, grad_plain) < 1e-5


def test_what_is_refused(tmp_path: Path) -> None:
    tower = tower_of(net_of("clip"), TOKENIZER, name="tiny")
    for names, says in (([], "needs class names and none were given"), (["cat", "_"], "class name 1 is empty")):
        with pytest.raises(UsageError, match=says):
            encode_prompts(tower, context_of(4), names)
    with pytest.raises(MissingText, match=r"class name 'cat cat .*': '.*' has 25 tokens, and tiny takes 24"):
        encode_prompts(tower, context_of(4), ["dog", "cat " * 18])
    for m in (23, 90):
        with pytest.raises(UsageError, match=rf"a context of {m} words or vectors leaves no room.* takes 24 tokens"):
            encode_prompts(tower, context_of(m), NAMES)
    with pytest.raises(UsageError, match=r"no room for class names"):
        class_prompts(tower, NAMES, words="photo-of/a " * 9)
    with pytest.raises(UsageError, match=r"shape \(4, 20\); this tower takes vectors of its width, \[..., M, 24\]"):
        encode_prompts(tower, torch.zeros(4, 20), NAMES)
    with pytest.raises(UsageError, match=r"these prompts take \[..., 4, 24\]"):
        encode_prompts(tower, context_of(5), class_prompts(tower, NAMES, m=4))
    with pytest.raises(UsageError, match=r"these prompts take \[..., 5, 4, 24\]"):
        encode_prompts(tower, context_of(4, 3), NAMES, csc=True)
    with pytest.raises(UsageError, match="'ends' is none of end, middle, front"):
        encode_prompts(tower, context_of(4), NAMES, position="ends")
    with pytest.raises(MissingText, match="WordNet"):
        encode_prompts(tower, context_of(4), ["n01440764"])
    first = built(clip_config(custom_text=True, text_cfg={"pool_type": "first", "context_length": CONTEXT}))
    with pytest.raises(UsageError, match="reads its texts at their first token"):
        encode_prompts(tower_of(first, TOKENIZER), context_of(4), NAMES)
    with pytest.raises(MissingText, match="kind"):
        tower_of(torch.nn.Linear(2, 2), TOKENIZER)


def test_a_tower_of_the_plain_protocol_is_enough() -> None:
    """Third-party towers need not know dtype and chunk unless they are asked for."""
    net = net_of("clip")

    class Other:
        def __init__(self) -> None:
            self.inner = OpenClipText(net, Tokens(TOKENIZER, context_length=CONTEXT, model="o"), name="o")
            self.width, self.context_length, self.logit_scale = 24, CONTEXT, 100.0
            self.tokenize, self.eot, self.embed = self.inner.tokenize, self.inner.eot, self.inner.embed

        def encode(self, emb: Tensor, eot: Tensor, prefix: Tensor | None = None, params: Any = None) -> Tensor:
            return self.inner.encode(emb, eot, prefix, params)

    context = context_of(4)
    assert torch.equal(
        encode_prompts(Other(), context, NAMES), encode_prompts(tower_of(net, TOKENIZER), context, NAMES)
    )


def test_as_many_prompts_as_classes_are_no_contexts_per_class() -> None:
    tower = tower_of(net_of("clip"), TOKENIZER)
    context = context_of(4, len(NAMES))
    out = encode_prompts(tower, context, NAMES)
    assert out.shape == (len(NAMES), len(NAMES), 20)
    assert far(out[2], encode_prompts(tower, context[2], NAMES)) < 1e-6


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with a small model in place of the download and made-up images."""
    doc = encode_prompts.__doc__ or ""
    lines = doc[doc.index("        import open_clip") : doc.index("    Source:")].splitlines()
    net = built(clip_config(text_cfg={"context_length": 77})).requires_grad_(False)
    monkeypatch.setattr(open_clip, "create_model", lambda *names: net)
    space = {"images": torch.eye(20)[:6], "labels": torch.arange(6) % 2}
    exec("\n".join(line[8:] for line in lines), space)
    context: Any = space["context"]
    assert context.shape == (4, 24) and float(context.grad.abs().sum()) > 0
