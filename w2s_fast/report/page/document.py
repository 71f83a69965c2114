"""The page's frame: the policy, escaped text, and numbers as JSON that no text in them can leave."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from w2s_fast.core.rows import clean

_OPAQUE = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def document(title: str, body: Sequence[str], data: Mapping[str, Any]) -> str:
    """A whole page: `body` is HTML whose texts were escaped by `text`, `data` JSON values by the id the script reads.

    Nothing is loaded: default-src is 'none', the one style and the one script are allowed by their hashes, pictures
    are data addresses. The same arguments give the same bytes.
    """
    style, script = (_part(name) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    blocks = [f'<script type="application/json" id="{key}">{encoded(value)}</script>' for key, value in data.items()]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            *body,
            *blocks,
            f"<script>{script}</script>",
            "</body>",
            "</html>\n",
        ]
    )


def text(value: str) -> str:
    """Text for HTML and for double-quoted attributes; what cannot be seen, or would turn the line, is spelled out."""
    return escape(visible(value), quote=True)


def visible(value: str) -> str:
    r"""The text with control, format and separator characters, and lone surrogates, as `\u202e`."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in value)


def encoded(value: Any) -> str:
    """JSON in ASCII in which no `<`, `>` or `&` occurs, so that no text in it can end the element that holds it."""
    return json.dumps(clean(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False).translate(_OPAQUE)


def _part(name: str) -> str:
    return (files("w2s_fast.report.page") / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
