"""The base of all adapters: everything the distiller may ask a host."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from mmcv import Config
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin.datasets.blank_batch import blank_cloud, blank_images, has_images
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead
from projects.mmdet3d_plugin.distill.registry import ADAPTERS, DistillError
from projects.mmdet3d_plugin.distill.step import QueryReading
from projects.mmdet3d_plugin.distill.taps import Tap, expand_braces, find_module

Batch = dict[str, Any]
HeadOf = Callable[[], DenseHead]
"""Gives a host's dense head, or raises where it has none."""


class Detections(NamedTuple):
    """Boxes found in one sample, scores (n,) and labels (n,).

    Boxes are LiDAR boxes (n, 7+) in the LiDAR frame, or of a 2D detector (n, 4), left, top, right, bottom in pixels.
    """

    boxes: LiDARInstance3DBoxes | Tensor
    scores: Tensor
    labels: Tensor


class HostAdapter:
    """Translates between the distiller and one family of detectors. It has no state; hosts know nothing of it.

    Register a subclass under the host's class name: ``@ADAPTERS.register_module(name='MyDetector')``.
    """

    head: ClassVar[str] = ''
    """Dotted path of the detection head, which ``InheritHead`` copies; '' where that makes no sense."""

    cost_columns: ClassVar[tuple[str, ...]] = ('trainable', 'parameters', 'computed', 'published')
    """What the family's papers report of a model's cost: fields of :class:`~studies.cost.complexity.Cost`."""

    shape_only: ClassVar[tuple[str, ...]] = ()
    """Paths of modules that run one after the other before any other and need no values, only shapes, when operations
    are counted: an image backbone and its neck, say. Counting is as right without, and slower."""

    def prepare(self, model: nn.Module, batch: Batch) -> Batch:
        """Do what comes before the frame that is distilled (earlier frames), outside the taps.

        Returns:
            The batch of the current frame.
        """
        return self.present(model, batch)

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """The batch of the current frame without what earlier frames leave: all that :meth:`detect` needs beside predictions."""
        return batch

    def share_inputs(self, student: nn.Module, teacher: nn.Module, batch: Batch) -> Batch:
        """Add to a batch what both detectors would otherwise compute alike, such as voxels."""
        return batch

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """Run the student on a prepared batch; return its own detection losses."""
        return model.forward_train(**batch)

    def infer(self, model: nn.Module, batch: Batch) -> Any:
        """Run the teacher on a prepared batch, without ground truth; return its raw predictions."""
        raise NotImplementedError(f'{type(self).__name__} cannot run a teacher yet: implement infer()')

    def run_for_cost(self, model: nn.Module, batch: Batch) -> Any:
        """Do all that one frame costs, whose operations are counted; :meth:`infer` unless a host stops before its end."""
        return self.infer(model, batch)

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Final boxes of a prepared batch, one entry per sample.

        Args:
            model: the host.
            batch: as for :meth:`infer`.
            predictions: what :meth:`infer` returned, where it has run on this batch already.
        """
        raise NotImplementedError(f'{type(self).__name__} cannot decode boxes yet: implement detect()')

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """Short names of this host's features, such as 'pv', 'bev' and 'queries'."""
        return {}

    def taps(self, model: nn.Module, on: str) -> list[Tap]:
        """The places of a short name or of a module path with ``{0..3}``, checked against the model.

        Args:
            model: the host.
            on: a key of :meth:`aliases`, or a dotted path, optionally with ``:input``.
        """
        known = self.aliases(model)
        taps = known.get(on) or [Tap(path, channels=_channels(model, path)) for path in expand_braces(on)]
        for tap in taps:
            try:
                find_module(model, tap.path)
            except DistillError as error:
                short = f' (short names: {", ".join(known)})' if known else ''
                raise DistillError(f'{error}{short}') from None
        return taps

    def dense_head(self, model: nn.Module) -> DenseHead:
        """How losses read ``heads``, by anchor, cell or query."""
        raise DistillError(
            f'{type(self).__name__} does not say how the outputs of its head lie: implement dense_head()'
        )

    def query_head(self, model: nn.Module) -> nn.Module:
        """The host's decoder of object queries on its BEV feature, which FD3D's distillation head reads."""
        raise NotImplementedError(f'{type(self).__name__} has no queries on BEV: implement query_head()')

    def fresh_query_head(self, model: nn.Module) -> nn.Module:
        """A new decoder of the same shape with its own initial weights, and nothing that makes BEV features."""
        raise NotImplementedError(f'{type(self).__name__}: implement fresh_query_head()')

    def query_taps(self, head: nn.Module) -> list[Tap]:
        """What to read in a query head, paths relative to it, for :meth:`read_queries`."""
        raise NotImplementedError(f'{type(self).__name__}: implement query_taps()')

    def decode_queries(self, head: nn.Module, predictions: Any) -> Any:
        """Run a query head on the BEV feature among the teacher's predictions; the same kind of predictions."""
        raise NotImplementedError(f'{type(self).__name__}: implement decode_queries()')

    def query_losses(self, head: nn.Module, predictions: Any, batch: Batch) -> dict[str, Tensor]:
        """Detection losses of a query head's predictions on a prepared batch."""
        raise NotImplementedError(f'{type(self).__name__}: implement query_losses()')

    def read_queries(self, head: nn.Module, records: dict[str, Any], predictions: Any) -> QueryReading:
        """Put what the taps recorded and the head predicted into the distiller's terms."""
        raise NotImplementedError(f'{type(self).__name__}: implement read_queries()')

    def num_cameras(self, model: nn.Module) -> int | None:
        """How many cameras the model is made for; None where it does not matter."""
        return None

    def bev_grid(self, model: nn.Module) -> BEVGrid | None:
        """Where the host's ``bev`` lies; None where there is no such map, or it is not known."""
        return None

    def box_convention(self, model: nn.Module) -> str | None:
        """Convention of the host's boxes ('v1.0' or 'legacy'), None where it has no say."""
        return None

    def head_range(self, model: nn.Module) -> list[float] | None:
        """The ``pc_range`` that the head's weights belong to, where the head gives places as parts of it; else None."""
        return None

    def velocity_scale(self, model: nn.Module) -> float | None:
        """The m/s that one unit of the head's velocities stands for, where that is a setting; else None."""
        return None

    def blank_batch(self, cfg: Config, cloud: str | None = None) -> Batch:
        """One frame without data, as :meth:`infer` takes it: black images, or a cloud from a file or made up.

        Args:
            cfg: of the detector and its data.
            cloud: file of points, for detectors that look at points.
        """
        return blank_images(cfg) if has_images(cfg) else blank_cloud(cfg, cloud)

    def next_frame(self, batch: Batch, number: int) -> None:
        """Let a blank batch be frame ``number`` (from 0) of a drive, for hosts with a memory; edited in place."""
        for meta in batch['img_metas']:
            if isinstance(meta, list):
                meta[-1].update(
                    prev_token=str(number - 1), sample_token=str(number), prev_bev_exists=number > 0
                )

    def predict(self, model: nn.Module, batch: Batch, memory: Any = None) -> list[dict[str, Any]]:
        """Run the whole detector, from the inputs to final boxes, as testing does.

        Args:
            model: the host.
            batch: as for :meth:`infer`.
            memory: what ``model.new_memory()`` returned, for hosts that have one.

        Returns:
            Per sample ``boxes_3d``, ``scores_3d`` and ``labels_3d``.
        """
        extra = {} if memory is None else {'memory': memory}
        return model(return_loss=False, **batch, **extra)

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """Parts whose cost is counted apart: name -> module path. What runs inside two is booked under the inner one."""
        return {name: name for name, _ in model.named_children()}

    def published_rows(self, model: nn.Module) -> dict[nn.Module, Callable[[tuple], dict[nn.Module, int]]]:
        """Where published figures count other rows of linear layers than ours computes.

        Returns:
            Module -> function of the positional inputs of its forward pass, which tells the rows of layers inside.
        """
        return {}

    def grids(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Embeddings that lie on a grid and can be resized: state key -> grid shape, rows in the same order."""
        return {}


def _channels(model: nn.Module, path: str) -> int | None:
    """Channels that a module returns, where it says so."""
    module = dict(model.named_modules()).get(path)
    for attribute in ('out_channels', 'out_features', 'num_features'):
        if isinstance(getattr(module, attribute, None), int):
            return getattr(module, attribute)
    return None


def require_ability(adapter: HostAdapter, method: str, part: str) -> None:
    """Refuse a part whose host lacks what it needs, before a step is run.

    Args:
        adapter: of the host.
        method: of the adapter.
        part: which part of a recipe needs it, for the message.

    Raises:
        DistillError: the host does not offer it.
    """
    if getattr(type(adapter), method) is getattr(HostAdapter, method):
        raise DistillError(
            f'{part} needs {method}() of {type(adapter).__name__}, which this host does not offer: '
            'leave that part out, or implement it in distill/hosts/'
        )


_OTHERS = ('Base3DDetector', 'SingleStageMono3DDetector')
"""Classes of mmdet3d that have 2D detectors among their bases, and are none."""


def adapter_for(model: nn.Module) -> HostAdapter:
    """The adapter registered for a host's class or for one of its bases."""
    for kind in type(model).__mro__:
        if kind.__name__ in _OTHERS:
            break
        if kind.__name__ in ADAPTERS.module_dict:
            return ADAPTERS.module_dict[kind.__name__]()
    raise DistillError(
        f'no adapter for the host {type(model).__name__}; hosts that have one: '
        f'{", ".join(sorted(ADAPTERS.module_dict))}. Add one file to distill/hosts/'
    )
