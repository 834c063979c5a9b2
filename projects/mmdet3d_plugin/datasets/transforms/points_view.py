"""What a LiDAR teacher sees of a frame that a camera student learns from."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.datasets.builder import PIPELINES
from mmdet3d.datasets.pipelines import Compose

from projects.mmdet3d_plugin.datasets.transforms.bev_augmentation import move_points


@PIPELINES.register_module()
class PointsView:
    """A cloud of points for another network than the main one, from the same frame; put it beside ``ImageView``.

    Adds ``results['clouds'][name]``, which becomes ``{name}_points`` (N, C): x, y, z in metres, LiDAR frame, intensity,
    seconds since the sweep. What ``BEVAugmentation`` did to the frame is done to the cloud too, and files that the main
    pipeline has read are not read again. Of a queue only the current frame gets a cloud: earlier ones are the history of
    camera detectors, and a LiDAR detector has its own in the sweeps.

    Args:
        name: of the view, such as 'teacher'.
        transforms: what loads the cloud (``LoadPoints``, ``LoadSweeps``), then what cuts it (``PointsRangeFilter``).
    """

    def __init__(self, name: str = 'teacher', transforms: Sequence[Mapping[str, Any]] = ()) -> None:
        if not name:
            raise ValueError(
                "PointsView needs a name such as 'teacher': '' is the main view, which has its own points"
            )
        self.name, self.transforms = name, [dict(step) for step in transforms]
        loads = [step['type'].startswith('Load') for step in self.transforms]
        count = sum(loads)
        if not count or not all(loads[:count]):
            raise ValueError(f'PointsView {name!r}: transforms must begin with what loads points')
        self._load, self._cut = Compose(self.transforms[:count]), Compose(self.transforms[count:])

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Make the view out of ``results['pts_filename']`` and ``results['sweeps']``."""
        if not results.get('is_current', True):
            return results
        frame = self._load(dict(results))
        if 'bda' in results:
            move_points(frame['points'], results['bda'])
        results.setdefault('clouds', {})[self.name] = self._cut(frame)['points']
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name={self.name!r}, transforms={self.transforms})'
