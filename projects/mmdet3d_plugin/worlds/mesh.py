"""Meshes of shaded convex parts: the only geometry that the renderer and the LiDAR know."""

from dataclasses import dataclass

import numpy as np

CORNERS = 8  # every polygon is padded to this many corners by repeating its last one
FACES = ('front', 'back', 'left', 'right', 'top', 'bottom')
_PADDING = {count: np.minimum(np.arange(CORNERS), count - 1) for count in (4, CORNERS)}
Colour = tuple[float, float, float]
Span = tuple[float, float]


@dataclass(frozen=True)
class Mesh:
    """Flat polygons on convex parts, in the object frame (x ahead, y left, z up; origin under the centre; metres).

    A part's polygons are consecutive, each face followed by what is painted on it, so that drawing them in order
    (faces turned away left out) draws the part right.

    Attributes:
        polygons: (P, CORNERS, 3) corners.
        normals: (P, 3) outward unit normals.
        colours: (P, 3) RGB in 0..255.
        part: (P,) part of each polygon.
        solid: (P,) bool, a face (True) or paint on a face (False).
        bounds: (M, 2, 3) lowest and highest corner of each part; bounds of two parts never overlap.
    """

    polygons: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    part: np.ndarray
    solid: np.ndarray
    bounds: np.ndarray


class MeshBuilder:
    """Collects parts, given in fractions of the object's box: x and y in -0.5..0.5, z in 0..1.

    Args:
        size: (length, width, height) of the box, metres.
    """

    def __init__(self, size: tuple[float, float, float]) -> None:
        self.size = np.asarray(size, dtype=np.float64)
        self._faces: dict[str, np.ndarray] = {}
        self._polygons: list[np.ndarray] = []
        self._faces_under: list[np.ndarray] = []
        self._colours: list[Colour] = []
        self._parts: list[int] = []
        self._solid: list[bool] = []
        self._bounds: list[np.ndarray] = []
        self._pending: dict[str, list[tuple[np.ndarray, Colour]]] = {}

    def part(
        self, x: Span, y: Span, z: Span, colour: Colour, taper: tuple[float, float, float] = (0, 0, 0)
    ) -> 'MeshBuilder':
        """Start a part: a box, or a frustum when tapered.

        Args:
            x, y, z: extent as fractions of the object's box.
            colour: RGB in 0..255.
            taper: how far the top is drawn in at the back, at the front and at each side, same fractions.

        Returns:
            self, so that paint can follow.
        """
        self._close_part()
        back, front, side = taper
        bottom = self._rectangle(x, y, z[0])
        top = self._rectangle((x[0] + back, x[1] - front), (y[0] + side, y[1] - side), z[1])
        both = np.concatenate([bottom, top])
        self._bounds.append(np.stack([both.min(0), both.max(0)]))
        self._faces = _faces_of(bottom, top)
        self._pending = {face: [(corners, colour)] for face, corners in self._faces.items()}
        return self

    def wheel(self, x: Span, y: Span, z: Span, colour: Colour) -> 'MeshBuilder':
        """Start a part that is an upright wheel (an octagonal prism across y); only its sides can be painted.

        Args:
            x, y, z: extent as fractions of the object's box.
            colour: RGB in 0..255.

        Returns:
            self, so that paint can follow.
        """
        self.part(x, y, z, colour)
        angles = (np.arange(CORNERS) + 0.5) * (2 * np.pi / CORNERS)
        # Scaled up so that the octagon's sides, not its corners, touch the part's bounds.
        points = 0.5 + 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=-1) / np.cos(np.pi / CORNERS)
        left, right = _on_face(self._faces['left'], points), _on_face(self._faces['right'], points)
        self._pending = {'left': [(left, colour)], 'right': [(right, colour)]}
        for index, following in enumerate(np.roll(np.arange(CORNERS), -1)):
            tread = np.stack([left[index], left[following], right[following], right[index]])
            self._pending[f'tread{index}'] = [(tread, colour)]
        return self

    def paint(self, face: str, u: Span, v: Span, colour: Colour) -> 'MeshBuilder':
        """Paint a rectangle on a face of the current part.

        Args:
            face: one of FACES.
            u: extent across the face, 0..1: from right to left on front and back, from rear to front on the others.
            v: extent up the face (from right to left on top and bottom), 0..1.
            colour: RGB in 0..255.

        Returns:
            self.
        """
        points = np.array([(u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1])])
        self._pending[face].append((_on_face(self._faces[face], points), colour))
        return self

    def disc(self, face: str, u: float, v: float, radius: float, colour: Colour) -> 'MeshBuilder':
        """Paint a disc (an octagon) of ``radius`` metres around (u, v) of a face of the current part."""
        corners = self._faces[face]
        width = np.linalg.norm(corners[1] - corners[0])
        height = np.linalg.norm(corners[3] - corners[0])
        angles = (np.arange(CORNERS) + 0.5) * (2 * np.pi / CORNERS)
        points = np.stack(
            [u + radius / width * np.cos(angles), v + radius / height * np.sin(angles)], axis=-1
        )
        self._pending[face].append((_on_face(corners, points.clip(0, 1)), colour))
        return self

    def build(self) -> Mesh:
        """Finish the mesh."""
        self._close_part()
        bounds, part = np.stack(self._bounds), np.array(self._parts)
        return Mesh(
            polygons=np.stack(self._polygons),
            normals=_outward_normals(np.stack(self._faces_under), bounds.mean(1)[part]),
            colours=np.array(self._colours, dtype=np.float64),
            part=part,
            solid=np.array(self._solid),
            bounds=bounds,
        )

    def _rectangle(self, x: Span, y: Span, z: float) -> np.ndarray:
        """Horizontal rectangle (4, 3) in metres: (x0, y0), (x1, y0), (x1, y1), (x0, y1)."""
        corners = np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])
        return corners * self.size

    def _close_part(self) -> None:
        for items in self._pending.values():
            for index, (corners, colour) in enumerate(items):
                self._polygons.append(corners[_PADDING[len(corners)]])
                self._faces_under.append(items[0][0][:4])
                self._colours.append(colour)
                self._parts.append(len(self._bounds) - 1)
                self._solid.append(index == 0)
        self._pending = {}


def _faces_of(bottom: np.ndarray, top: np.ndarray) -> dict[str, np.ndarray]:
    """Faces (4, 3) of a frustum; corners run (u, v) = (0, 0), (1, 0), (1, 1), (0, 1)."""
    return {
        'front': np.stack([bottom[1], bottom[2], top[2], top[1]]),
        'back': np.stack([bottom[0], bottom[3], top[3], top[0]]),
        'left': np.stack([bottom[3], bottom[2], top[2], top[3]]),
        'right': np.stack([bottom[0], bottom[1], top[1], top[0]]),
        'top': top,
        'bottom': bottom,
    }


def _on_face(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (u, v) points (n, 2) onto a face (4, 3) bilinearly; returns (n, 3)."""
    u, v = points[:, :1], points[:, 1:]
    return (1 - v) * ((1 - u) * corners[0] + u * corners[1]) + v * ((1 - u) * corners[3] + u * corners[2])


def _outward_normals(corners: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Unit normals (P, 3) of flat faces (P, 4, 3), pointing away from the centres (P, 3) of their parts."""
    # Diagonals, not sides: a face that tapers to a line still has them.
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
    inward = (normals * (corners.mean(1) - centres)).sum(-1) < 0
    return np.where(inward[:, None], -normals, normals)
