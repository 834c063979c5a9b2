"""What each class looks like: a few shaded, coloured parts that tell it apart and show where it heads."""

from collections.abc import Callable

import numpy as np

from projects.mmdet3d_plugin.worlds.mesh import Colour, Mesh, MeshBuilder

_GLASS = (38, 52, 70)
_RUBBER = (26, 26, 28)
_HUB = (140, 142, 148)
_LAMP = (255, 246, 190)
_TAIL = (214, 22, 26)
_STEEL = (96, 98, 104)
_WHITE = (236, 236, 232)
_SKIN = (222, 176, 142)

_CAR_PAINTS = (
    (176, 30, 36),
    (36, 74, 168),
    (214, 216, 220),
    (64, 66, 72),
    (150, 156, 166),
    (20, 110, 90),
    (238, 232, 214),
)
_CLOTHES = (
    (200, 46, 60),
    (40, 96, 190),
    (238, 200, 60),
    (120, 60, 150),
    (60, 150, 80),
    (230, 120, 40),
    (230, 230, 230),
)

_SHAPES: dict[str, Callable[[MeshBuilder, np.random.Generator, bool], object]] = {}


def make_mesh(
    kind: str, size: tuple[float, float, float], rng: np.random.Generator, moving: bool = False
) -> Mesh:
    """Build the mesh of one thing; paint varies with ``rng``.

    Args:
        kind: a detection class or a distractor.
        size: (length, width, height), metres; the mesh fills this box.
        rng: source of the variation in paint.
        moving: cycles that move carry a rider.

    Returns:
        The mesh, in the object frame.
    """
    builder = MeshBuilder(size)
    _SHAPES[kind](builder, rng, moving)
    return builder.build()


