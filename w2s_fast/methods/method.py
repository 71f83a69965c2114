"""A method: a head, a loss and a supervision under one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from w2s_fast import heads, losses, supervisions
from w2s_fast.core.code_digest import code_digest
from w2s_fast.core.fields import parameters
from w2s_fast.core.specs import Spec

WEAK, GT = Spec(name="weak"), Spec(name="gt")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A head and a loss under one name; `source` is the paper, `verified` false if its formula could not be checked.

    settings: what `core.settings.Settings` shall be unless the user says otherwise, such as a paper's optimiser.
    supervision: who teaches (supervisions).
    """

    name: str
    head: Spec
    loss: Spec | Callable[..., Any]
    source: str = ""
    verified: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    supervision: Spec = WEAK

    @property
    def loss_name(self) -> str:
        """The loss as rows write it: its spec, or the name of the function or class."""
        return str(self.loss) if isinstance(self.loss, Spec) else given_name(self.loss)

    @property
    def loss_resolved(self) -> str:
        """The loss with every parameter that it has, defaults included."""
        if not isinstance(self.loss, Spec):
            return self.loss_name
        return str(Spec(name=self.loss.name, args={**parameters(losses.find(self.loss.name)), **self.loss.args}))

    @property
    def loss_class(self) -> Any:
        """The class of the loss, with its `equation` and `verified`; a function has that of all functions."""
        return losses.find(self.loss.name) if isinstance(self.loss, Spec) else type(losses.make(self.loss))

    @property
    def loss_identity(self) -> str:
        """What tells this loss from another of the same name: the spec, or a digest of the function's code."""
        return str(self.loss) if isinstance(self.loss, Spec) else f"{self.loss_name} {code_digest(self.loss)}"

    @property
    def checked(self) -> bool:
        """Whether the formulas of preset, loss, head and supervision could be checked; one's own loss has no source."""
        own = not isinstance(self.loss, Spec)
        return (
            self.verified
            and (own or self.loss_class.verified)
            and heads.find(self.head.name).verified
            and supervisions.find(self.supervision.name).verified
        )

    def canonical(self) -> Method:
        """This method with specs that leave out what equals its default, so that equal methods compare equal."""
        loss = self.loss
        if isinstance(loss, Spec):
            defaults = parameters(losses.find(loss.name))
            losses.make(loss)
            loss = Spec(name=loss.name, args={k: v for k, v in loss.args.items() if defaults.get(k, ...) != v})
        supervision = supervisions.canonical(self.supervision)
        return replace(self, head=heads.make(self.head).spec(), loss=loss, supervision=supervision)

    def expand(self) -> list[Method]:
        """One method per point of the grids that list-valued parameters of head, loss and supervision span."""
        given = self.loss.expand() if isinstance(self.loss, Spec) else [self.loss]
        return [
            replace(self, head=head, loss=loss, supervision=supervision)
            for head in self.head.expand()
            for loss in given
            for supervision in self.supervision.expand()
        ]


def given_name(loss: Any) -> str:
    """The name of a loss given as an object: a function's own, or its class's with the fields that are set."""
    if is_dataclass(loss) and not isinstance(loss, type):
        fields_set = {f.name: getattr(loss, f.name) for f in fields(loss) if getattr(loss, f.name) != f.default}
        return str(Spec(name=type(loss).__name__, args=fields_set)) if fields_set else type(loss).__name__
    return getattr(loss, "__name__", type(loss).__name__)
