"""Prompt templates: what is written around a class name."""

from __future__ import annotations

from collections.abc import Sequence

from w2s_fast.core.errors import UsageError

DEFAULT_TEMPLATE = "a photo of a {}"
"""The template that is meant where none is named."""


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates, or a `UsageError` for one without exactly one `{}`."""
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"template {template!r} needs exactly one {{}} for the class name")
    return tuple(templates)
