"""Regions made of instances: what footprints on BEV and areas in the cameras have in common."""

from torch import Tensor

from projects.mmdet3d_plugin.distill.instances import Instances, InstanceSource, best_queries, reading_of
from projects.mmdet3d_plugin.distill.regions import Region
from projects.mmdet3d_plugin.distill.step import Step


class InstanceRegion(Region):
    """The areas of the instances that a source finds; where some overlap, the largest weight counts.

    Args:
        source: whose boxes, see :class:`InstanceSource`.
        top_k: see there.
        min_score: see there.
        gate: see there.
    """

    def __init__(self, source: str, top_k: int, min_score: float, gate: float | None) -> None:
        super().__init__()
        self.instances = InstanceSource(source, top_k, min_score, gate)

    @property
    def needs_queries(self) -> bool:
        """Whether the recipe must have a distillation head."""
        return self.instances.needs_queries

    def forward(self, step: Step, like: Tensor) -> Tensor:
        """Each instance's weight inside it, 0 outside.

        Args:
            step: the present step; boxes are in the LiDAR frame, metres.
            like: (N, C, H, W), the teacher's feature.

        Returns:
            (N, 1, H, W).
        """
        return self.draw(self.instances(step, like.device), step, like)

    def background(self, step: Step, like: Tensor) -> Tensor | None:
        """With a gate, the expert's confidence that a cell is background: 1 - the best score of its boxes there.

        Args:
            step: the present step.
            like: (N, C, H, W), the teacher's feature.

        Returns:
            (N, 1, H, W) in [0, 1], or None without a gate.
        """
        if self.instances.gate is None:
            return None
        reading = reading_of(step)
        sample, query = best_queries(reading, self.instances.top_k, 0.0)
        found = Instances(reading.boxes[-1, sample, query], sample, reading.confidence[-1, sample, query])
        return 1 - self.draw(found, step, like)

    def draw(self, instances: Instances, step: Step, like: Tensor) -> Tensor:
        """Draw instances at the resolution of a feature (N, C, H, W): (N, 1, H, W)."""
        raise NotImplementedError(f'{type(self).__name__} must say how instances are drawn: implement draw()')
