"""Runs that differ in nothing but the settings that a picture has on its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from w2s_fast.core.errors import SpecError
from w2s_fast.core.specs import Spec, parse

SETTINGS = (
    "supervision", "head", "loss", "init", "lr", "tau_s", "tau_w", "epochs", "batch_size", "optimizer", "schedule",
    "warmup", "weight_decay", "init_norm", "feat_scale", "template", "precision",
)  # fmt: skip


def series(rows: Sequence[Mapping[str, Any]], without: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Label -> rows that agree in every setting but `without`; a label is the method's name and what tells it apart.

    Settings are compared by value, inside the specs of head and loss as well; names decide nothing but labels.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(_setting(row, key, without) for key in SETTINGS), []).append(row)
    out: dict[str, list[Mapping[str, Any]]] = {}
    bare = {key: str(of[0].get("method", "")).partition("[")[0] for key, of in groups.items()}
    for key, of in groups.items():
        alike = [other for other in groups if bare[other] == bare[key]]
        told = [f"{name}={key[at]}" for at, name in enumerate(SETTINGS) if len({other[at] for other in alike}) > 1]
        out[f"{bare[key]}[{', '.join(told)}]" if told else bare[key]] = of
    return out


def _setting(row: Mapping[str, Any], key: str, without: Sequence[str]) -> str | None:
    if key in without:
        return None
    value = row.get(key)
    if key in ("head", "loss") and isinstance(value, str):
        try:
            spec = parse(value)
        except SpecError:
            return value
        # what has a key of its own in the row is compared there
        own = {*without, *SETTINGS}
        return str(Spec(name=spec.name, args={k: v for k, v in spec.args.items() if k not in own}))
    return None if value is None else str(value)
