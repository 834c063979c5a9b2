"""What may stand in the world: the ten labelled classes and the things that are never labelled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectClass:
    """One labelled class, with what a scene needs to know to place it.

    Attributes:
        name: detection class.
        category: nuScenes category of its annotations.
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
