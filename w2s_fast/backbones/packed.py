"""A causal text tower on just the positions that its features depend on, with a prefix that all texts share.

A position sees only those before it. So nothing after the end of a text reaches the feature read there (exact
truncation), and the hidden states of a prefix are the same whatever follows it: its keys and values are computed once
and every text attends to them. Token-wise layers run on the kept positions of all texts, packed into one axis; only
attention sees texts side by side. The last block is computed for the positions that are read out alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

Keys = list[tuple[Tensor, Tensor]]
"""Per block the keys and values of a prefix, f[R, m, H, e] each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packing:
    """Which positions of texts [c, L] are kept, packed text by text into one axis of T.

    column: i[T], its place in the text. flat: i[T], its place in c * L. slot: i[T], its place in c * S, S the longest
    kept text. padded: i[c * S], the packed position of each slot (beyond the end: that of the end). ends: i[c].
    """

    count: int
    longest: int
    column: Tensor
    flat: Tensor
    slot: Tensor
    padded: Tensor
    ends: Tensor


@lru_cache(maxsize=256)
def pack(eot: tuple[int, ...], length: int, device: torch.device) -> Packing:
    """The packing of texts of `length` positions that are read out at `eot`."""
    last = torch.tensor(eot)
    longest = int(last.max()) + 1
    kept = torch.arange(longest) <= last[:, None]
    text, column = kept.nonzero(as_tuple=True)
    ends = torch.cumsum(last + 1, 0) - 1
    first = ends - last
    padded = first[:, None] + torch.minimum(torch.arange(longest), last[:, None])
    parts = {
        "column": column,
        "flat": text * length + column,
        "slot": text * longest + column,
        "padded": padded.flatten(),
        "ends": ends,
    }
    return Packing(count=len(eot), longest=longest, **{name: part.to(device) for name, part in parts.items()})


class Core(nn.Module):
    """The text half of an open_clip model, from token embeddings on; shares its parameters, owns none.

    `forward` runs the method named first, so that `functional_call` can replace parameters for any of them.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.token_embedding: nn.Embedding = source.token_embedding
        self.positional_embedding: nn.Parameter = source.positional_embedding
        self.transformer: Any = source.transformer
        self.ln_final: nn.LayerNorm = source.ln_final
        self.text_projection: nn.Parameter | nn.Linear | None = source.text_projection
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", source.attn_mask, persistent=False)
        self.packs = self.attn_mask is not None and all(_known(b) for b in getattr(self.transformer, "resblocks", [0]))

    def forward(self, part: str, *args: Any) -> Any:
        return getattr(self, part)(*args)

    def products(self) -> set[str]:
        """Names of the parameters that enter matrix products of the blocks."""
        kinds = (nn.Linear, nn.MultiheadAttention)
        owners = [
            (name, module)
            for name, module in self.named_modules()
            if name.startswith("transformer.") and (isinstance(module, kinds) or hasattr(module, "in_proj_weight"))
        ]
        return {f"{name}.{own}" for name, module in owners for own, _ in module.named_parameters(recurse=False)}

    def plain(self, x: Tensor, at: Tensor, dtype: torch.dtype) -> Tensor:
        """Embeddings f[n, t, w] without positions, pooled positions i[n] -> f[n, d]: every position of every text."""
        length = x.shape[1]
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length].to(x.device)
        half = dtype in (torch.float16, torch.bfloat16)
        with torch.autocast(x.device.type, dtype=dtype) if half else nullcontext():
            x = self.transformer(x + self.positional_embedding[:length], attn_mask=mask)
        return self._read(x[torch.arange(len(x), device=x.device), at].to(self.positional_embedding.dtype))

    def prefix(self, x: Tensor, dtype: torch.dtype) -> Keys:
        """Keys and values in every block of the positions f[R, m, w] that all texts begin with."""
        length = x.shape[-2]
        hidden, keys = x + self.positional_embedding[:length], Keys()
        mask = _causal(length, x.device)
        last = self.transformer.resblocks[-1]
        for block in self.transformer.resblocks:
            q, k, v = _split(block.attn, _product(block.ln_1, hidden, dtype))
            keys.append((k, v))
            if block is not last:
                # one text, which all the others begin with
                mixed = _attend(q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), None, mask)
                hidden = _leave(block, hidden, mixed.squeeze(1))
        return keys

    def texts(self, x: Tensor, packing: Packing, keys: Keys | None, shared: int, dtype: torch.dtype) -> Tensor:
        """Packed embeddings f[R, T, w] without positions, after `shared` prefix positions -> f[R, c, d]."""
        hidden = x + self.positional_embedding[shared : shared + packing.longest].index_select(0, packing.column)
        runs, c, s = len(x), packing.count, packing.longest
        mask = _causal(s, x.device)
        blocks = self.transformer.resblocks
        for number, block in enumerate(blocks):
            inner = _product(block.ln_1, hidden, dtype)
            before = keys[number] if keys is not None else None
            side = linear(inner, block.attn.in_proj_weight, block.attn.in_proj_bias).index_select(1, packing.padded)
            q, k, v = (part.unflatten(1, (c, s)) for part in _heads(block.attn, side))
            if number + 1 < len(blocks):
                mixed = _attend(q, k, v, before, mask).flatten(1, 2).index_select(1, packing.slot)
            else:
                at = packing.slot.index_select(0, packing.ends)
                hidden = hidden.index_select(1, packing.ends)
                q = q.flatten(1, 2).index_select(1, at).unsqueeze(2)
                mixed = _attend(q, k, v, before, mask.index_select(0, at % s).view(c, 1, 1, s)).flatten(1, 2)
            hidden = _leave(block, hidden, mixed)
        return self._read(hidden.expand(runs, c, -1))

    def _read(self, x: Tensor) -> Tensor:
        x = _norm(self.ln_final, x)
        if self.text_projection is None:
            return x
        return self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection


def _known(block: Any) -> bool:
    """Whether a block is one of the two kinds of open_clip, of which the code here knows every part."""
    attention: Any = getattr(block, "attn", None)
    if type(block).__name__ == "ResidualAttentionBlock":
        plain = isinstance(attention, nn.MultiheadAttention) and attention.bias_k is None
        return plain and not attention.add_zero_attn and not hasattr(block, "ln_1_kv")
    custom = type(block).__name__ == "CustomResidualAttentionBlock" and type(attention).__name__ == "Attention"
    return custom and attention.logit_scale is None


def _norm(norm: Any, x: Tensor) -> Tensor:
    """A layer norm in the precision of the residual stream; identities stay."""
    if not isinstance(norm, nn.LayerNorm):
        return norm(x)
    return layer_norm(x.to(norm.weight.dtype), norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _product(norm: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    return _norm(norm, x).to(dtype)


def _split(attention: Any, inner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _heads(attention, linear(inner, attention.in_proj_weight, attention.in_proj_bias))


def _heads(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f[R, n, 3 w] -> scaled queries, keys, values f[R, n, H, e]."""
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)) for part in qkv.chunk(3, dim=-1))
    if hasattr(attention, "ln_q"):
        q, k = _norm(attention.ln_q, q).to(v.dtype), _norm(attention.ln_k, k).to(v.dtype)
    return q * q.shape[-1] ** -0.5, k, v


