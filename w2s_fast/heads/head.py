"""What a head is: parameters to class weights W [k, d] and offsets b [k], alone or stacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from w2s_fast.core.errors import MissingText
from w2s_fast.core.fields import Limits, argument_of
from w2s_fast.core.protocols import TextTower, Theta
from w2s_fast.core.specs import Spec

H = TypeVar("H", bound="Head")
Pull = Callable[[Tensor, Tensor | None], Theta]
"""(dW, db) -> the gradient of every parameter."""


class Features(Protocol):
    """A feature table of `n` rows by `d`, resident or streamed."""

    @property
    def n(self) -> int: ...

    @property
    def d(self) -> int: ...

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive parts (i[*r, b], f[*r, b, d]) of the row numbers i[*r, n], `size` at a time."""
        ...


class WeakLabels(Protocol):
    """The part of a supervision that an initialisation may read."""

    @property
    def labels(self) -> Tensor | None:
        """Ground truth i[N], -1 = unknown; only `init='class_mean'` reads it."""
        ...

    def probs(self, rows: Tensor) -> Tensor:
        """Weak probabilities f[n, k] of the given rows."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """What every head of a task starts from: k classes, d features, class names, text features f[k, d] or a tower."""

    k: int
    d: int
    names: tuple[str, ...] = ()
    text: Tensor | None = None
    tower: TextTower | None = None

    def unit_text(self, head: str, *, init: str = "text") -> Tensor:
        """Text features with unit rows, f[k, d]; `MissingText` with the way out if there are none."""
        if self.text is None:
            raise MissingText(
                f"head {head!r} with init={init!r} needs text features and this encoder has none; "
                "use prototype(init='weak_mean') or linear(init='random')"
            )
        return unit(self.text)


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """z = x_scale * phi(x) W(theta)^T + b; subclass it and write `init` and `weights`.

    tau_s: the temperature that a loss takes where it sets none.
    unit_x: rows of x are normalised.
    x_scale: what multiplies them; raw features are unit_x=False, x_scale=1.

    `starting` names fields that only `init` reads: heads that differ in no other field may be stacked. `undecayed`
    names parameters that weight decay leaves alone, `fixed()` those that no optimiser ever sees. `needs_tower`: `bind`
    wants the text tower itself, not only its features. `arguments` says what specs call a field.
    """

    tau_s: float = 1.0
    unit_x: bool = True
    x_scale: float = 1.0

    max_stack: ClassVar[int | None] = None
    default_lr: ClassVar[float] = 1e-2
    starting: ClassVar[frozenset[str]] = frozenset({"tau_s"})
    undecayed: ClassVar[frozenset[str]] = frozenset()
    unit_rows: ClassVar[bool] = False
    needs_tower: ClassVar[bool] = False
    limits: ClassVar[Limits] = {"tau_s": "(0, inf)", "x_scale": "(0, inf)"}
    arguments: ClassVar[Mapping[str, str]] = {"init_from": "init"}
    name: ClassVar[str] = ""
    equation: ClassVar[str] = ""
    source: ClassVar[str] = ""
    verified: ClassVar[bool] = True

    def fixed(self) -> frozenset[str]:
        """Names of parameters that stay as `init` made them, whatever solver and weight decay."""
        return frozenset()

    def bind(self: H, start: Start) -> H:
        """A copy that holds what stays frozen during training (tokens, tower, text); here the head itself."""
        return self

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        """Parameters of ONE run, without lead; reads no rows but `rows` i[n] (the run's train rows)."""
        raise NotImplementedError

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        """W f[*r, k, d] and b f[*r, k] or None; without the lead where theta does not enter."""
        raise NotImplementedError

    def leaves(self, theta: Theta) -> Theta:
        """The parameters as leaves of a graph, those that are not `fixed` with a gradient."""
        fixed = self.fixed()
        return {name: p.detach().requires_grad_(name not in fixed) for name, p in theta.items()}

    def vjp(self, theta: Theta) -> tuple[Tensor, Tensor | None, Pull]:
        """`weights`, and the function that pulls (dW, db) back to the parameters; here by autograd."""
        with torch.enable_grad():
            leaves = self.leaves(theta)
            w, b = self.weights(leaves)

        def pull(dw: Tensor, db: Tensor | None) -> Theta:
            used = [(w, dw)] if w.requires_grad else []
            if b is not None and db is not None and b.requires_grad:
                used.append((b, db))
            return gradients(leaves, *zip(*used, strict=True)) if used else gradients(leaves)

        return w.detach(), None if b is None else b.detach(), pull

    def features(self, theta: Theta, x: Tensor) -> Tensor:
        """phi: f[*r, b, d] (normalised if `unit_x`, not yet scaled) -> f[*r, b, e]; here the identity."""
        return x

    def spec(self) -> Spec:
        """The spec that makes this head again, with every field that is not at its default."""
        args: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool | int | float | str) and value != f.default:
                args[argument_of(type(self), f.name)] = value
        return Spec(name=self.name or type(self).__name__, args=args)


def gradients(leaves: Theta, outputs: Sequence[Tensor] = (), grads: Sequence[Tensor] = ()) -> Theta:
    """The gradient of every leaf that wants one from those of `outputs`; zero where it does not enter them."""
    wanted = {name: p for name, p in leaves.items() if p.requires_grad}
    if not outputs or not wanted:
        return {name: torch.zeros_like(p) for name, p in wanted.items()}
    found = torch.autograd.grad(outputs, list(wanted.values()), grads, allow_unused=True, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def unit(x: Tensor) -> Tensor:
    """Rows of x divided by their length; a zero row stays zero."""
    return torch.nn.functional.normalize(x, dim=-1, eps=1e-12)
