"""Explanations of single images as one page."""

from __future__ import annotations

from collections.abc import Sequence

from w2s_fast.data.manifest import Manifest
from w2s_fast.report.explaining import Explanation, Guess, Near
from w2s_fast.report.page.document import document, text
from w2s_fast.report.page.sections import section
from w2s_fast.report.thumbnails import thumbnail


def explained_page(explanations: Sequence[Explanation], manifest: Manifest, *, title: str = "Explanations") -> str:
    """A section per image: the picture, what every system says, nearest images, and what pulled the student."""
    row_of = {i: row for row, i in enumerate(manifest.ids)}

    def image(row_id: str, kind: str, alt: str, side: int) -> str:
        address = thumbnail(manifest, row_of[row_id], side=side)
        missing = f"<span>{text(alt)} cannot be read</span>"
        return missing if address is None else f'<img class="{kind}" src="{address}" alt="{text(alt)}">'

    parts = [f"<header><h1>{text(title)}</h1></header>", "<main>"]
    for number, one in enumerate(explanations):
        truth = "" if one.truth is None else f"<p>truth: {text(one.truth)}</p>"
        parts.append(
            section(
                f"image-{number}",
                f"{one.id} ({one.part})",
                '<div class="gallery"><div>' + image(one.id, "main", f"image {one.id}", 160) + truth + "</div></div>",
                _systems(one),
                *(
                    f"<h3>{text(heading)}</h3>" + _near(rows, image)
                    for heading, rows in (
                        ("Nearest images", one.neighbours),
                        (f"Training images that pulled {one.student}", one.pulled),
                    )
                    if rows
                ),
            )
        )
    return document(title, [*parts, "</main>"], {})


def _systems(one: Explanation) -> str:
    lines = list(one.systems.items())
    if one.prototypes:
        lines.append(("nearest class weights (cosine)", one.prototypes))
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>' + "".join(_guess(g, one.truth) for g in guesses) + "</tr>"
        for name, guesses in lines
    )
    head = "".join(f'<th scope="col">{n}</th>' for n in range(1, 6))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="What every system says"><table>'
        f'<caption>What every system says</caption><thead><tr><th scope="col">system</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _guess(guess: Guess, truth: str | None) -> str:
    shown = guess.label if guess.prob is None else f"{guess.label} {guess.prob:.2f}"
    mark = "" if truth is None else ' class="right"' if guess.label == truth else ' class="wrong"'
    return f"<td{mark}>{text(shown)}</td>"


def _near(rows: Sequence[Near], image: object) -> str:
    assert callable(image)
    items = []
    for one in rows:
        words = [f"cosine {one.cosine:.3f}", one.part, f"weak label {one.weak}" if one.weak else ""]
        words += [
            f"truth {one.truth}" if one.truth is not None else "",
            "" if one.pull is None else f"pull {one.pull:.3f}",
        ]
        shown = "".join(f"<div>{text(word)}</div>" for word in words if word)
        items.append(f"<li>{image(one.id, 'main', f'image {one.id}', 112)}{shown}</li>")
    return '<ul class="gallery">' + "".join(items) + "</ul>"
