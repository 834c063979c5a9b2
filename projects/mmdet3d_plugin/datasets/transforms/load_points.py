"""mmdet3d's loading of point clouds, with errors that name the file and without points that are not finite."""

from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets.builder import PIPELINES
from mmdet3d.datasets.pipelines import LoadPointsFromFile, LoadPointsFromMultiSweeps

from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.datasets.point_files import finite_rows, read_points


class _Checked:
    """Replaces how mmdet3d reads a file of 32-bit floats, ``load_dim`` per point; no file of a frame is read twice."""

    load_dim: int
    use_dim: list[int]
    _said = False

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add to ``results['points']``; what the files of this frame hold stays in ``results['point_files']``."""
        self._files = results.setdefault('point_files', {})
        return super().__call__(results)

    def _load_points(self, pts_filename: str) -> np.ndarray:
        """(N * load_dim,) float32 of the points that are finite."""
        key = (pts_filename, self.load_dim)
        if key not in self._files:
            self._files[key] = read_points(Path(pts_filename), self.load_dim)
        points = self._files[key]
        finite = finite_rows(points[:, self.use_dim])
        if not (finite.all() or self._said):
            self._said = True
            get_logger().warning(
                '%d of %d points of %s are not finite (coordinates or intensity) and are left out; further files '
                'like it are not named',
                (~finite).sum(),
                len(points),
                pts_filename,
            )
        return points[finite].reshape(-1)


@PIPELINES.register_module()
class LoadPoints(_Checked, LoadPointsFromFile):
    """``LoadPointsFromFile`` for clouds of other people: ``points`` (N, use_dim), all finite.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file does not hold whole points, or looks like another number of columns or other floats.
    """


@PIPELINES.register_module()
class LoadSweeps(_Checked, LoadPointsFromMultiSweeps):
    """``LoadPointsFromMultiSweeps`` for clouds of other people, as :class:`LoadPoints`."""
