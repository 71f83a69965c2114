"""Diagnostics, found by name: what features, weak labels, students and data are like. Tensors in, plain tables out.

Listing names imports no torch; a diagnostic is loaded when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from w2s_fast.core import plugins
from w2s_fast.core.errors import SpecError, UsageError, nearest
from w2s_fast.core.specs import Spec, parse

if TYPE_CHECKING:
    from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic
    from w2s_fast.diagnose.subject import Subject

DIAGNOSTICS: dict[str, str] = {
    "purity": "w2s_fast.diagnose.purity:Purity",
    "weak_errors": "w2s_fast.diagnose.weak_errors:WeakErrors",
    "overlap": "w2s_fast.diagnose.overlap:Overlap",
    "confident_joint": "w2s_fast.diagnose.confident_joint:ConfidentJoint",
    "discrepancy": "w2s_fast.diagnose.discrepancy:Discrepancy",
    "misfit": "w2s_fast.diagnose.misfit:Misfit",
    "students": "w2s_fast.diagnose.students:Students",
    "class_gains": "w2s_fast.diagnose.students:ClassGains",
    "confusion": "w2s_fast.diagnose.students:Confusion",
    "calibration": "w2s_fast.diagnose.calibration:Calibration",
    "reliability": "w2s_fast.diagnose.calibration:Reliability",
    "pairs": "w2s_fast.diagnose.paired:Pairs",
    "prototypes": "w2s_fast.diagnose.prototypes:Prototypes",
    "spectrum": "w2s_fast.diagnose.spectrum:Spectrum",
    "cka": "w2s_fast.diagnose.spectrum:Cka",
    "duplicates": "w2s_fast.diagnose.duplicates:Duplicates",
    "leakage": "w2s_fast.diagnose.duplicates:Leakage",
    "mislabelled": "w2s_fast.diagnose.mislabelled:Mislabelled",
    "outliers": "w2s_fast.diagnose.outliers:Outliers",
    "imbalance": "w2s_fast.diagnose.imbalance:Imbalance",
}
"""Name -> "module:attribute" of a `diagnosis.Diagnostic`; installed packages add to the entry-point group below."""
GROUP = "w2s_fast.diagnostics"


def names() -> tuple[str, ...]:
    """Names of all diagnostics, those of installed packages last."""
    return plugins.names(DIAGNOSTICS, GROUP)


def find(name: str) -> type[Diagnostic]:
    """The class behind a name; `SpecError` if unknown."""
    try:
        return plugins.load(DIAGNOSTICS, GROUP, name)
    except KeyError:
        raise SpecError(f"no diagnostic {name!r}{nearest(name, names())}") from None


def make(diagnostic: str | Spec) -> Diagnostic:
    """A diagnostic from `duplicates(share=.2)`; `SpecError` for unknown names, parameters and ranges."""
    from w2s_fast.core.fields import build

    spec = parse(diagnostic)
    return build(find(spec.name), spec, what="diagnostic")


def missing(diagnostic: Diagnostic, subject: Subject) -> str | None:
    """What the subject lacks for this diagnostic, in words; None where it lacks nothing."""
    words = {
        "weak": "weak logits",
        "labels": "ground truth",
        "text": "text features of the class names",
        "heads": "fitted heads",
        "students": "predictions of students",
        "spaces": "features of another encoder",
    }
    for need in sorted(diagnostic.needs):
        if not _holds(getattr(subject, need)):
            return words[need]
    return None


def diagnose(subject: Subject, asked: Iterable[str] | None = None) -> list[Diagnosis]:
    """The tables of the diagnostics asked for, in that order; None: of all for which the subject holds enough.

    Raises `UsageError` for one that is asked by name and lacks something, `SpecError` for an unknown name.
    """
    if asked is None:
        every = [make(name) for name in names()]
        return [one.of(subject) for one in every if missing(one, subject) is None]
    made = [(text, make(text)) for text in asked]
    for text, one in made:
        lacks = missing(one, subject)
        if lacks is not None:
            raise UsageError(f"the diagnostic {text} needs {lacks}, and there is none here")
    return [one.of(subject) for _, one in made]


def describe() -> list[dict[str, Any]]:
    """One record per diagnostic for listings: name, what it asks, whether it needs truth, options, source."""
    from w2s_fast.core.fields import parameters

    return [
        {
            "name": name,
            "about": (cls.__doc__ or "").strip().partition("\n")[0],
            "needs": sorted(cls.needs),
            "parameters": parameters(cls),
            "source": cls.source,
        }
        for name in names()
        for cls in [find(name)]
    ]


def _holds(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)
