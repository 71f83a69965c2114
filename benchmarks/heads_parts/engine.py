"""The package's engine, called as a user calls it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.heads_parts.recipe import Recipe
from benchmarks.heads_parts.worlds import World
from w2s_fast.core.errors import UsageError
from w2s_fast.train import Fit, Run, fit_heads

PRECISIONS = ("fp32", "tf32", "bf16")


def runs_of(recipe: Recipe, seeds: Sequence[int], *, epochs: int | None = None) -> list[Run]:
    """One run per seed of the recipe that the baselines train."""
    return [
        Run(
            head=recipe.head,
            loss=recipe.loss,
            solver="adam",
            schedule="linear(warmup=0.1)",
            seed=seed,
            epochs=recipe.epochs if epochs is None else epochs,
            batch_size=recipe.batch_size,
            lr=recipe.lr,
        )
        for seed in seeds
    ]


def fit(
    world: World, runs: Sequence[Run], *, precision: str = "fp32", with_test: bool = False, kernels: str = "auto"
) -> list[Fit]:
    """The runs in one call, in their order. Without test rows val alone is evaluated, at the start and every epoch."""
    fits = fit_heads(
        world.x,
        runs,
        splits=[world.rows(with_test=with_test)],
        supervisions=[world.supervision],
        start=world.start,
        truth=world.truth,
        device=world.x.device,
        precision=precision,
        kernels=kernels,
        selections=("last",),
    )
    return sorted(fits, key=lambda one: one.index)


def has_precision(world: World, precision: str) -> str | None:
    """None if the engine computes in that precision here, else why not."""
    try:
        (one,) = fit(world, runs_of(Recipe(loss="ce"), [0], epochs=0), precision=precision)
    except UsageError as error:
        return str(error)
    served = one.resolved["precision"]
    return None if served == precision else f"the engine computes in {served} here"
