"""CoOp's prompts through a text tower for those who have a training loop of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from w2s_fast.backbones.text import OpenClipText
from w2s_fast.backbones.tokens import Tokens
from w2s_fast.core.errors import UsageError
from w2s_fast.core.prompts import ClassPrompts, class_prompts
from w2s_fast.core.protocols import TextTower

if TYPE_CHECKING:
    from torch import Tensor, dtype


def tower_of(model: Any, tokenizer: Callable[..., Tensor], *, name: str = "the model") -> OpenClipText:
    """The text tower of an open_clip model that is in memory, with open_clip's tokenizer; it shares the weights.

    No gradient reaches the weights. `MissingText` if the text half is not open_clip's own transformer.
    """
    source = model if hasattr(model, "positional_embedding") else getattr(model, "text", model)
    length = int(getattr(source, "context_length", 77))
    return OpenClipText(model, Tokens(tokenizer, context_length=length, model=name), name=name)


def encode_prompts(
    tower: TextTower,
    context: Tensor,
    names: Sequence[str] | ClassPrompts,
    *,
    position: str = "end",
    end: str = ".",
    csc: bool = False,
    dtype: dtype | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Text features f[*r, k, d] (not normalised) of the prompts `[V1]..[VM] name.`, exactly and fast.

    context: learned vectors f[*r, M, w], or f[*r, k, M, w] for one context per class (csc); leads *r are prompts that
    share the call. names: k class names, or what `class_prompts` made of them once, which saves tokenizing them every
    step (then position, end and csc are its own). position: of the name, `end`, `middle`, `front`; end: text after it.
    dtype, chunk: see `OpenClipText.encode`. float16 loses small gradients, as everywhere: scale the loss up before
    `backward` (the `prompt` head does). Differentiable in `context`; equal to CoOp's pass over all 77 positions, of
    which only those are computed that the features depend on, and those that all classes share once. Errors:
    `UsageError` for a context of a wrong shape or too long, or no names; `MissingText` for a name that is too long.

        import open_clip, torch
        from w2s_fast.backbones import class_prompts, encode_prompts, tower_of

        net = open_clip.create_model("ViT-B-16", "openai")
        tower = tower_of(net, open_clip.get_tokenizer("ViT-B-16"))
        prompts = class_prompts(tower, ["cat", "hot dog"], words="a photo of a", end=".")
        context = prompts.start.clone().requires_grad_()   # [4, 512]
        text = encode_prompts(tower, context, prompts)     # [2, 512]
        unit = torch.nn.functional.normalize(text, dim=-1)
        loss = torch.nn.functional.cross_entropy(100 * images @ unit.T, labels)
        loss.backward()

    Source: Zhou et al. 2022, Learning to prompt for vision-language models (arXiv 2109.01134).
    """
    if context.ndim < 2 or context.shape[-1] != tower.width:
        raise UsageError(
            f"context has shape {tuple(context.shape)}; this tower takes vectors of its width, [..., M, {tower.width}]"
        )
    if isinstance(names, ClassPrompts):
        prompts = names
    else:
        prompts = class_prompts(tower, names, m=context.shape[-2], position=position, end=end, csc=csc)
    wanted = (len(prompts.base), prompts.m) if prompts.csc else (prompts.m,)
    if tuple(context.shape[-1 - len(wanted) : -1]) != wanted:
        raise UsageError(
            f"context has shape {tuple(context.shape)}; these prompts take "
            f"[..., {', '.join(map(str, wanted))}, {tower.width}]"
        )
    return prompts.encode(context, dtype=dtype, chunk=chunk)
