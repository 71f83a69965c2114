"""The table of objects: what each looks like, and what captions may call it."""

from w2s_fast.data.drawn.parts import Thing
from w2s_fast.data.drawn.things.belongings import BELONGINGS
from w2s_fast.data.drawn.things.food_and_sky import FOOD_AND_SKY
from w2s_fast.data.drawn.things.home import HOME
from w2s_fast.data.drawn.things.living import LIVING
from w2s_fast.data.drawn.things.places import PLACES
from w2s_fast.data.drawn.things.workshop import WORKSHOP

THINGS: dict[str, Thing] = {
    thing.name: thing
    for thing in sorted(LIVING + FOOD_AND_SKY + PLACES + HOME + BELONGINGS + WORKSHOP, key=lambda thing: thing.name)
}
"""Every object by name, in alphabetical order."""
