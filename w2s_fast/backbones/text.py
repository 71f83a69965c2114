"""Text towers of CLIP models, taken apart so that heads can tune prompts and weights through them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from w2s_fast.backbones.packed import Core, Keys, Packing, pack
from w2s_fast.backbones.tokens import Tokens
from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.core.prompts import spoken, tokenized
from w2s_fast.core.protocols import TextTower

TEMPLATE = "a photo of a {}"
"""The CLIP prompt of the CPL paper: no final period, no change of article."""
_BATCH = 256
_POOLS = ("argmax", "eos", "last", "first")
_CPU_BYTES = 2 << 30
"""Activations that are kept for a gradient on a CPU; more texts are recomputed in parts."""
_KEPT = 20
"""Floats per position, block and unit of width that a gradient keeps at most."""
Weights = Mapping[str, Tensor]


class OpenClipText:
    """The `TextTower` (core's protocol) of an open_clip model whose text half is open_clip's own transformer.

    `encode` of embedded tokens equals the model's `encode_text`. Causal towers compute only what the features depend
    on (see `packed`); bidirectional ones (SigLIP), and blocks of other kinds, run every position of the context. CoCa's
    appended token and Hugging Face text encoders are not supported (`MissingText`).
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
        self._core = Core(source).eval()
        self._tokens, self._pool = tokens, str(pool)
        self._eos = int(getattr(source, "text_eos_id", None) or getattr(source, "eos_id", 2))
        self._held: tuple[Any, Weights] | None = None
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
        self,
        emb: Tensor,
        eot: Tensor,
        prefix: Tensor | None = None,
        params: Weights | None = None,
        *,
        dtype: torch.dtype | None = None,
        chunk: int | None = None,
    ) -> Tensor:
        """f[*r, c, L, w], i[c] (and a prefix f[*r, m, w] before every text) -> f[*r, c, d], not normalised.

        Leads broadcast; `eot` counts inside `emb`; with a prefix, start of text is in it, and it is computed once.
        `params` replaces the tower's own tensors, which are frozen: one set, or one per lead (then each has that one
        lead too). Differentiable in all that are given. `dtype` is that of the blocks' matrix products; layer norms,
        softmax, residual stream and result are float32 (float64 for such inputs). `chunk` texts at a time are
        recomputed for the gradient; None keeps what it needs of all of them while that fits into 2 GiB, or a quarter
        of a GPU's free memory.
        """
        lead = torch.broadcast_shapes(emb.shape[:-3], () if prefix is None else prefix.shape[:-2])
        stacked = params is not None and params["positional_embedding"].ndim == 3
        if params is not None and stacked:
            lead = torch.broadcast_shapes(lead, params["positional_embedding"].shape[:1])
        shared = 0 if prefix is None else prefix.shape[-2]
        count, length = emb.shape[-3], emb.shape[-2]
        if shared + length > self._core.positional_embedding.shape[-2]:
            raise UsageError(
                f"{shared} prefix and {length} text tokens are more than the context of {self.name} "
                f"({self._core.positional_embedding.shape[-2]}); shorten the prompt"
            )
        stream = torch.float64 if emb.dtype == torch.float64 else torch.float32
        x = emb.to(stream).expand(*lead, count, length, self.width).reshape(-1, count, length, self.width)
        if prefix is not None:
            prefix = prefix.to(stream).expand(*lead, shared, self.width).reshape(-1, shared, self.width)
        run = self._packed if self._core.packs else self._plain
        low = dtype or stream
        if params is None or not stacked:
            out = run(x, eot, prefix, self._weights(params, low, stream, x.device), low, chunk)
        else:
            each = [
                run(
                    x[r : r + 1],
                    eot,
                    None if prefix is None else prefix[r : r + 1],
                    self._weights({name: p[r] for name, p in params.items()}, low, stream, x.device),
                    low,
                    chunk,
                )
                for r in range(lead[0])
            ]
            out = torch.cat(each)
        return out.reshape(*lead, count, -1)

    def _packed(
        self, x: Tensor, eot: Tensor, prefix: Tensor | None, weights: Weights, low: torch.dtype, chunk: int | None
    ) -> Tensor:
        """x f[R, c, L, w], prefix f[R, m, w] -> f[R, c, d] by `packed`."""
        ends, length = eot.tolist(), x.shape[2]
        if min(ends) < 0:
            raise UsageError(
                f"{self.name} reads its texts at their first token, which sees no other: no prompt can be learned"
            )
        keys: Keys | None = None
        if prefix is not None:
            keys = functional_call(self._core, dict(weights), ("prefix", prefix, low))
        size = chunk or self._fit(len(x), max(1, -(-(sum(ends) + len(ends)) // len(ends))), x.device)
        shared = 0 if prefix is None else prefix.shape[1]

        def part(x: Tensor, packing: Packing, *flat: Tensor) -> Tensor:
            # parameters are replaced within the call, for the recomputation too
            known = list(zip(flat[::2], flat[1::2], strict=True)) if flat else None
            return functional_call(self._core, dict(weights), ("texts", x, packing, known, shared, low))

        flat = [] if keys is None else [tensor for pair in keys for tensor in pair]
        jobs: list[tuple[Any, ...]] = []
        for at in range(0, len(ends), size):
            packing = pack(tuple(ends[at : at + size]), length, x.device)
            jobs.append((x[:, at : at + size].flatten(1, 2).index_select(1, packing.flat), packing, *flat))
        return _in_parts(part, jobs)

    def _plain(
        self, x: Tensor, eot: Tensor, prefix: Tensor | None, weights: Weights, low: torch.dtype, chunk: int | None
    ) -> Tensor:
        """The same by all positions of all texts, cut after the longest text where the tower is causal."""
        shared = 0 if prefix is None else prefix.shape[1]
        at = eot.to(x.device) + shared
        if self.causal:
            x = x[:, :, : int(eot.max()) + 1]
        size = chunk or self._fit(len(x), shared + x.shape[2], x.device)

        def part(x: Tensor, at: Tensor) -> Tensor:
            asked = ("plain", x.flatten(0, 1), at.repeat(len(x)), low)
            return functional_call(self._core, dict(weights), asked).unflatten(0, x.shape[:2])

        jobs: list[tuple[Any, ...]] = []
        for begin in range(0, x.shape[1], size):
            texts = x[:, begin : begin + size]
            if prefix is not None:
                texts = torch.cat([prefix.unsqueeze(1).expand(-1, texts.shape[1], -1, -1), texts], 2)
            jobs.append((texts, at[begin : begin + size]))
        return _in_parts(part, jobs)

    def _weights(self, params: Weights | None, low: torch.dtype, stream: torch.dtype, device: torch.device) -> Weights:
        """Parameters on the device, in the types that the call computes in; its own are kept for later calls."""
        given = self.params() if params is None else params
        # copies of weights that have changed since would be wrong without a sign
        key = (low, stream, device, *((id(p), p.data_ptr(), p._version) for p in self._core.parameters()))
        if params is None and self._held is not None and self._held[0] == key:
            return self._held[1]
        products = self._core.products() if self._core.packs else set[str]()
        found = {
            name: p.to(device=device, dtype=low if name in products else stream)
            for name, p in given.items()
            if name != "token_embedding.weight"
        }
        if params is None:
            self._held = (key, found)
        return found

    def _fit(self, runs: int, positions: int, device: torch.device) -> int:
        """How many texts of so many positions a gradient may keep."""
        budget = _CPU_BYTES
        if device.type == "cuda":
            budget = max(budget, torch.cuda.mem_get_info(device)[0] // 4)
        blocks = len(getattr(self._core.transformer, "resblocks", [])) or 1
        return max(1, budget // (4 * _KEPT * self.width * blocks * positions * runs))


def _in_parts(part: Callable[..., Tensor], jobs: Sequence[tuple[Any, ...]]) -> Tensor:
    """f[R, c, d] from jobs that give f[R, some, d]; several are computed again, one by one, for the gradient."""
    if len(jobs) == 1 or not torch.is_grad_enabled():
        return torch.cat([part(*job) for job in jobs], 1)
    return torch.cat([checkpoint(part, *job, use_reentrant=False, preserve_rng_state=False) for job in jobs], 1)


def text_tower(encoder: Any, model: str) -> TextTower:
    """The text tower of an encoder of any library, or `MissingText`."""
    make = getattr(encoder, "text_tower", None)
    if make is None:
        raise MissingText(f"{model} has no text tower; use a CLIP model, or init='weak_mean'")
    return make()


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
    words = spoken(names)
    parts = [_prompted(tower, names, words, form, batch_size) for form in forms]
    if len(parts) == 1:
        return parts[0]
    return torch.stack([nn.functional.normalize(p, dim=-1) for p in parts]).mean(0)


def _prompted(tower: TextTower, names: Sequence[str], words: list[str], form: str, size: int) -> Tensor:
    out: list[Tensor] = []
    for start in range(0, len(words), size):
        texts = [form.replace("{}", word) for word in words[start : start + size]]
        tokens = tokenized(tower, names[start : start + size], texts)
        with torch.no_grad():
            out.append(tower.encode(tower.embed(tokens), tower.eot(tokens)).float().cpu())
    return torch.cat(out)
