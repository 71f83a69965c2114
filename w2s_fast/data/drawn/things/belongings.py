"""Clothes and electronics, each as a list of parts on a canvas from -10 to 10 (y points down)."""

from w2s_fast.data.drawn.parts import ACCENT, BODY, DARK, LIGHT, Thing, ellipse, loop, maybe, polygon, sector, stroke

BELONGINGS: tuple[Thing, ...] = (
    # clothes
    Thing(
        name="crown",
        kind="clothing",
        also=("royal crown",),
        parts=(
            polygon(BODY, "-8,6 -9,-5 -4,0 0,-7 4,0 9,-5 8,6"),
            ellipse(ACCENT, 0, -7, 1.3, 1.3),
            ellipse(ACCENT, -9, -5, 1.3, 1.3),
            ellipse(ACCENT, 9, -5, 1.3, 1.3),
            maybe(stroke(DARK, 1.2, "-8.2,4 8.2,4")),
            maybe(ellipse(LIGHT, 0, 1.5, 1.2, 1.5)),
        ),
    ),
    Thing(
        name="glasses",
        kind="clothing",
        also=("spectacles",),
        parts=(
            loop(BODY, 1.3, -4.7, 1, 3.6, 3.6),
            loop(BODY, 1.3, 4.7, 1, 3.6, 3.6),
            stroke(BODY, 1.2, "-1.2,0 1.2,0"),
            stroke(DARK, 1, "-8.3,0 -9.5,-4"),
            stroke(DARK, 1, "8.3,0 9.5,-4"),
        ),
    ),
    Thing(
        name="hat",
        kind="clothing",
        also=("top hat",),
        parts=(
            polygon(BODY, "-5,-8 5,-8 5,4 -5,4"),
            polygon(BODY, "-9,4 9,4 9,6.5 -9,6.5"),
            polygon(ACCENT, "-5,1 5,1 5,4 -5,4"),
            maybe(polygon(LIGHT, "4,2 8,-6 6,-7 3,0")),
            maybe(ellipse(LIGHT, 0, 2.5, 1.1, 1.1)),
        ),
    ),
    Thing(
        name="ring",
        kind="clothing",
        also=("diamond ring",),
        parts=(
            loop(BODY, 1.7, 0, 3, 5.5, 5.5),
            polygon(ACCENT, "-3,-7 -1.6,-9 1.6,-9 3,-7 0,-3"),
        ),
    ),
    Thing(
        name="shirt",
        kind="clothing",
        also=("t shirt",),
        parts=(
            polygon(BODY, "-3,-7 3,-7 9,-3 7,1 4.5,-0.8 4.5,8 -4.5,8 -4.5,-0.8 -7,1 -9,-3"),
            sector(ACCENT, 0, -7, 2.2, 2.2, 0, 180),
            maybe(stroke(ACCENT, 1.6, "-4.5,3 4.5,3")),
        ),
    ),
    Thing(
        name="shoe",
        kind="clothing",
        also=("boot",),
        parts=(
            polygon(BODY, "-7,-6 -2,-6 -1,0 6,2 8.5,5 -7,5"),
            polygon(DARK, "-7,5 8.5,5 8.5,7 -7,7"),
            maybe(stroke(LIGHT, 0.8, "-2,-2 1,-2.5")),
            maybe(stroke(LIGHT, 0.8, "-1,0 2,-0.8")),
        ),
    ),
    Thing(
        name="trousers",
        kind="clothing",
        also=("pants", "jeans"),
        parts=(
            polygon(BODY, "-5,-9 5,-9 6,9 1.8,9 0,-2 -1.8,9 -6,9"),
            polygon(DARK, "-5,-9 5,-9 5,-7.3 -5,-7.3"),
        ),
    ),
    # electronics
    Thing(
        name="camera",
        kind="electronics",
        also=("photo machine",),
        parts=(
            polygon(BODY, "-9,-4 9,-4 9,7 -9,7"),
            polygon(BODY, "-4,-7 4,-7 4,-4 -4,-4"),
            ellipse(DARK, 0, 1.5, 4, 4),
            ellipse(LIGHT, 0, 1.5, 2.2, 2.2),
            maybe(polygon(LIGHT, "5.5,-3 8,-3 8,-1.3 5.5,-1.3")),
            maybe(stroke(DARK, 0.8, "-8.5,-4 -9.5,-8 9.5,-8 8.5,-4")),
        ),
    ),
    Thing(
        name="phone",
        kind="electronics",
        also=("mobile phone",),
        parts=(
            polygon(BODY, "-4.5,-9 4.5,-9 4.5,9 -4.5,9"),
            polygon(LIGHT, "-3.3,-6.5 3.3,-6.5 3.3,5.5 -3.3,5.5"),
            ellipse(DARK, 0, 7.3, 0.9, 0.9),
        ),
    ),
    Thing(
        name="television",
        kind="electronics",
        also=("tv",),
        parts=(
            polygon(BODY, "-9,-5 9,-5 9,7 -9,7"),
            polygon(LIGHT, "-7,-3.3 4.5,-3.3 4.5,5.3 -7,5.3"),
            stroke(DARK, 0.9, "-4,-9 0,-5 4,-9"),
            maybe(ellipse(ACCENT, 6.7, 0, 1, 1)),
            maybe(ellipse(ACCENT, 6.7, 3, 1, 1)),
        ),
    ),
)
