"""Units as tasks of Ray: on this machine, or on a cluster that is there. A dead worker costs its unit, which is redone.

Ray is asked for plain values and gives plain values; its dashboard stays off, and its object store small.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from w2s_fast.core.errors import UsageError, W2SError
from w2s_fast.launch.units import Unit, function_of

STORE_BYTES = 80 * 1024 * 1024
"""Of the object store: units and results are a few kilobytes."""
RETRIES = 3
"""How often a unit is done again whose worker died; an error of its own is not tried again."""


def run(
    function: str,
    units: Sequence[Unit],
    *,
    workers: int | None = None,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    on_done: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """What `function` ("module:attribute") gives for each unit, as they end.

    workers: units at a time on this machine (default: its cores); a cluster at `address` (`auto`, HOST:PORT) decides by
    itself. cpus, gpus: what a unit needs. on_done is told (units done, units in all). An error of a unit is raised when
    all others have ended. `UsageError` where Ray is not installed.
    """
    with _connected(workers=workers, address=address) as ray:

        @ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False)
        def work(unit: Unit) -> dict[str, Any]:
            return function_of(function)(unit)

        waiting = [work.remote(dict(unit)) for unit in units]
        failed: Exception | None = None
        done = 0
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1)
            for one in ready:
                done += 1
                try:
                    yield ray.get(one)
                except ray.exceptions.RayTaskError as error:
                    failed = failed or _own(error)
                except ray.exceptions.RayError as error:
                    failed = failed or W2SError(f"a unit was lost {RETRIES + 1} times: {error}; run the command again")
                if on_done is not None:
                    on_done(done, len(units))
        if failed is not None:
            raise failed


def _own(error: Any) -> Exception:
    cause = error.cause
    return cause if isinstance(cause, Exception) else W2SError(str(error))


@contextmanager
def _connected(*, workers: int | None, address: str | None) -> Iterator[Any]:
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise UsageError("--launcher ray needs Ray: pip install 'w2s_fast[ray]'") from None
    if address is None:
        ray.init(
            num_cpus=workers or os.cpu_count(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            configure_logging=False,
            _metrics_export_port=None,
        )
    else:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        yield ray
    finally:
        ray.shutdown()
