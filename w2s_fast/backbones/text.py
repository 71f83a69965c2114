"""Text towers of CLIP models, taken apart so that heads can tune prompts and weights through them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from w2s_fast.backbones.tokens import Tokens
from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.core.protocols import TextTower

TEMPLATE = "a photo of a {}"
"""The CPL paper's prompt: no final period, no change of article."""
_WORDNET = re.compile(r"n\d{8}")
_BATCH = 256
_POOLS = ("argmax", "eos", "last", "first")


class _Core(nn.Module):
    """The text half of an open_clip model, from token embeddings on; shares its parameters, owns none."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.token_embedding: nn.Embedding = source.token_embedding
        self.positional_embedding: nn.Parameter = source.positional_embedding
        self.transformer: nn.Module = source.transformer
        self.ln_final: nn.Module = source.ln_final
        self.text_projection: nn.Parameter | nn.Linear | None = source.text_projection
        self.attn_mask: Tensor | None
        self.register_buffer("attn_mask", source.attn_mask, persistent=False)

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        """Embeddings f[n, t, w] without positions, pooled positions i[n] -> f[n, d]."""
        length = x.shape[1]
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length]
        x = self.ln_final(self.transformer(x + self.positional_embedding[:length], attn_mask=mask))
        x = x[torch.arange(len(x), device=x.device), at]
        if self.text_projection is None:
            return x
        return self.text_projection(x) if isinstance(self.text_projection, nn.Linear) else x @ self.text_projection


class OpenClipText:
    """The `TextTower` (core's protocol) of an open_clip model whose text half is open_clip's own transformer.

    `encode` of embedded tokens equals the model's `encode_text`. Causal towers cut the padding that no position after
    the end of text can influence; bidirectional ones (SigLIP) keep the whole context. CoCa's appended token and
    Hugging Face text encoders are not supported (`MissingText`).
    """

    def __init__(self, model: Any, tokens: Tokens, *, name: str) -> None:
        source = model if hasattr(model, "positional_embedding") else getattr(model, "text", None)
        pool = getattr(source, "text_pool_type", None) or getattr(source, "pool_type", None)
        whole = all(hasattr(source, part) for part in ("token_embedding", "transformer", "ln_final", "attn_mask"))
        if not whole or pool not in _POOLS or getattr(source, "cls_emb", None) is not None:
            kind = type(source).__name__
            raise MissingText(
                f"{name} has a text tower of a kind ({kind}) that cannot be used; take another CLIP model"
            )
        if getattr(source, "use_pad_mask", False):
            raise MissingText(f"{name} masks padding in its text tower, which cannot be used; take another CLIP model")
        self._core = _Core(source).eval()
        self._tokens, self._pool = tokens, str(pool)
        self._eos = int(getattr(source, "text_eos_id", None) or getattr(source, "eos_id", 2))
        self.name = name
        self.width: int = int(self._core.positional_embedding.shape[1])
        self.context_length: int = tokens.context_length
        self.logit_scale: float = float(model.logit_scale.detach().double().exp())
        self.tokenizer_digest: str = tokens.digest

    @property
    def causal(self) -> bool:
        """Whether no position sees a later one, so that padding may be cut."""
        return self._core.attn_mask is not None

    @property
    def device(self) -> torch.device:
        """Where the tower's parameters are."""
        return self._core.positional_embedding.device

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids i[c, L] on the tower's device; L is the longest text's length if causal, else the context."""
        ids = self._tokens(texts)
        if self.causal and self._pool in {"argmax", "eos"}:
            ids = ids[:, : int(self.eot(ids).max()) + 1]
        return ids.to(self.device)

    def eot(self, tokens: Tensor) -> Tensor:
        """The position i[c] that is read out of each row of i[c, L]: the end of text for CLIP."""
        if self._pool == "argmax":
            return tokens.argmax(-1)
        if self._pool == "eos":
            return (tokens == self._eos).int().argmax(-1)
        last = tokens.shape[-1] - 1 if self._pool == "last" else 0
        return torch.full(tokens.shape[:-1], last, dtype=torch.int64, device=tokens.device)

    def params(self) -> dict[str, Tensor]:
        """The text half's tensors by name (detached, not copied): what `encode(params=)` takes in their place."""
        return {name: value.detach() for name, value in self._core.named_parameters()}

    def embed(self, tokens: Tensor) -> Tensor:
        """i[c, L] -> f[c, L, w], without positions."""
        return self._core.token_embedding(tokens)

    def encode(
        self, emb: Tensor, eot: Tensor, prefix: Tensor | None = None, params: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """f[*r, c, L, w], i[c] (and a prefix f[*r, m, w] before every text) -> f[*r, c, d], not normalised.

        Leads broadcast; `eot` counts inside `emb`; with a prefix, start of text is in it. `params` replaces the tower's
        own tensors, one set, or one per lead (then each has that one lead too). Differentiable in all of them.
        """
        lead = emb.shape[:-3]
        stacked = params is not None and params["positional_embedding"].ndim == 3
        shared = 0
        if prefix is not None:
            shared = prefix.shape[-2]
            lead = torch.broadcast_shapes(lead, prefix.shape[:-2])
        if params is not None and stacked:
            lead = torch.broadcast_shapes(lead, params["positional_embedding"].shape[:1])
        count, length = emb.shape[-3], emb.shape[-2]
        if shared + length > self._core.positional_embedding.shape[0]:
            raise UsageError(
                f"{shared} prefix and {length} text tokens are more than the context of {self.name} "
                f"({self._core.positional_embedding.shape[0]}); shorten the prompt"
            )
        x = emb.expand(*lead, count, length, self.width)
        if prefix is not None:
            x = torch.cat([prefix.unsqueeze(-3).expand(*lead, count, shared, self.width), x], -2)
        at = (eot + shared).expand(*lead, count)
        if params is None or not stacked:
            return self._run(x, at, params)
        each = [self._run(x[r], at[r], {k: v[r] for k, v in params.items()}) for r in range(lead[0])]
        return torch.stack(each)

    def _run(self, x: Tensor, at: Tensor, params: Mapping[str, Tensor] | None) -> Tensor:
        flat = (x.reshape(-1, *x.shape[-2:]), at.reshape(-1))
        out = self._core(*flat) if params is None else functional_call(self._core, dict(params), flat)
        return out.reshape(*x.shape[:-2], -1)


def text_features(
    tower: TextTower, names: Sequence[str], templates: Sequence[str] | str = (TEMPLATE,), *, batch_size: int = _BATCH
) -> Tensor:
    """Class names through templates and the tower: f32[k, d] on the CPU.

    Underscores become spaces and letters lower-case. One template gives the raw feature, several the mean of the unit
    features (not normalised again). Errors: `MissingText` for a WordNet id, or a name that the tower cannot read;
    `UsageError` for a template without exactly one `{}`.
    """
    forms = (templates,) if isinstance(templates, str) else tuple(templates)
    for form in forms:
        if form.count("{}") != 1:
            raise UsageError(f"the template {form!r} must hold exactly one {{}} for the class name")
    if not forms or not names:
        raise UsageError("text features need at least one template and one class name")
    if ids := [n for n in names if _WORDNET.fullmatch(n)]:
        raise MissingText(f"{ids[0]!r} is a WordNet id, not a name; give the names with --class-names FILE")
    words = [" ".join(n.replace("_", " ").lower().split()) for n in names]
    parts = [_prompted(tower, names, words, form, batch_size) for form in forms]
    if len(parts) == 1:
        return parts[0]
    return torch.stack([nn.functional.normalize(p, dim=-1) for p in parts]).mean(0)


def _prompted(tower: TextTower, names: Sequence[str], words: list[str], form: str, size: int) -> Tensor:
    out: list[Tensor] = []
    for start in range(0, len(words), size):
        texts = [form.replace("{}", word) for word in words[start : start + size]]
        try:
            tokens = tower.tokenize(texts)
        except MissingText:
            raise _named(tower, names[start : start + size], texts) from None
        eot = tower.eot(tokens) if isinstance(tower, OpenClipText) else tokens.argmax(-1)
        with torch.no_grad():
            out.append(tower.encode(tower.embed(tokens), eot).float().cpu())
    return torch.cat(out)


def _named(tower: TextTower, names: Sequence[str], texts: list[str]) -> MissingText:
    for name, text in zip(names, texts, strict=True):
        try:
            tower.tokenize([text])
        except MissingText as error:
            return MissingText(
                f"class name {name!r}: {error}; give other names with --class-names FILE, or use init='weak_mean'"
            )
    return MissingText("a prompt cannot be tokenized; give other names with --class-names FILE")
