"""Solvers that see all train rows at once: which runs they take, and the stacks that they train.

They stand beside the loop over batches: a stack of theirs answers to the same calls as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from w2s_fast.core.errors import UsageError
from w2s_fast.heads.linear import Linear
from w2s_fast.losses.brier import Brier
from w2s_fast.losses.supervision import Supervision
from w2s_fast.train.context import EngineContext
from w2s_fast.train.full_batch.lbfgs import LbfgsStack, chunk_rows
from w2s_fast.train.full_batch.ridge import RidgeStack
from w2s_fast.train.run import Setup
from w2s_fast.train.solver import Lbfgs, Ridge
from w2s_fast.train.stack import Stack
from w2s_fast.train.step import is_linear_in_x


def stack_of(context: EngineContext, setups: Sequence[Setup]) -> Stack:
    """The stack of runs as their solver trains it."""
    solver = setups[0].solver
    if isinstance(solver, Ridge):
        return RidgeStack(context, setups)
    return LbfgsStack(context, setups) if isinstance(solver, Lbfgs) else Stack(context, setups)


def check_full(setup: Setup, supervision: Supervision, *, k: int, d: int) -> None:
    """Raise `UsageError`, with what to use instead, if the run's full-batch solver cannot train it."""
    where = f"run {setup.index}: solver '{setup.run.solver}'"
    if isinstance(setup.solver, Ridge):
        _check_ridge(setup, where)
    elif isinstance(setup.solver, Lbfgs):
        _check_lbfgs(setup, supervision, where, k=k, d=d)


def _check_ridge(setup: Setup, where: str) -> None:
    head = setup.head
    if not isinstance(setup.loss, Brier):
        raise UsageError(f"{where} solves loss 'brier', not '{setup.label}'; use loss 'brier', or solver 'lbfgs'")
    if not isinstance(head, Linear) or type(head).weights is not Linear.weights or not is_linear_in_x(head):
        raise UsageError(f"{where} solves head 'linear', not '{setup.run.head}'; use head 'linear', or solver 'lbfgs'")
    if setup.run.w_gt > 0:
        raise UsageError(f"{where} has no closed form with w_gt={setup.run.w_gt}; use w_gt=0, or solver 'lbfgs'")


def _check_lbfgs(setup: Setup, supervision: Supervision, where: str, *, k: int, d: int) -> None:
    loss = setup.loss
    memory = loss.memory((1,), k, supervision.teachers, dtype=torch.float32, device=torch.device("cpu"))
    if memory:
        raise UsageError(
            f"{where} has one batch, and loss '{setup.label}' carries memory from batch to batch; "
            "leave the memory out (aux_conf: buffer=0), or use solver 'adam'"
        )
    most = chunk_rows(k=k, d=d)
    if loss.mixes_rows and setup.n_train > most:
        raise UsageError(
            f"{where} takes {setup.n_train} train rows in chunks of {most}, and loss '{setup.label}' "
            "needs statistics of all of them at once; use solver 'adam' (aux_conf: or harden='argmax')"
        )
