"""What losses read besides weak logits: the prior is the zero-shot softmax, labels are never read unasked."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from worlds import gaussian_task

from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.losses import Batch, Loss
from w2s_fast.methods.fit import fit
from w2s_fast.tasks.references import with_text, zero_shot_prior

SHORT: dict[str, Any] = {"head": "linear", "epochs": 1, "batch_size": 64, "references": False}


def test_the_prior_is_the_softmax_of_scaled_cosines() -> None:
    task = replace(gaussian_task(n=40), logit_scale=7.0)
    found = zero_shot_prior(task)
    assert task.text is not None and isinstance(task.features, torch.Tensor)
    for i in (0, 17, 39):
        x, rows = task.features[i].double().numpy(), task.text.double().numpy()
        cosines = rows @ x / np.linalg.norm(rows, axis=1) / np.linalg.norm(x)
        powers = [math.exp(7.0 * c) for c in cosines]
        assert found[i].exp().tolist() == pytest.approx([p / sum(powers) for p in powers], abs=1e-5)
    references = with_text(task)
    assert references is not None and torch.equal(found.argmax(-1), references.zero_shot)
    assert torch.equal((found + task.weak_logits[0].log_softmax(-1)).argmax(-1), references.fusion[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks(Loss):
    """Cross-entropy to the prior, and what it saw."""

    needs: ClassVar[frozenset[str]] = frozenset({"prior"})
    seen: ClassVar[list[torch.Tensor]] = []

    def value(self, z: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch.prior is not None
        self.seen.append(batch.prior.reshape(-1, batch.prior.shape[-1]))
        return -(batch.prior.exp() * self.scaled(z).log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("supervision", ["weak", "gt"])
def test_losses_get_the_prior_of_their_rows(supervision: str) -> None:
    task = gaussian_task(n=60)
    Looks.seen.clear()
    fit(task, loss=Looks(), **SHORT, supervision=supervision)
    known = {tuple(row) for row in zero_shot_prior(task).tolist()}
    rows = {tuple(row) for row in torch.cat(Looks.seen).tolist()}
    assert rows <= known and len(rows) > 30


def test_a_prior_without_text_is_refused() -> None:
    for loss in ("prior_product", "prior_anchor", Looks()):
        with pytest.raises(MissingText, match=r"its loss reads the zero-shot prior, .* take a loss without a prior"):
            fit(gaussian_task(n=60, text=False), loss=loss, **SHORT)


def test_labels_are_read_only_where_they_were_asked_for() -> None:
    task = gaussian_task(n=60)
    with pytest.raises(UsageError, match=r"dkd\+lp: dkd reads ground-truth labels, .*dkd\(target='weak'\).*w_gt="):
        fit(task, loss="dkd", **SHORT)
    ways: list[dict[str, Any]] = [
        {"loss": "dkd(target='weak')"},
        {"loss": "dkd", "w_gt": 1.0},
        {"loss": "dkd", "supervision": "gt"},
    ]
    for asked in ways:
        assert {row.get("status") for row in fit(task, **SHORT, **asked).rows} == {"ok"}
