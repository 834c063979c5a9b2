"""How things move: constant speed on a line or a circle, known exactly at any time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Planar motion at constant speed and yaw rate, in the global frame (z up, ground at z = 0).

    The values are numbers, or arrays (n,) for n things at once (see ``stack_motions``).

    Attributes:
        x: position at t = 0, metres.
        y: position at t = 0, metres.
        yaw: heading at t = 0, radians, counter-clockwise from +x.
        speed: along the heading, m/s.
        yaw_rate: rad/s.
    """

    x: float | np.ndarray
    y: float | np.ndarray
    yaw: float | np.ndarray
    speed: float | np.ndarray = 0.0
    yaw_rate: float | np.ndarray = 0.0

    def at(self, time: float | np.ndarray) -> np.ndarray:
        """Where the thing is.

        Args:
            time: seconds, a number or an array (...).

        Returns:
            (..., 3) x, y in metres and yaw in radians.
        """
        time = np.asarray(time, dtype=np.float64)
        turned = self.yaw_rate * time
        # sinc keeps the chord exact for a straight line too, where the radius is infinite.
        chord = self.speed * time * np.sinc(turned / (2 * np.pi))
        x = self.x + chord * np.cos(self.yaw + turned / 2)
        y = self.y + chord * np.sin(self.yaw + turned / 2)
        return np.stack([x, y, self.yaw + turned], axis=-1)

    def through(self, time: float) -> 'Motion':
        """The same motion, shifted so that this one's t = 0 state is reached at ``time`` seconds."""
        x, y, yaw = self.at(-time)
        return Motion(float(x), float(y), float(yaw), self.speed, self.yaw_rate)


def stack_motions(motions: list[Motion]) -> Motion:
    """One motion whose values are arrays (n,), so that all n things are posed at once."""
    values = np.array([(m.x, m.y, m.yaw, m.speed, m.yaw_rate) for m in motions], dtype=np.float64)
    return Motion(*values.reshape(-1, 5).T)


def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotate vectors (..., 3) by a matrix (3, 3).

    Written out, as BLAS may round differently with another number of threads and every byte shall be reproducible.

    Example:
        >>> rotate(np.array([[1.0, 0, 0]]), np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))
        array([[0., 1., 0.]])
    """
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return np.stack([x * row[0] + y * row[1] + z * row[2] for row in rotation], axis=-1)
