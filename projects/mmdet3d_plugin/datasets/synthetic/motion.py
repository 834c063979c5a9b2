"""How things move: constant speed on a line or a circle, known exactly at any time."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Planar motion at constant speed and yaw rate, in the global frame (z up, ground at z = 0).

    Attributes:
        x: position at t = 0, metres.
        y: position at t = 0, metres.
        yaw: heading at t = 0, radians, counter-clockwise from +x.
        speed: along the heading, m/s.
        yaw_rate: rad/s.
    """

    x: float
    y: float
    yaw: float
    speed: float = 0.0
    yaw_rate: float = 0.0

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
        x, y, yaw = Motion(self.x, self.y, self.yaw, self.speed, self.yaw_rate).at(-time)
        return Motion(float(x), float(y), float(yaw), self.speed, self.yaw_rate)


def pose_matrix(x: float, y: float, yaw: float) -> np.ndarray:
    """Transform (4, 4) from a planar body frame to the global frame."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)
