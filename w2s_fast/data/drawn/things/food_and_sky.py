"""Food, the sky, plain shapes and the body, each as a list of parts on a canvas from -10 to 10 (y points down)."""

from w2s_fast.data.drawn.parts import ACCENT, BODY, DARK, LIGHT, Thing, arc, ellipse, maybe, polygon, stroke

FOOD_AND_SKY: tuple[Thing, ...] = (
    # food
    Thing(
        name="apple",
        kind="food",
        also=("red apple",),
        parts=(
            ellipse(BODY, -2.7, 1.5, 5, 6.5),
            ellipse(BODY, 2.7, 1.5, 5, 6.5),
            stroke(DARK, 1.1, "0,-4 1,-8"),
            polygon(ACCENT, "1,-6 5,-9 5,-6"),
            maybe(polygon(ACCENT, "0,-5 -5,-8 -5,-5")),
            maybe(ellipse(LIGHT, -4, -1, 1.2, 2)),
        ),
    ),
    Thing(
        name="carrot",
        kind="food",
        also=("orange carrot",),
        parts=(
            polygon(BODY, "-4,-4 4,-4 0,9.5"),
            stroke(ACCENT, 1.5, "0,-4 0,-9"),
            stroke(ACCENT, 1.5, "-1,-4 -4,-8.5"),
            stroke(ACCENT, 1.5, "1,-4 4,-8.5"),
        ),
    ),
    Thing(
        name="cherry",
        kind="food",
        also=("cherries",),
        parts=(
            ellipse(BODY, -4, 5, 3.5, 3.5),
            ellipse(BODY, 4, 5, 3.5, 3.5),
            stroke(DARK, 1, "-4,2 0,-8 4,2"),
            polygon(ACCENT, "0,-8 6,-9 4,-5.5"),
        ),
    ),
    Thing(
        name="ice cream",
        kind="food",
        also=("ice cream cone",),
        parts=(
            polygon(ACCENT, "-4.5,0 4.5,0 0,9.5"),
            ellipse(BODY, 0, -3.5, 5.5, 5),
            ellipse(LIGHT, -2, -5, 1.3, 1.1),
        ),
    ),
    Thing(
        name="pizza",
        kind="food",
        also=("pizza slice",),
        parts=(
            polygon(BODY, "-8,-6 8,-6 0,9"),
            polygon(ACCENT, "-9,-8.5 9,-8.5 8,-6 -8,-6"),
            ellipse(DARK, -2.5, -3, 1.4, 1.4),
            ellipse(DARK, 2.5, -2, 1.4, 1.4),
            ellipse(DARK, 0, 3, 1.3, 1.3),
            maybe(ellipse(ACCENT, 4.5, -4.5, 1.1, 1.1)),
        ),
    ),
    # sky objects
    Thing(
        name="cloud",
        kind="sky object",
        also=("rain cloud",),
        parts=(
            ellipse(BODY, -4, 1, 5, 4),
            ellipse(BODY, 1, -2, 5, 5),
            ellipse(BODY, 5, 2, 4.5, 3.5),
            polygon(BODY, "-6,1 7,1 7,5 -6,5"),
            maybe(stroke(ACCENT, 0.8, "-3,6 -4,9")),
            maybe(stroke(ACCENT, 0.8, "2,6 1,9")),
        ),
    ),
    Thing(
        name="lightning",
        kind="sky object",
        also=("thunder bolt",),
        parts=(polygon(BODY, "2,-9 -6,1 -1,1 -3,9 6,-2 1,-2 5,-9"),),
    ),
    Thing(
        name="moon",
        kind="sky object",
        also=("crescent",),
        parts=(
            polygon(BODY, "2,-9 -4,-7.5 -7.5,-3 -7.5,3 -4,7.5 2,9 6,8 1,5 -1,0 1,-5 6,-8"),
            maybe(ellipse(LIGHT, -4, -2, 1.2, 1.2)),
        ),
    ),
    Thing(
        name="sun",
        kind="sky object",
        also=("sunshine",),
        parts=(
            ellipse(BODY, 0, 0, 4.5, 4.5),
            stroke(ACCENT, 1.4, "0,-6 0,-9"),
            stroke(ACCENT, 1.4, "0,6 0,9"),
            stroke(ACCENT, 1.4, "6,0 9,0"),
            stroke(ACCENT, 1.4, "-6,0 -9,0"),
            stroke(ACCENT, 1.4, "4.5,-4.5 6.5,-6.5"),
            stroke(ACCENT, 1.4, "-4.5,4.5 -6.5,6.5"),
            stroke(ACCENT, 1.4, "4.5,4.5 6.5,6.5"),
            stroke(ACCENT, 1.4, "-4.5,-4.5 -6.5,-6.5"),
        ),
    ),
    # shapes
    Thing(
        name="arrow",
        kind="shape",
        also=("pointer",),
        parts=(polygon(BODY, "-9,-2 2,-2 2,-6 9,0 2,6 2,2 -9,2"),),
    ),
    Thing(
        name="cross",
        kind="shape",
        also=("plus sign",),
        parts=(polygon(BODY, "-2,-8 2,-8 2,-2 8,-2 8,2 2,2 2,8 -2,8 -2,2 -8,2 -8,-2 -2,-2"),),
    ),
    Thing(
        name="heart",
        kind="shape",
        also=("love heart",),
        parts=(
            polygon(BODY, "0,8 -8,0 -9,-4 -7,-7.5 -3.5,-8 0,-5 3.5,-8 7,-7.5 9,-4 8,0"),
            maybe(ellipse(LIGHT, -4, -3.5, 1.3, 1.6)),
        ),
    ),
    Thing(
        name="star",
        kind="shape",
        also=("five pointed star",),
        parts=(
            polygon(BODY, "0,-9 2.2,-3 9,-3 3.6,1.2 5.6,8 0,4 -5.6,8 -3.6,1.2 -9,-3 -2.2,-3"),
            maybe(ellipse(DARK, -1.8, -1, 0.7, 0.9)),
            maybe(ellipse(DARK, 1.8, -1, 0.7, 0.9)),
            maybe(ellipse(LIGHT, 0, 0, 2.2, 2.2)),
        ),
    ),
    # parts of the body
    Thing(
        name="eye",
        kind="body part",
        also=("eyeball",),
        parts=(
            polygon(LIGHT, "-9,0 -5,-4 0,-5.5 5,-4 9,0 5,4 0,5.5 -5,4"),
            ellipse(BODY, 0, 0, 3.7, 3.9),
            ellipse(DARK, 0, 0, 1.6, 1.7),
        ),
    ),
    Thing(
        name="face",
        kind="body part",
        also=("smiley",),
        parts=(
            ellipse(BODY, 0, 0, 8, 8),
            ellipse(DARK, -3, -2.5, 1.1, 1.5),
            ellipse(DARK, 3, -2.5, 1.1, 1.5),
            arc(DARK, 1.1, 0, 1, 4.2, 4, 20, 160),
        ),
    ),
)
