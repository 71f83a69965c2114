"""Worlds in which specialists know what no generalist does."""

import numpy as np

from w2s_fast.tasks.task import Task


def block_world(*, blocks: int = 4, each: int = 2, d_train: int = 800, pool: int = 800, seed: int = 0) -> Task:
    """Weak features tell the place within a block surely, and hardly which block it is; strong ones tell all classes.

    The weak model is the best that its features allow: it is right about the place and mostly wrong about the block.
    A specialist, who takes its block for granted, is right wherever the block is.
    """
    rng = np.random.default_rng(seed)
    k, n = blocks * each, d_train + pool
    labels = rng.permutation(np.arange(n) % k)
    x = 1.2 * rng.normal(size=(k, 64))[labels] + rng.normal(size=(n, 64))
    block = 0.7 * np.eye(blocks)[labels // each] + rng.normal(size=(n, blocks))
    place = 3.0 * np.eye(each)[labels % each] + 0.5 * rng.normal(size=(n, each))
    return Task.from_arrays(
        features=x,
        weak_logits=np.repeat(0.7 * block, each, 1) + np.tile(12.0 * place, (1, blocks)),
        labels=labels,
        ids=[f"item-{i}" for i in range(n)],
        d_train=np.arange(n) < d_train,
        encoders={"weak/0": np.concatenate([block, place], 1)},
    )


def domain_worlds(*, domains: int = 3, k: int = 6, d_train: int = 300, pool: int = 300, seed: int = 0) -> list[Task]:
    """Where a class lies among the weak features differs from domain to domain; the strong ones see classes alike.

    A weak model that does not know the domain has `domains` classes to choose from for each image.
    """
    rng = np.random.default_rng(seed)
    means = 1.2 * rng.normal(size=(k, 24))
    tasks: list[Task] = []
    for m in range(domains):
        n = d_train + pool
        labels = rng.permutation(np.arange(n) % k)
        x = means[labels] + rng.normal(size=24) + rng.normal(size=(n, 24))
        place = 3.0 * np.eye(k)[(labels + m) % k] + 0.5 * rng.normal(size=(n, k))
        guess = (place.argmax(1) - rng.integers(0, domains, n)) % k
        task = Task.from_arrays(
            features=x,
            weak_logits=4.0 * np.eye(k)[guess] + rng.normal(size=(n, k)),
            labels=labels,
            name=f"domain{m}",
            ids=[f"{m}-{i}" for i in range(n)],
            d_train=np.arange(n) < d_train,
            encoders={"weak/0": place},
        )
        tasks.append(task)
    return tasks
