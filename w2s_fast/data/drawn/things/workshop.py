"""Tools, weapons, the office and music, each as a list of parts on a canvas from -10 to 10 (y points down)."""

from w2s_fast.data.drawn.parts import ACCENT, BODY, DARK, LIGHT, Thing, arc, ellipse, loop, maybe, polygon, stroke

WORKSHOP: tuple[Thing, ...] = (
    # tools
    Thing(
        name="anchor",
        kind="tool",
        also=("mooring hook",),
        parts=(
            loop(BODY, 1.3, 0, -7, 1.8, 1.8),
            stroke(BODY, 1.6, "0,-5 0,8"),
            stroke(BODY, 1.5, "-4,-2.5 4,-2.5"),
            arc(BODY, 1.6, 0, 0, 7.5, 8, 15, 165),
            maybe(stroke(DARK, 0.8, "0,-8.5 3,-6 -2,-3 3,0 1,3")),
        ),
    ),
    Thing(
        name="axe",
        kind="tool",
        also=("hatchet",),
        parts=(
            stroke(ACCENT, 1.7, "-1,-9 -1,9"),
            polygon(BODY, "-1,-7 5,-9 7.5,-4 5,1 -1,-2"),
            maybe(polygon(BODY, "-1,-7 -7,-9 -9,-4 -7,1 -1,-2")),
        ),
    ),
    Thing(
        name="hammer",
        kind="tool",
        also=("mallet",),
        parts=(
            stroke(ACCENT, 1.9, "0,-3 0,9"),
            polygon(BODY, "-6,-8 6,-8 7,-3.5 -6,-3.5"),
            maybe(polygon(DARK, "-6,-7.5 -9,-5 -9,-3.5 -6,-4.5")),
            maybe(stroke(DARK, 2.2, "0,5.5 0,9")),
        ),
    ),
    Thing(
        name="key",
        kind="tool",
        also=("door key",),
        parts=(
            loop(BODY, 1.8, -5, 0, 3.6, 3.6),
            stroke(BODY, 1.8, "-1.5,0 9,0"),
            stroke(BODY, 1.5, "8,0 8,3.5"),
            stroke(BODY, 1.5, "5,0 5,3"),
            maybe(stroke(BODY, 1.3, "0,3 2.5,3")),
            maybe(ellipse(ACCENT, 0, -5, 1.4, 1.4)),
        ),
    ),
    Thing(
        name="ladder",
        kind="tool",
        also=("step ladder",),
        parts=(
            stroke(BODY, 1.2, "-4,-9 -4,9"),
            stroke(BODY, 1.2, "4,-9 4,9"),
            stroke(ACCENT, 1.1, "-4,-6 4,-6"),
            stroke(ACCENT, 1.1, "-4,-2 4,-2"),
            stroke(ACCENT, 1.1, "-4,2 4,2"),
            stroke(ACCENT, 1.1, "-4,6 4,6"),
        ),
    ),
    Thing(
        name="scissors",
        kind="tool",
        also=("shears",),
        parts=(
            loop(BODY, 1.4, -3.5, 6, 2.6, 2.6),
            loop(BODY, 1.4, 3.5, 6, 2.6, 2.6),
            stroke(ACCENT, 1.5, "-2.5,3.5 4,-9"),
            stroke(ACCENT, 1.5, "2.5,3.5 -4,-9"),
            maybe(ellipse(DARK, 0, 0, 0.9, 0.9)),
        ),
    ),
    # weapons
    Thing(
        name="sword",
        kind="weapon",
        also=("blade",),
        parts=(
            polygon(BODY, "0,-9 1.5,-7 1.5,3 -1.5,3 -1.5,-7"),
            polygon(ACCENT, "-5,3 5,3 5,4.6 -5,4.6"),
            stroke(DARK, 1.7, "0,5 0,9"),
            maybe(stroke(DARK, 0.5, "0,-7 0,2.5")),
            maybe(ellipse(ACCENT, 0, 9, 1.3, 1)),
        ),
    ),
    # office objects
    Thing(
        name="book",
        kind="office object",
        also=("open book",),
        parts=(
            polygon(BODY, "0,-4 -9,-6 -9,5 0,7"),
            polygon(ACCENT, "0,-4 9,-6 9,5 0,7"),
            stroke(DARK, 0.8, "0,-4 0,7"),
            maybe(stroke(DARK, 0.6, "-7,-3 -2,-1.5")),
            maybe(stroke(DARK, 0.6, "2,-1.5 7,-3")),
            maybe(polygon(DARK, "4,-5 6,-5.5 6,-1 5,-2 4,-0.5")),
        ),
    ),
    Thing(
        name="envelope",
        kind="office object",
        also=("letter", "mail"),
        parts=(
            polygon(BODY, "-9,-6 9,-6 9,6 -9,6"),
            stroke(DARK, 0.9, "-9,-6 0,1.5 9,-6"),
            maybe(ellipse(ACCENT, 0, 1.5, 1.6, 1.6)),
            maybe(polygon(ACCENT, "5.5,-5 8,-5 8,-2 5.5,-2")),
        ),
    ),
    Thing(
        name="pencil",
        kind="office object",
        also=("crayon",),
        parts=(
            polygon(BODY, "-1.8,-8 1.8,-8 1.8,5 -1.8,5"),
            polygon(LIGHT, "-1.8,5 1.8,5 0,9.5"),
            polygon(ACCENT, "-1.8,-9.5 1.8,-9.5 1.8,-7.5 -1.8,-7.5"),
            maybe(stroke(DARK, 0.5, "0,-7 0,5")),
        ),
    ),
    # musical instruments
    Thing(
        name="bell",
        kind="musical instrument",
        also=("school bell",),
        parts=(
            polygon(BODY, "0,-8 3.5,-6 5,1 8,5 -8,5 -5,1 -3.5,-6"),
            ellipse(ACCENT, 0, 6.5, 1.8, 1.8),
            maybe(arc(DARK, 0.9, 0, -8, 1.6, 1.4, 180, 360)),
            maybe(stroke(DARK, 0.9, "-6.5,2.5 6.5,2.5")),
        ),
    ),
    Thing(
        name="drum",
        kind="musical instrument",
        also=("snare drum",),
        parts=(
            polygon(BODY, "-7,-2 7,-2 7,6 -7,6"),
            ellipse(BODY, 0, 6, 7, 2.4),
            ellipse(LIGHT, 0, -2, 7, 2.6),
            stroke(ACCENT, 0.9, "-6.5,0 -2,7 2,0 6.5,7"),
            maybe(stroke(LIGHT, 0.8, "-4,-9 0,-2.5")),
            maybe(stroke(LIGHT, 0.8, "4,-9 0,-2.5")),
        ),
    ),
    Thing(
        name="guitar",
        kind="musical instrument",
        also=("ukulele",),
        parts=(
            ellipse(BODY, 0, 5, 4.5, 4),
            ellipse(BODY, 0, 0, 3.3, 3),
            stroke(ACCENT, 1.5, "0,-1 0,-9"),
            ellipse(DARK, 0, 3, 1.4, 1.4),
            maybe(stroke(DARK, 0.8, "-2,6.5 2,6.5")),
            maybe(polygon(DARK, "-1.7,-9.8 1.7,-9.8 1.2,-7.5 -1.2,-7.5")),
        ),
    ),
    Thing(
        name="music note",
        kind="musical instrument",
        also=("note", "musical note"),
        parts=(
            ellipse(BODY, -4.5, 6, 3, 2.3),
            ellipse(BODY, 4.5, 4.5, 3, 2.3),
            stroke(BODY, 1.3, "-2,6 -2,-6"),
            stroke(BODY, 1.3, "7,4.5 7,-8"),
            stroke(BODY, 2.6, "-2,-6 7,-8"),
        ),
    ),
)
