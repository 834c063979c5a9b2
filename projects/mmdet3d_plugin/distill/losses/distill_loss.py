"""What every distillation loss promises to a term."""

import inspect
from typing import ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

CONTEXT = ('region', 'background', 'step')


class DistillLoss(nn.Module):
    """Base of the losses that compare a student's feature with the teacher's.

    ``forward(student, teacher)`` returns an unweighted scalar that is exactly 0, with a live graph, when there is
    nothing to compare. What else it names it is given:

    ``region``
        (N, 1, H, W) weights >= 0 saying where to compare, or None for everywhere. A recipe that gives a region to a
        loss without this is an error.
    ``background``
        the region's weights of what lies outside, (N, 1, H, W), or None for 1.
    ``step``
        the whole :class:`Step`: ground truth, metas, predictions, queries.

    A loss may own trainable parts; they are saved under ``distill.<term>.loss``.
    """

    context: ClassVar[frozenset[str]] = frozenset()
    """Which of the above ``forward`` names; found when a class is made."""

    takes_connector: bool = True
    """Whether it compares maps (N, C, H, W), which a connector can bring together. False for a loss that aligns by
    itself what hosts give besides maps: voxels with their cells, points, dicts of head outputs."""

    reads_teacher: bool = True
    """Whether ``forward`` takes a feature of the teacher. False for a loss that looks at the student alone, or at what
    the teacher found (``step.detections``): ``forward(student, *, step)``; its ``on`` names a place of the student."""

    needs_queries: bool = False
    """Whether ``forward`` uses ``step.queries``, so that the recipe must have a distillation head."""

    generates: bool = False
    """Whether ``forward`` can leave a generated student feature in ``step.generated`` under the loss's ``name``."""

    generated_by: str | None = None
    """Name of an earlier term whose generated feature is compared instead of the connector's."""

    consumers: tuple['DistillLoss', ...] = ()
    """Losses of later terms that compare what this one generates, see :meth:`cells_needed`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.context = frozenset(CONTEXT) & frozenset(inspect.signature(cls.forward).parameters)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare two features.

        Args:
            student: (N, C, H, W), after the connector; gradients flow here.
            teacher: (N, C, H, W), constant.

        Returns:
            Scalar.
        """
        raise NotImplementedError

    def cells_needed(self, step: Step, like: Tensor) -> Tensor:
        """Which cells of an earlier term's generated feature this loss compares.

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

    Raises:
        DistillError: they have different shapes.

    Example:
        >>> check_same_shape(torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))
    """
    if student.shape != teacher.shape:
        raise DistillError(
            f'the student gives {tuple(student.shape)} and the teacher {tuple(teacher.shape)}; '
            "give the term a connector, for example connector='resize_conv'"
        )


def share_of_area(weight: Tensor) -> Tensor:
    """Divide weights (N, 1, H, W) by each sample's total (at least 1) and by the number of samples."""
    area = weight.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return weight / (area * max(len(weight), 1))


def mean_over_samples(values: Tensor, sample: Tensor, samples: int) -> Tensor:
    """The mean of values (M,) within each sample, then over ``samples``; of samples without values 0.

    Args:
        values: (M,).
        sample: (M,) which sample each belongs to.
        samples: how many there are.

    Example:
        >>> mean_over_samples(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), 2)
        tensor(3.5000)
    """
    counts = torch.bincount(sample, minlength=samples)
    return (values / counts[sample]).sum() / max(samples, 1)
