"""Just enough SVG: shapes and escaped text on an opaque sheet, and how wide a text will be."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_NARROW, _WIDE = set("fijlrtI.,:;'|!()[] "), set("mwMW%@")


def text_width(text: str, size: float) -> float:
    """A generous estimate in pixels: fonts differ, and a label that is cut is better than two that collide."""
    return size * sum(0.36 if c in _NARROW else 0.92 if c in _WIDE else 0.64 if ord(c) < 0x2E80 else 1.0 for c in text)


def fitted(text: str, size: float, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrapped(text: str, size: float, width: float) -> list[str]:
    """The text in lines of at most `width` pixels, broken at spaces; a longer word is cut."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(fitted(word, size, width))
        else:
            lines[-1] = fitted(longer, size, width)
    return lines


class Canvas:
    """Elements in drawing order; `document` wraps them. Coordinates in pixels, y down."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, *, fill: str, radius: float = 0) -> None:
        """A filled rectangle."""
        self._add("rect", x=x, y=y, width=max(0.0, width), height=height, fill=fill, rx=radius or None)

    def line(
        self, x1: float, y1: float, x2: float, y2: float, *, stroke: str, width: float = 1, dash: str | None = None
    ) -> None:
        """A stroke."""
        self._add(
            "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width, stroke_dasharray=dash,
            stroke_linecap="round" if dash is None else None,
        )  # fmt: skip

    def mark(self, shape: str, x: float, y: float, *, size: float, fill: str, stroke: str, title: str) -> None:
        """A `circle`, `square` or `diamond` of radius `size` around a point, with a tooltip."""
        r = size
        if shape == "circle":
            points = f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}"'
        elif shape == "square":
            r *= 0.9
            points = f'<rect x="{_n(x - r)}" y="{_n(y - r)}" width="{_n(2 * r)}" height="{_n(2 * r)}"'
        else:
            r *= 1.25
            corners = " ".join(f"{_n(a)},{_n(b)}" for a, b in ((x, y - r), (x + r, y), (x, y + r), (x - r, y)))
            points = f'<polygon points="{corners}"'
        self._parts.append(
            f'{points} fill="{fill}" stroke="{stroke}" stroke-width="1"><title>{_text(title)}</title>'
            f"</{points[1:].split(' ', 1)[0]}>"
        )

    def text(
        self, x: float, y: float, text: str, *, size: float, fill: str, anchor: str = "start", bold: bool = False
    ) -> None:
        """Escaped text on its baseline."""
        self._parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{fill}"'
            + (f' text-anchor="{anchor}"' if anchor != "start" else "")
            + (' font-weight="600"' if bold else "")
            + f">{_text(text)}</text>"
        )

    def document(self, width: float, height: float, *, title: str, description: str, background: str) -> str:
        """The whole file; opaque, so that it reads the same on a light and on a dark page."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
                f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" font-family={quoteattr(FONT)}>',
                f"<title>{_text(title)}</title>",
                f"<desc>{_text(description)}</desc>",
                f'<rect width="{_n(width)}" height="{_n(height)}" rx="8" fill="{background}"/>',
                *self._parts,
                "</svg>\n",
            ]
        )

    def _add(self, name: str, **attributes: float | str | None) -> None:
        shown = (
            f'{key.replace("_", "-")}="{_n(value) if isinstance(value, int | float) else value}"'
            for key, value in attributes.items()
            if value is not None
        )
        self._parts.append(f"<{name} {' '.join(shown)}/>")


def _text(text: str) -> str:
    """Escaped, without the control characters and lone surrogates that XML cannot hold."""
    return escape(
        "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else " " for c in text)
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
