"""What may stand in the world: labelled classes and things that are never labelled, for each format."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ObjectClass:
    """One labelled class, with what a scene needs to know to place it.

    Attributes:
        name: what it looks like; in nuScenes also its detection class.
        category: what its annotations call it.
        size: typical (length, width, height), metres.
        spread: relative standard deviation of the size.
        speed: (lowest, highest) speed of one that moves, m/s; (0, 0) never moves.
        moving: probability that one moves.
        reach: (nearest, farthest) distance to the ego vehicle at which one is placed, metres.
        weight: relative frequency among the freely drawn objects of a scene.
        attributes: nuScenes attributes (when moving, when still); '' for none.
        follows_road: whether its heading is along or across the road, else anywhere.
        still_height: height of one that stands, relative to one that moves: a parked cycle has no rider.
    """

    name: str
    category: str
    size: tuple[float, float, float]
    spread: float
    speed: tuple[float, float]
    moving: float
    reach: tuple[float, float]
    weight: float
    attributes: tuple[str, str]
    follows_road: bool
    still_height: float


_VEHICLE = ('vehicle.moving', 'vehicle.parked')
_CYCLE = ('cycle.with_rider', 'cycle.without_rider')
_WALKER = ('pedestrian.moving', 'pedestrian.standing')
_THING = ('', '')

# fmt: off
_TABLE = (
    # name, category, size, spread, speed, moving, reach, weight, attributes, follows_road, still_height
    ('car', 'vehicle.car', (4.6, 1.95, 1.7), 0.06, (2, 10), 0.45, (6, 42), 1.4, _VEHICLE, True, 1.0),
    ('truck', 'vehicle.truck', (7.0, 2.5, 2.9), 0.06, (2, 8), 0.4, (8, 42), 0.8, _VEHICLE, True, 1.0),
    ('construction_vehicle', 'vehicle.construction', (6.4, 2.8, 3.2), 0.06, (2, 4), 0.25, (8, 42), 0.8, _VEHICLE, True, 1.0),
    ('bus', 'vehicle.bus.rigid', (10.8, 2.9, 3.4), 0.05, (2, 9), 0.5, (9, 42), 0.7, _VEHICLE, True, 1.0),
    ('trailer', 'vehicle.trailer', (10.0, 2.8, 3.8), 0.06, (2, 6), 0.2, (9, 42), 0.7, _VEHICLE, True, 1.0),
    ('barrier', 'movable_object.barrier', (0.5, 2.5, 1.0), 0.05, (0, 0), 0.0, (5, 26), 1.5, _THING, False, 1.0),
    ('motorcycle', 'vehicle.motorcycle', (2.1, 0.8, 1.5), 0.05, (3, 9), 0.5, (5, 36), 1.2, _CYCLE, False, 0.74),
    ('bicycle', 'vehicle.bicycle', (1.75, 0.65, 1.5), 0.05, (2, 5), 0.5, (5, 36), 1.2, _CYCLE, False, 0.7),
    ('pedestrian', 'human.pedestrian.adult', (0.7, 0.68, 1.75), 0.06, (0.8, 1.6), 0.6, (5, 36), 1.6, _WALKER, False, 1.0),
    ('traffic_cone', 'movable_object.trafficcone', (0.45, 0.45, 1.0), 0.08, (0, 0), 0.0, (5, 26), 1.5, _THING, False, 1.0),
)
# fmt: on

OBJECT_CLASSES: dict[str, ObjectClass] = {row[0]: ObjectClass(*row) for row in _TABLE}

# kind -> typical (length, width, height) in metres; never annotated.
DISTRACTORS: dict[str, tuple[float, float, float]] = {
    'pole': (0.25, 0.25, 5.5),
    'sign': (0.1, 0.8, 2.6),
    'tree': (3.2, 3.2, 6.0),
    'bush': (1.8, 1.4, 1.1),
    'building': (14.0, 10.0, 8.0),
}


@dataclass(frozen=True)
class Population:
    """What a scene is made of.

    Attributes:
        classes: what is labelled.
        one_of_each: place one of each class before the freely drawn ones.
        drawn: (lowest, highest + 1) number of freely drawn objects.
        clutter: classes that look like objects and are not labelled: mistakes that a detector may make.
        clutter_drawn: (lowest, highest + 1) number of them.
        distractors: kind -> (lowest, highest + 1) number.
        bearing: greatest angle, radians, between where the ego vehicle heads and where a thing is; pi is anywhere.
    """

    classes: tuple[ObjectClass, ...]
    one_of_each: bool
    drawn: tuple[int, int]
    clutter: tuple[ObjectClass, ...]
    clutter_drawn: tuple[int, int]
    distractors: dict[str, tuple[int, int]]
    bearing: float

    def within(self, reach: float) -> 'Population':
        """The same population, with every labelled class placed at most ``reach`` metres from the ego vehicle."""
        classes = (replace(spec, reach=(spec.reach[0], min(spec.reach[1], reach))) for spec in self.classes)
        return replace(self, classes=tuple(classes))

    def at_pace(self, factor: float) -> 'Population':
        """The same population, with every moving object at ``factor`` times its speed."""
        classes = (
            replace(spec, speed=(factor * spec.speed[0], factor * spec.speed[1])) for spec in self.classes
        )
        return replace(self, classes=tuple(classes))


NUSCENES = Population(
    classes=tuple(OBJECT_CLASSES.values()),
    one_of_each=True,
    drawn=(8, 15),
    clutter=(),
    clutter_drawn=(0, 1),
    distractors={'building': (4, 8), 'tree': (3, 8), 'pole': (2, 5), 'sign': (1, 4), 'bush': (1, 4)},
    bearing=math.pi,
)


def _variant(kind: str, **changes: object) -> ObjectClass:
    """A nuScenes class as it is elsewhere."""
    return replace(OBJECT_CLASSES[kind], **changes)


# European sizes; a cycle is a Cyclist only with its rider on it, so it always moves, and one without is clutter.
KITTI = Population(
    classes=(
        _variant('car', category='Car', size=(3.9, 1.63, 1.53), reach=(6, 58), weight=1.6),
        _variant('pedestrian', category='Pedestrian', size=(0.8, 0.62, 1.75), reach=(5, 42), weight=1.1),
        _variant(
            'bicycle', category='Cyclist', size=(1.76, 0.6, 1.73), moving=1.0, reach=(5, 42), weight=0.9
        ),
    ),
    one_of_each=False,
    drawn=(9, 18),
    clutter=(
        _variant('bicycle', category='', size=(1.76, 0.6, 1.55), moving=0.0, reach=(5, 42), weight=1.0),
        _variant('barrier', category='', size=(0.5, 2.2, 1.0), reach=(5, 42), weight=0.8),
        _variant('traffic_cone', category='', reach=(5, 42), weight=0.7),
        _variant('trailer', category='', size=(4.2, 1.9, 2.1), moving=0.0, reach=(10, 58), weight=0.5),
    ),
    clutter_drawn=(3, 8),
    distractors={'building': (3, 7), 'tree': (3, 7), 'pole': (3, 8), 'sign': (1, 5), 'bush': (2, 6)},
    bearing=math.radians(46),
)