def _shape(kind: str) -> Callable[[Callable], Callable]:
    """Register the painter of a kind."""

    def register(function: Callable[[MeshBuilder, np.random.Generator, bool], object]) -> Callable:
        """Note the painter and hand it back."""
        _SHAPES[kind] = function
        return function

    return register


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, slightly varied."""
    base = np.array(colours[rng.integers(len(colours))]) + rng.uniform(-10, 10, 3)
    return tuple(base.clip(0, 255).tolist())


def _darker(colour: Colour, factor: float) -> Colour:
    return tuple(channel * factor for channel in colour)


def _wheels(builder: MeshBuilder, places: tuple[float, ...], v: float, radius: float) -> None:
    """Wheels on both sides of the current part, at fractions of its length from the rear."""
    for face in ('left', 'right'):
        for u in places:
            builder.disc(face, u, v, radius, _RUBBER).disc(face, u, v, radius * 0.5, _HUB)


def _lamps(
    builder: MeshBuilder, face: str, v: tuple[float, float], colour: Colour, width: float = 0.2
) -> None:
    """A pair of lamps on the front or back of the current part."""
    builder.paint(face, (0.04, 0.04 + width), v, colour).paint(face, (0.96 - width, 0.96), v, colour)


@_shape('car')
def _car(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    paint = _pick(rng, _CAR_PAINTS)
    b.part((-0.5, 0.5), (-0.5, 0.5), (0, 0.56), paint)
    for face in ('front', 'back', 'left', 'right'):
        b.paint(face, (0, 1), (0, 0.2), _RUBBER)
    b.paint('front', (0.28, 0.72), (0.4, 0.72), _RUBBER)
    _lamps(b, 'front', (0.55, 0.88), _LAMP)
    _lamps(b, 'back', (0.55, 0.9), _TAIL)
    b.paint('back', (0.36, 0.64), (0.36, 0.58), _WHITE)
    _wheels(b, (0.19, 0.81), 0.33, 0.33)
    b.part((-0.44, 0.28), (-0.47, 0.47), (0.56, 1), paint, taper=(0.07, 0.16, 0.07))
    b.paint('front', (0.06, 0.94), (0.1, 0.9), _GLASS).paint('back', (0.1, 0.9), (0.2, 0.88), _GLASS)
    for face in ('left', 'right'):
        b.paint(face, (0.07, 0.46), (0.14, 0.86), _GLASS).paint(face, (0.53, 0.93), (0.14, 0.86), _GLASS)


@_shape('truck')
def _truck(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    cab = _pick(rng, ((30, 120, 150), (170, 50, 40), (40, 90, 60), (60, 70, 150)))
    cargo = _pick(rng, ((206, 196, 170), (196, 206, 210)))
    b.part((-0.5, 0.5), (-0.44, 0.44), (0, 0.24), (58, 58, 62))
    _wheels(b, (0.16, 0.3, 0.84), 0.55, 0.44)
    _lamps(b, 'front', (0.5, 0.95), _LAMP)
    _lamps(b, 'back', (0.5, 0.95), _TAIL)
    b.part((0.24, 0.5), (-0.47, 0.47), (0.24, 0.82), cab, taper=(0, 0.03, 0))
    b.paint('front', (0.06, 0.94), (0.45, 0.92), _GLASS).paint('front', (0.2, 0.8), (0.06, 0.32), _RUBBER)
    for face in ('left', 'right'):
        b.paint(face, (0.35, 0.9), (0.48, 0.9), _GLASS)
    b.part((-0.5, 0.21), (-0.5, 0.5), (0.24, 1), cargo)
    for face in ('left', 'right'):
        b.paint(face, (0, 1), (0.3, 0.46), cab)
    b.paint('back', (0.06, 0.48), (0.05, 0.95), _darker(cargo, 0.75)).paint(
        'back', (0.52, 0.94), (0.05, 0.95), _darker(cargo, 0.75)
    )


@_shape('construction_vehicle')
def _construction_vehicle(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    yellow = _pick(rng, ((242, 178, 20), (250, 190, 30)))
    for side in (-1, 1):
        y = (-0.5, -0.27) if side < 0 else (0.27, 0.5)
        b.part((-0.5, 0.2), y, (0, 0.24), (44, 42, 40))
        for face in ('left', 'right'):
            b.paint(face, (0.06, 0.94), (0.3, 0.7), _STEEL)
    b.part((-0.5, 0.12), (-0.46, 0.46), (0.24, 0.56), yellow)
    b.paint('back', (0.1, 0.9), (0.2, 0.55), (40, 40, 40))
    for face in ('left', 'right'):
        b.paint(face, (0.05, 0.4), (0.25, 0.7), (60, 56, 40))
    b.part((-0.12, 0.12), (0.05, 0.46), (0.56, 0.98), yellow)
    for face in ('front', 'back', 'left', 'right'):
        b.paint(face, (0.1, 0.9), (0.15, 0.85), _GLASS)
    b.part((-0.04, 0.14), (-0.3, -0.06), (0.56, 1), _darker(yellow, 0.9))
    b.part((0.14, 0.4), (-0.28, -0.08), (0.78, 0.98), yellow)
    b.part((0.4, 0.5), (-0.28, -0.08), (0.32, 0.95), yellow)
    b.part((0.3, 0.5), (-0.42, 0.1), (0.02, 0.32), (70, 68, 66), taper=(0.06, 0, 0))


@_shape('bus')
def _bus(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    paint = _pick(rng, ((40, 150, 80), (50, 165, 95)))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0, 1), paint)
    for face in ('left', 'right'):
        b.paint(face, (0, 1), (0.82, 1), _WHITE).paint(face, (0, 1), (0, 0.1), _RUBBER)
        for column in range(6):
            b.paint(face, (0.03 + column * 0.16, 0.16 + column * 0.16), (0.45, 0.78), _GLASS)
    _wheels(b, (0.22, 0.8), 0.14, 0.48)
    b.paint('front', (0.05, 0.95), (0.32, 0.82), _GLASS).paint(
        'front', (0.15, 0.85), (0.85, 0.97), (250, 160, 30)
    )
    _lamps(b, 'front', (0.14, 0.24), _LAMP)
    b.paint('back', (0.2, 0.8), (0.55, 0.8), _GLASS).paint(
        'back', (0.2, 0.8), (0.14, 0.42), _darker(paint, 0.5)
    )
    _lamps(b, 'back', (0.2, 0.5), _TAIL, 0.1)


@_shape('trailer')
def _trailer(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    paint = _pick(rng, ((226, 228, 232), (214, 220, 228)))
    blue = (40, 70, 150)
    b.part((-0.5, -0.12), (-0.48, 0.48), (0, 0.26), (52, 52, 56))
    _wheels(b, (0.2, 0.52, 0.84), 0.46, 0.46)
    _lamps(b, 'back', (0.5, 0.95), _TAIL)
    b.part((0.2, 0.26), (-0.4, 0.4), (0, 0.26), _STEEL)
    b.part((-0.5, 0.5), (-0.5, 0.5), (0.26, 1), paint)
    for face in ('left', 'right'):
        b.paint(face, (0, 1), (0, 0.07), blue)
        for rib in range(1, 9):
            b.paint(face, (rib / 9 - 0.006, rib / 9 + 0.006), (0.07, 1), _darker(paint, 0.7))
        b.paint(face, (0.55, 0.94), (0.4, 0.75), blue)
    b.paint('front', (0.08, 0.92), (0.08, 0.92), (70, 84, 104))
    b.paint('back', (0.03, 0.97), (0.03, 0.97), _darker(paint, 0.85)).paint(
        'back', (0.48, 0.52), (0.03, 0.97), _RUBBER
    )
    for stripe in range(5):
        b.paint('back', (0.03 + stripe * 0.2, 0.13 + stripe * 0.2), (0, 0.08), _TAIL)


@_shape('barrier')
def _barrier(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    for y in ((-0.5, -0.34), (0.34, 0.5)):
        b.part((-0.5, 0.5), y, (0, 0.16), (70, 70, 74))
    b.part((-0.22, 0.22), (-0.5, 0.5), (0.16, 1), (238, 236, 230))
    for face in ('front', 'back'):
        for stripe in range(4):
            b.paint(face, (0.06 + stripe * 0.25, 0.19 + stripe * 0.25), (0.08, 0.92), (206, 40, 34))


@_shape('motorcycle')
def _motorcycle(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    paint = _pick(rng, ((30, 30, 34), (170, 24, 34), (36, 60, 150)))
    top = 0.44 if moving else 0.58  # a rider takes up the upper half of the box
    radius = 0.5 * top * b.size[2]
    for x in ((-0.5, -0.19), (0.19, 0.5)):
        b.wheel(x, (-0.14, 0.14), (0, top), _RUBBER)
        for face in ('left', 'right'):
            b.disc(face, 0.5, 0.5, radius * 0.55, _HUB)
    b.part((-0.19, 0.19), (-0.24, 0.24), (0.2 * top, top), _STEEL)
    saddle = top + 0.14
    b.part((-0.48, 0.02), (-0.2, 0.2), (top, saddle), (44, 38, 38)).paint(
        'back', (0.1, 0.9), (0.1, 0.9), _TAIL
    )
    b.part((0.02, 0.3), (-0.28, 0.28), (top, saddle + 0.06), paint)
    bar = saddle + 0.1 if moving else 0.84
    b.part((0.3, 0.44), (-0.2, 0.2), (top, bar), paint).paint('front', (0.15, 0.85), (0.35, 0.95), _LAMP)
    b.part((0.28, 0.4), (-0.5, 0.5), (bar, bar + 0.1 if moving else 1), _RUBBER)
    if moving:
        _rider(b, rng, saddle + 0.06, (236, 60, 40))


@_shape('bicycle')
def _bicycle(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    frame = _pick(rng, ((20, 180, 200), (130, 210, 40), (240, 60, 150)))
    top = 0.46 if moving else 0.66
    radius = 0.5 * top * b.size[2]
    for x in ((-0.5, -0.1), (0.1, 0.5)):
        b.wheel(x, (-0.07, 0.07), (0, top), _RUBBER)
        for face in ('left', 'right'):
            b.disc(face, 0.5, 0.5, radius * 0.74, (196, 200, 204))
    b.part((-0.1, 0.1), (-0.09, 0.09), (0.2 * top, top), frame)
    b.part((-0.3, 0.24), (-0.09, 0.09), (top, top + 0.1), frame)
    b.part((0.24, 0.34), (-0.12, 0.12), (top, top + 0.14), frame).paint('front', (0, 1), (0.2, 1), _LAMP)
    b.part((0.24, 0.34), (-0.5, 0.5), (top + 0.14, top + 0.22 if moving else 1), (40, 40, 44))
    if moving:
        _rider(b, rng, top + 0.1, (250, 220, 60))
    else:
        b.part((-0.3, -0.14), (-0.16, 0.16), (top + 0.1, 0.94), _RUBBER)


def _rider(b: MeshBuilder, rng: np.random.Generator, seat: float, helmet: Colour) -> None:
    """Torso and helmeted head above the seat (fraction of the height)."""
    cloth = _pick(rng, _CLOTHES)
    neck = seat + 0.66 * (1 - seat)
    b.part((-0.24, 0.06), (-0.42, 0.42), (seat, neck), cloth, taper=(0, 0.05, 0.08))
    b.paint('back', (0.15, 0.85), (0.15, 0.9), _darker(cloth, 0.55))
    b.part((-0.16, 0.06), (-0.2, 0.2), (neck, 1), helmet)
    b.paint('front', (0.1, 0.9), (0.1, 0.65), _SKIN)


@_shape('pedestrian')
def _pedestrian(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    cloth = _pick(rng, _CLOTHES)
    trousers = _pick(rng, ((40, 44, 66), (70, 60, 50), (34, 34, 36)))
    stride = 0.24 if moving else 0.0
    b.part((-0.2 + stride, 0.22 + stride), (0.04, 0.34), (0, 0.46), trousers)
    b.part((-0.2 - stride, 0.22 - stride), (-0.34, -0.04), (0, 0.46), trousers)
    b.part((-0.28, 0.3), (-0.32, 0.32), (0.46, 0.84), cloth)
    b.paint('front', (0.4, 0.6), (0.1, 0.95), _WHITE)
    for y in ((-0.5, -0.35), (0.35, 0.5)):
        b.part((-0.14, 0.16), y, (0.44, 0.82), _darker(cloth, 0.8)).paint('front', (0, 1), (0, 0.2), _SKIN)
    b.part((-0.5, -0.29), (-0.24, 0.24), (0.52, 0.82), (36, 38, 42))
    b.part((-0.16, 0.18), (-0.17, 0.17), (0.85, 1), (60, 42, 30)).paint(
        'front', (0.08, 0.92), (0.05, 0.75), _SKIN
    )
    for face in ('left', 'right'):
        b.paint(face, (0.5, 1), (0.05, 0.7), _SKIN)
    b.part((0.31, 0.5), (-0.08, 0.08), (0.58, 0.66), _SKIN)


@_shape('traffic_cone')
def _traffic_cone(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    orange = _pick(rng, ((250, 100, 20), (255, 112, 28)))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0, 0.07), (90, 46, 24))
    half, step = 0.36, 0.06
    for low, high, colour in (
        (0.07, 0.34, orange),
        (0.34, 0.54, _WHITE),
        (0.54, 0.74, orange),
        (0.74, 0.88, _WHITE),
        (0.88, 1, orange),
    ):
        b.part((-half, half), (-half, half), (low, high), colour, taper=(step, step, step))
        half -= step


@_shape('pole')
def _pole(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    b.part((-0.5, 0.5), (-0.5, 0.5), (0, 0.08), (70, 72, 74))
    b.part((-0.3, 0.3), (-0.3, 0.3), (0.08, 1), (134, 138, 140))


@_shape('sign')
def _sign(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    plate = _pick(rng, ((30, 80, 190), (240, 240, 236), (20, 130, 70)))
    b.part((-0.4, 0.4), (-0.05, 0.05), (0, 0.68), (140, 144, 146))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0.68, 1), (150, 150, 150))
    b.paint('front', (0.04, 0.96), (0.04, 0.96), plate).paint(
        'front', (0.3, 0.7), (0.35, 0.65), _darker(plate, 0.5)
    )


@_shape('tree')
def _tree(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    leaves = _pick(rng, ((64, 106, 48), (84, 118, 44), (52, 92, 56)))
    b.part((-0.06, 0.06), (-0.06, 0.06), (0, 0.34), (92, 70, 50))
    b.part((-0.4, 0.4), (-0.4, 0.4), (0.34, 0.5), _darker(leaves, 0.85), taper=(-0.1, -0.1, -0.1))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0.5, 0.78), leaves, taper=(0.14, 0.14, 0.14))
    b.part((-0.36, 0.36), (-0.36, 0.36), (0.78, 1), leaves, taper=(0.2, 0.2, 0.2))


@_shape('bush')
def _bush(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    leaves = _pick(rng, ((70, 104, 52), (92, 110, 60)))
    b.part((-0.4, 0.4), (-0.4, 0.4), (0, 0.5), _darker(leaves, 0.9), taper=(-0.1, -0.1, -0.1))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0.5, 1), leaves, taper=(0.2, 0.2, 0.2))


@_shape('building')
def _building(b: MeshBuilder, rng: np.random.Generator, moving: bool) -> None:
    wall = _pick(rng, ((168, 150, 132), (150, 152, 156), (176, 120, 100), (190, 184, 170)))
    b.part((-0.5, 0.5), (-0.5, 0.5), (0, 1), wall)
    floors = max(int(b.size[2] / 3.2), 1)
    for face, extent in (
        ('front', b.size[1]),
        ('back', b.size[1]),
        ('left', b.size[0]),
        ('right', b.size[0]),
    ):
        b.paint(face, (0, 1), (0, 0.06), _darker(wall, 0.6))
        columns = max(int(extent / 3.5), 1)
        for floor in range(floors):
            for column in range(columns):
                u, v = (column + 0.25) / columns, (floor + 0.35) / floors
                b.paint(face, (u, u + 0.5 / columns), (v, v + 0.4 / floors), (70, 84, 100))