def _causal(length: int, device: torch.device) -> Tensor:
    return torch.full((length, length), -torch.inf, device=device).triu(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, before: tuple[Tensor, Tensor] | None, mask: Tensor) -> Tensor:
    """q f[R, c, a, H, e], k and v f[R, c, s, H, e], a prefix's f[R, m, H, e] -> f[R, c, a, H, e]; softmax in fp32."""
    runs, c, a, heads, width = q.shape
    queries = q.transpose(2, 3)
    scores = (
        (queries @ k.permute(0, 1, 3, 4, 2)).float() if q.dtype != torch.float64 else queries @ k.permute(0, 1, 3, 4, 2)
    )
    scores = scores + mask.to(scores.dtype)
    if before is None:
        return (scores.softmax(-1).to(v.dtype) @ v.transpose(2, 3)).transpose(2, 3)
    m = before[0].shape[1]
    # the prefix's keys are one matrix for the queries of all texts
    flat = q.permute(0, 3, 1, 2, 4).reshape(runs, heads, c * a, width)
    earlier = (flat @ before[0].permute(0, 2, 3, 1)).to(scores.dtype).view(runs, heads, c, a, m).transpose(1, 2)
    share = torch.cat([earlier, scores], -1).softmax(-1).to(v.dtype)
    own = share[..., m:] @ v.transpose(2, 3)
    theirs = share[..., :m].transpose(1, 2).reshape(runs, heads, c * a, m) @ before[1].transpose(1, 2)
    return (own + theirs.view(runs, heads, c, a, width).transpose(1, 2)).transpose(2, 3)


def _leave(block: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block after attention f[R, n, H, e], on the residual stream f[R, n, w]."""
    attention = block.attn
    if getattr(attention, "head_scale", None) is not None:
        mixed = mixed * attention.head_scale.squeeze(-1).to(mixed.dtype)
    mixed = mixed.flatten(-2)
    if hasattr(attention, "ln_inner"):
        mixed = _norm(attention.ln_inner, mixed).to(mixed.dtype)
    out = linear(mixed, attention.out_proj.weight, attention.out_proj.bias).to(hidden.dtype)
    hidden = hidden + block.ls_1(_norm(getattr(block, "ln_attn", nn.Identity()), out))
    inner = _product(block.ln_2, hidden, mixed.dtype)
    for part in block.mlp:
        inner = _norm(part, inner).to(mixed.dtype) if isinstance(part, nn.LayerNorm) else part(inner)
    return hidden + block.ls_2(inner.to(hidden.dtype))
