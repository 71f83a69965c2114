"""Which losses the row kernel serves, and the numbers that it reads of them; imports no Triton."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from w2s_fast.losses.adapt_conf import AdaptConf
from w2s_fast.losses.aux_conf import AuxConf, AuxConfArgmax
from w2s_fast.losses.balance import harden_balanced
from w2s_fast.losses.divergences import ReverseKl
from w2s_fast.losses.hard import Ce, Gce
from w2s_fast.losses.loss import Loss
from w2s_fast.losses.soft import CeSoft, Cpl, Kd
from w2s_fast.losses.supervision import Batch

WIDEST = 8192
"""The most columns that one program holds at once."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One compiled variant of the row kernel.

    fields: the loss fields that follow tau_s and tau_w in its numbers. flag: `tau2` of kd, `flip` of adapt_conf.
    plain: kd_t is 1 for every run. hardens: the self-label comes from `own_labels`, as it needs batch statistics.
    """

    name: str
    fields: tuple[str, ...] = ()
    flag: bool = False
    plain: bool = False
    hardens: bool = False

    def numbers(self, loss: Loss, runs: int, *, device: torch.device | str) -> Tensor:
        """tau_s, tau_w and `fields` as f32[R, 2 + len(fields)], of a loss of floats or of tensors [R, 1, 1]."""
        columns: list[Tensor] = []
        for name in ("tau_s", "tau_w", *self.fields):
            number = getattr(loss, name)
            if number is None:
                # no temperature divides by one, also where tau2 multiplies by its square
                number = 1.0
            one = number if isinstance(number, Tensor) else torch.tensor(number)
            columns.append(one.reshape(-1).to(device=device, dtype=torch.float32).expand(runs))
        return torch.stack(columns, dim=1)


_SERVED: dict[type[Loss], Kind] = {
    Ce: Kind(name="ce", fields=("label_smoothing",)),
    CeSoft: Kind(name="ce_soft"),
    Kd: Kind(name="kd"),
    Cpl: Kind(name="kd"),
    AuxConf: Kind(name="aux_conf", fields=("alpha", "warmup")),
    AuxConfArgmax: Kind(name="aux_conf", fields=("alpha", "warmup")),
    AdaptConf: Kind(name="adapt_conf", fields=("T", "kd_t", "ramp")),
    ReverseKl: Kind(name="reverse_kl", fields=("eps",)),
    Gce: Kind(name="gce", fields=("q",)),
}


def kind_of(loss: Loss, *, k: int, teachers: int = 1) -> Kind | None:
    """The kernel variant that equals `loss`, or None where torch has to do it.

    None for a subclass (it may compute anything), several teachers, a loss with memory, options that the kernel has not
    (`legacy_warmup`, a fixed `beta`), and k beyond `WIDEST`.
    """
    kind = _SERVED.get(type(loss))
    if kind is None or teachers != 1 or k > WIDEST:
        return None
    if isinstance(loss, AuxConf):
        hardens = loss.harden != "argmax"
        return None if loss.legacy_warmup or (hardens and loss.buffer) else replace(kind, hardens=hardens)
    if isinstance(loss, Kd):
        return replace(kind, flag=loss.tau2)
    if isinstance(loss, AdaptConf):
        plain = not isinstance(loss.kd_t, Tensor) and loss.kd_t == 1.0
        return None if loss.beta is not None else replace(kind, flag=loss.flip, plain=plain)
    return kind


def own_labels(loss: Loss, z: Tensor, batch: Batch) -> Tensor:
    """Balanced self-labels i64[*r, b] of logits f[*r, b, k], for a kind that `hardens`, by torch."""
    assert isinstance(loss, AuxConf)
    logp = torch.log_softmax(loss.scaled(z), dim=-1)
    w = torch.softmax(loss.weak_scaled(batch), dim=-1)
    return harden_balanced(logp, w, batch.valid, {}, uniform=loss.balance_to == "uniform")
