"""w2s_fast: a verified embedding cache and a fused head-training engine for weak-to-strong generalization.

import w2s_fast as w2s
t = w2s.open_task("drawn:sketch")
r = w2s.fit(t, method=["cpl", "kd+lp"], seeds=5)
print(r.table())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2s_fast.core.errors import W2SError
    from w2s_fast.finetune.supervisors import train_supervisors
    from w2s_fast.heads import export_classifier, load_head, save_head
    from w2s_fast.methods.fit import fit
    from w2s_fast.results.results import Results
    from w2s_fast.store import rows_of
    from w2s_fast.studies.experiment import Experiment
    from w2s_fast.studies.study import run
    from w2s_fast.tasks.banks import open_bank
    from w2s_fast.tasks.extraction import extract_all
    from w2s_fast.tasks.opening import open_task
    from w2s_fast.tasks.task import Task

_EXPORTS = {
    "Experiment": "w2s_fast.studies.experiment:Experiment",
    "Results": "w2s_fast.results.results:Results",
    "Task": "w2s_fast.tasks.task:Task",
    "W2SError": "w2s_fast.core.errors:W2SError",
    "export_classifier": "w2s_fast.heads:export_classifier",
    "extract_all": "w2s_fast.tasks.extraction:extract_all",
    "fit": "w2s_fast.methods.fit:fit",
    "load_head": "w2s_fast.heads:load_head",
    "open_bank": "w2s_fast.tasks.banks:open_bank",
    "open_task": "w2s_fast.tasks.opening:open_task",
    "rows_of": "w2s_fast.store:rows_of",
    "run": "w2s_fast.studies.study:run",
    "save_head": "w2s_fast.heads:save_head",
    "train_supervisors": "w2s_fast.finetune.supervisors:train_supervisors",
}

__all__ = [
    "Experiment",
    "Results",
    "Task",
    "W2SError",
    "export_classifier",
    "extract_all",
    "fit",
    "load_head",
    "open_bank",
    "open_task",
    "rows_of",
    "run",
    "save_head",
    "train_supervisors",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        module, _, attribute = _EXPORTS[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
