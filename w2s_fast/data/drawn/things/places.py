"""Vehicles, buildings and toys, each as a list of parts on a canvas from -10 to 10 (y points down)."""

from w2s_fast.data.drawn.parts import ACCENT, BODY, DARK, LIGHT, Thing, ellipse, loop, maybe, polygon, sector, stroke

PLACES: tuple[Thing, ...] = (
    # vehicles
    Thing(
        name="airplane",
        kind="vehicle",
        also=("plane", "jet"),
        parts=(
            polygon(BODY, "0,-9 1.5,-6 1.5,6 0,9 -1.5,6 -1.5,-6"),
            polygon(ACCENT, "-1.3,-3 -9,3 -9,5 -1.3,2"),
            polygon(ACCENT, "1.3,-3 9,3 9,5 1.3,2"),
            polygon(ACCENT, "-1,5 -4,8 -4,9 4,9 4,8 1,5"),
            maybe(ellipse(LIGHT, 0, -5, 0.9, 1.2)),
            maybe(polygon(DARK, "-5,0.5 -4,-0.2 -4,3.4 -5,3.7")),
        ),
    ),
    Thing(
        name="bicycle",
        kind="vehicle",
        also=("bike",),
        parts=(
            loop(DARK, 1.1, -5.2, 4, 3.6, 3.6),
            loop(DARK, 1.1, 5.2, 4, 3.6, 3.6),
            stroke(BODY, 1.1, "-5.2,4 -2.5,-2.5 3.7,-2.5 5.2,4"),
            stroke(BODY, 1.1, "-2.5,-2.5 0,4 3.7,-2.5"),
            stroke(BODY, 1.1, "3.7,-2.5 3,-5 5.5,-5.5"),
            maybe(polygon(ACCENT, "5,-4.5 9,-4.5 8.2,-1.5 5.4,-1.5")),
            maybe(stroke(DARK, 1.2, "-4,-3 -1,-3")),
        ),
    ),
    Thing(
        name="boat",
        kind="vehicle",
        also=("sailboat", "sailing ship"),
        parts=(
            polygon(BODY, "-8,3 8,3 5,8 -5,8"),
            stroke(DARK, 1, "0,3 0,-9"),
            polygon(ACCENT, "0.8,-8.5 7,1.5 0.8,1.5"),
            polygon(LIGHT, "-0.8,-6 -5.5,1.5 -0.8,1.5"),
            maybe(polygon(DARK, "0,-9 4,-8 0,-7")),
            maybe(ellipse(LIGHT, -3, 5.3, 1, 1)),
            maybe(ellipse(LIGHT, 2, 5.3, 1, 1)),
        ),
    ),
    Thing(
        name="bus",
        kind="vehicle",
        also=("coach",),
        parts=(
            polygon(BODY, "-9,-6 9,-6 9,5 -9,5"),
            ellipse(DARK, -5, 5.5, 2, 2),
            ellipse(DARK, 5, 5.5, 2, 2),
            polygon(LIGHT, "-7.5,-4.5 -4,-4.5 -4,-1 -7.5,-1"),
            polygon(LIGHT, "-2.3,-4.5 1.2,-4.5 1.2,-1 -2.3,-1"),
            polygon(LIGHT, "3,-4.5 7,-4.5 7,-1 3,-1"),
            maybe(stroke(ACCENT, 1, "-9,1.5 9,1.5")),
            maybe(polygon(DARK, "-6,-8 4,-8 4,-6 -6,-6")),
        ),
    ),
    Thing(
        name="car",
        kind="vehicle",
        also=("automobile",),
        parts=(
            polygon(BODY, "-9,1 -6,0 -4,-4 3,-4 6,0 9,1 9,5 -9,5"),
            ellipse(DARK, -5, 5, 2.2, 2.2),
            ellipse(DARK, 5, 5, 2.2, 2.2),
            polygon(LIGHT, "-3.5,-3 -0.5,-3 -0.5,0 -5,0"),
            polygon(LIGHT, "0.5,-3 2.7,-3 4.7,0 0.5,0"),
            maybe(stroke(DARK, 0.8, "-3.5,-5.3 2.5,-5.3")),
            maybe(ellipse(LIGHT, 8, 2, 0.9, 0.9)),
        ),
    ),
    Thing(
        name="rocket",
        kind="vehicle",
        also=("spaceship",),
        parts=(
            polygon(BODY, "0,-9 3.3,-3 3.3,5 -3.3,5 -3.3,-3"),
            polygon(ACCENT, "-3.3,1 -7,7 -3.3,5"),
            polygon(ACCENT, "3.3,1 7,7 3.3,5"),
            ellipse(LIGHT, 0, -2, 1.5, 1.5),
            polygon(DARK, "-1.6,5 1.6,5 0,9"),
            maybe(polygon(ACCENT, "0,-9 2.2,-5 -2.2,-5")),
            maybe(ellipse(LIGHT, 0, 2, 1.2, 1.2)),
        ),
    ),
    Thing(
        name="truck",
        kind="vehicle",
        also=("lorry",),
        parts=(
            polygon(BODY, "-9,-6 2.5,-6 2.5,4.5 -9,4.5"),
            polygon(ACCENT, "3.3,-2.5 6.5,-2.5 9,1 9,4.5 3.3,4.5"),
            ellipse(DARK, -5.5, 5.5, 2.1, 2.1),
            ellipse(DARK, 5.8, 5.5, 2.1, 2.1),
            maybe(polygon(LIGHT, "4.3,-1.5 6,-1.5 7.5,1 4.3,1")),
        ),
    ),
    # buildings
    Thing(
        name="castle",
        kind="building",
        also=("fortress",),
        parts=(
            polygon(BODY, "-8,-6 -6,-6 -6,-4 -4,-4 -4,-6 -2,-6 -2,-2 2,-2 2,-6 4,-6 4,-4 6,-4 6,-6 8,-6 8,8 -8,8"),
            sector(DARK, 0, 8, 2.3, 5, 180, 360),
            maybe(polygon(ACCENT, "0,-2 0,-8.5 4,-7 0.6,-5.5 0.6,-2")),
            maybe(polygon(LIGHT, "-5.5,-1 -4,-1 -4,2 -5.5,2")),
            maybe(polygon(LIGHT, "5.5,-1 4,-1 4,2 5.5,2")),
        ),
    ),
    Thing(
        name="house",
        kind="building",
        also=("home", "cottage"),
        parts=(
            polygon(BODY, "-7,-1 7,-1 7,8 -7,8"),
            polygon(ACCENT, "-9,-1 0,-9 9,-1"),
            polygon(DARK, "-1.5,3 2,3 2,8 -1.5,8"),
            polygon(LIGHT, "3.5,1.5 5.8,1.5 5.8,4 3.5,4"),
            maybe(polygon(ACCENT, "3.5,-9 5.8,-9 5.8,-4 3.5,-6")),
            maybe(polygon(LIGHT, "-5.8,1.5 -3.5,1.5 -3.5,4 -5.8,4")),
        ),
    ),
    Thing(
        name="lighthouse",
        kind="building",
        also=("beacon",),
        parts=(
            polygon(BODY, "-2,-4 2,-4 3.5,9 -3.5,9"),
            polygon(ACCENT, "-2.5,-7 2.5,-7 2.5,-4 -2.5,-4"),
            polygon(DARK, "-2.5,-7 0,-9.5 2.5,-7"),
            polygon(DARK, "-2.8,1 2.8,1 3.1,4 -3.1,4"),
        ),
    ),
    Thing(
        name="tent",
        kind="building",
        also=("camping tent",),
        parts=(
            polygon(BODY, "0,-7 9,7 -9,7"),
            polygon(DARK, "0,-1 3,7 -3,7"),
        ),
    ),
    Thing(
        name="windmill",
        kind="building",
        also=("mill",),
        parts=(
            polygon(BODY, "-2.3,-2 2.3,-2 4,9 -4,9"),
            stroke(ACCENT, 1.5, "-7,-9 7,5"),
            stroke(ACCENT, 1.5, "7,-9 -7,5"),
        ),
    ),
    # toys
    Thing(
        name="ball",
        kind="toy",
        also=("soccer ball", "football"),
        parts=(
            ellipse(BODY, 0, 0, 8, 8),
            polygon(DARK, "0,-3 3,-0.8 1.8,2.6 -1.8,2.6 -3,-0.8"),
            stroke(DARK, 0.8, "0,-3 0,-8"),
            stroke(DARK, 0.8, "3,-0.8 7.6,-2.4"),
            stroke(DARK, 0.8, "1.8,2.6 4.7,6.5"),
            stroke(DARK, 0.8, "-1.8,2.6 -4.7,6.5"),
            stroke(DARK, 0.8, "-3,-0.8 -7.6,-2.4"),
        ),
    ),
    Thing(
        name="balloon",
        kind="toy",
        also=("party balloon",),
        parts=(
            ellipse(BODY, 0, -4, 5, 5.5),
            polygon(ACCENT, "-1.2,2.5 1.2,2.5 0,1"),
            stroke(DARK, 0.8, "0,2.5 1.3,5 -1,7 0.6,9.5"),
            maybe(ellipse(LIGHT, -2, -6, 1, 1.6)),
        ),
    ),
    Thing(
        name="kite",
        kind="toy",
        also=("paper kite",),
        parts=(
            polygon(BODY, "0,-9 5.5,-3 0,4.5 -5.5,-3"),
            stroke(DARK, 0.8, "0,4.5 -2,6.5 1.5,8 -1,9.8"),
            stroke(ACCENT, 0.8, "0,-9 0,4.5"),
            stroke(ACCENT, 0.8, "-5.5,-3 5.5,-3"),
            maybe(ellipse(LIGHT, 0, -3, 1.2, 1.2)),
        ),
    ),
)
