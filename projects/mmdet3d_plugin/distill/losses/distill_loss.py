"""What every distillation loss promises to a term."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.step import Step


class DistillLoss(nn.Module):
    """Base of the losses that compare a student's feature with the teacher's.

    ``forward`` returns an unweighted scalar that is exactly 0, with a live graph, when there is nothing to compare.
    A loss may own trainable parts; they are saved under ``distill.<term>.loss``.
    """

    takes_region: bool = False
    """Whether ``forward`` uses the region. A recipe that gives a region to a loss without this is an error."""

    takes_connector: bool = True
    """Whether it compares maps (N, C, H, W), which a connector can bring together. False for a loss that aligns by
    itself what hosts give besides maps: voxels with their cells, points, dicts of head outputs."""

    reads_step: bool = False
    """Whether ``forward`` wants the whole :class:`Step` as keyword ``step`` (ground truth, metas, predictions)."""

    takes_background: bool = False
    """Whether ``forward`` wants the region's background weights (N, 1, H, W), or None, as keyword ``background``."""

    generates: bool = False
    """Whether ``forward`` can leave a generated student feature in ``step.generated`` under the loss's ``name``."""

    readers: tuple['DistillLoss', ...] = ()
    """Losses of later terms that compare what this one generates, see :meth:`reads`."""

    needs_queries: bool = False
    """Whether ``forward`` reads ``step.queries``, so that the recipe must have a distillation head."""

    of: str | None = None
    """Name of an earlier term whose generated feature is compared instead of the connector's."""

    def forward(self, student: Tensor, teacher: Tensor, region: Tensor | None = None) -> Tensor:
        """Compare two features.

        Args:
            student: (N, C, H, W), after the connector; gradients flow here.
            teacher: (N, C, H, W), constant.
            region: (N, 1, H, W) weights >= 0 saying where to compare, or None for everywhere.

        Returns:
            Scalar.
        """
        raise NotImplementedError

    def reads(self, step: Step, like: Tensor) -> Tensor:
        """Which cells of an earlier term's generated feature this loss looks at.

        Args:
            step: the present step.
            like: (N, C, H, W), the teacher's feature.

        Returns:
            (N, H, W), bool.
        """
        return torch.ones_like(like[:, 0], dtype=torch.bool)


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Raise unless two features can be compared cell by cell.

    Args:
        student: (N, C, H, W).
        teacher: (N, C, H, W).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}; '
            "give the term a connector, for example connector='resize_conv'"
        )
