"""Household objects, the kitchen and furniture, each as a list of parts on a canvas from -10 to 10 (y points down)."""

from w2s_fast.data.drawn.parts import (
    ACCENT,
    BODY,
    DARK,
    LIGHT,
    Thing,
    arc,
    ellipse,
    loop,
    maybe,
    polygon,
    sector,
    stroke,
)

HOME: tuple[Thing, ...] = (
    # household objects
    Thing(
        name="candle",
        kind="household object",
        also=("wax candle",),
        parts=(
            polygon(BODY, "-2.5,-2 2.5,-2 2.5,9 -2.5,9"),
            stroke(DARK, 0.8, "0,-2 0,-4"),
            polygon(ACCENT, "0,-9 1.7,-5.5 0,-3.5 -1.7,-5.5"),
            maybe(polygon(ACCENT, "-6,8 6,8 4,9.8 -4,9.8")),
            maybe(stroke(LIGHT, 0.8, "-1,0 -1,5")),
        ),
    ),
    Thing(
        name="clock",
        kind="household object",
        also=("timepiece",),
        parts=(
            ellipse(BODY, 0, 0, 8, 8),
            ellipse(LIGHT, 0, 0, 6.5, 6.5),
            stroke(DARK, 1, "0,0 0,-5"),
            stroke(DARK, 1, "0,0 3.5,2"),
            maybe(stroke(BODY, 1.6, "-4,7 -6,9.5")),
            maybe(stroke(BODY, 1.6, "4,7 6,9.5")),
            maybe(ellipse(ACCENT, 0, -8.5, 1.6, 1.2)),
        ),
    ),
    Thing(
        name="flag",
        kind="household object",
        also=("banner",),
        parts=(
            stroke(DARK, 1.3, "-6,-9 -6,9"),
            polygon(BODY, "-5.5,-8.5 7,-7 5,-4 7,-0.5 -5.5,-1"),
            maybe(stroke(ACCENT, 1.6, "-5.5,-5.5 6,-4.5")),
            maybe(ellipse(DARK, -6, -9, 1, 1)),
        ),
    ),
    Thing(
        name="hourglass",
        kind="household object",
        also=("sand timer",),
        parts=(
            polygon(BODY, "-5.5,-7.5 5.5,-7.5 0,0"),
            polygon(ACCENT, "0,0 5.5,7.5 -5.5,7.5"),
            stroke(DARK, 1.4, "-6.5,-8.3 6.5,-8.3"),
            stroke(DARK, 1.4, "-6.5,8.3 6.5,8.3"),
        ),
    ),
    Thing(
        name="light bulb",
        kind="household object",
        also=("bulb", "electric bulb"),
        parts=(
            ellipse(BODY, 0, -3, 5.5, 5.5),
            polygon(BODY, "-3,0 3,0 2.3,4 -2.3,4"),
            polygon(DARK, "-2.3,4.5 2.3,4.5 1.8,8.5 -1.8,8.5"),
        ),
    ),
    Thing(
        name="umbrella",
        kind="household object",
        also=("parasol",),
        parts=(
            sector(BODY, 0, 0, 9, 8, 180, 360),
            stroke(DARK, 1.1, "0,0 0,7"),
            arc(DARK, 1.1, 1.7, 7, 1.7, 1.8, 0, 180),
            stroke(ACCENT, 0.7, "-3,0 0,-8"),
            stroke(ACCENT, 0.7, "3,0 0,-8"),
            maybe(stroke(DARK, 0.9, "0,-9 0,-10")),
            maybe(stroke(ACCENT, 0.7, "-6,4 -7,7")),
            maybe(stroke(ACCENT, 0.7, "5,3 4,6")),
        ),
    ),
    # kitchen objects
    Thing(
        name="bottle",
        kind="kitchen object",
        also=("flask", "glass vial"),
        parts=(
            polygon(BODY, "-1.4,-9 1.4,-9 1.4,-4 3.5,-1 3.5,9 -3.5,9 -3.5,-1 -1.4,-4"),
            polygon(ACCENT, "-3.5,2 3.5,2 3.5,6 -3.5,6"),
            maybe(polygon(DARK, "-1.8,-9.5 1.8,-9.5 1.8,-7.5 -1.8,-7.5")),
            maybe(ellipse(LIGHT, 0, 4, 1.4, 1.4)),
        ),
    ),
    Thing(
        name="cup",
        kind="kitchen object",
        also=("mug",),
        parts=(
            polygon(BODY, "-6,-5 4,-5 3.2,7 -5.2,7"),
            loop(BODY, 1.4, 5, 0, 3, 3.3),
            stroke(DARK, 0.8, "-6,-5 4,-5"),
            maybe(stroke(LIGHT, 0.7, "-3,-6 -2,-7.5 -3,-9")),
            maybe(stroke(LIGHT, 0.7, "1,-6 2,-7.5 1,-9")),
            maybe(stroke(ACCENT, 1.4, "-5.6,1 3.6,1")),
        ),
    ),
    Thing(
        name="fork",
        kind="kitchen object",
        also=("dinner fork",),
        parts=(
            stroke(BODY, 1.4, "0,-1 0,9"),
            arc(BODY, 1.2, 0, -4, 3, 3.5, 0, 180),
            stroke(BODY, 1.1, "-3,-4 -3,-9"),
            stroke(BODY, 1.1, "3,-4 3,-9"),
            stroke(BODY, 1.1, "0,-1 0,-9"),
        ),
    ),
    Thing(
        name="spoon",
        kind="kitchen object",
        also=("teaspoon",),
        parts=(
            ellipse(BODY, 0, -5.5, 3, 3.8),
            stroke(BODY, 1.4, "0,-2 0,9"),
        ),
    ),
    # furniture
    Thing(
        name="bed",
        kind="furniture",
        also=("couch bed",),
        parts=(
            stroke(DARK, 1.5, "-9,-6 -9,7"),
            polygon(BODY, "-9,0 9,0 9,4 -9,4"),
            polygon(LIGHT, "-8,-2.5 -3.5,-2.5 -3.5,0 -8,0"),
            stroke(DARK, 1.5, "9,-1 9,7"),
        ),
    ),
    Thing(
        name="chair",
        kind="furniture",
        also=("seat",),
        parts=(
            stroke(BODY, 1.4, "-5,-9 -5,9"),
            polygon(BODY, "-5,0 5,0 5,2.2 -5,2.2"),
            stroke(BODY, 1.4, "4.5,2 4.5,9"),
            polygon(ACCENT, "-5,-8 -3.3,-8 -3.3,-2 -5,-2"),
            maybe(polygon(DARK, "-4,-7.5 3.5,-7.5 3.5,-4 -4,-4")),
            maybe(stroke(BODY, 1, "-4.5,5.5 4.5,5.5")),
        ),
    ),
    Thing(
        name="lamp",
        kind="furniture",
        also=("table lamp",),
        parts=(
            polygon(BODY, "-3,-9 3,-9 6.5,-1 -6.5,-1"),
            stroke(ACCENT, 1.4, "0,-1 0,7"),
            polygon(ACCENT, "-4,7 4,7 5,9 -5,9"),
            maybe(stroke(ACCENT, 1, "-5,-4 5,-4")),
        ),
    ),
    Thing(
        name="table",
        kind="furniture",
        also=("desk",),
        parts=(
            polygon(BODY, "-9,-3 9,-3 9,-0.8 -9,-0.8"),
            stroke(ACCENT, 1.5, "-7,-1 -7,8"),
            stroke(ACCENT, 1.5, "7,-1 7,8"),
            maybe(ellipse(ACCENT, 0, -4.5, 2, 1.5)),
        ),
    ),
)
