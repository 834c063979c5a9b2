"""What a distillation step looks at, of one sample, as arrays to be drawn and counted."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.models import evaluating
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid, place_bev
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.losses.focal_positions import FocalPositions, map_by_map
from projects.mmdet3d_plugin.distill.regions.instances import InstanceSource, best_queries
from projects.mmdet3d_plugin.distill.regions.region import pc_range_of
from projects.mmdet3d_plugin.distill.step import QueryReading, Step, present_metas
from projects.mmdet3d_plugin.distill.term import Term
from projects.mmdet3d_plugin.studies.pictures.lidar_inspection import (
    Importance,
    Pivots,
    both_stages,
    read_importance,
    read_pivots,
)
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.comparison import (
    BEV,
    CAMERAS,
    ELSEWHERE,
    BEVMaps,
    Comparison,
    Positions,
)


@dataclass(frozen=True)
class Inspection:
    """Everything there is to draw of one distillation step.

    Attributes:
        comparisons: of the recipe's terms, in order.
        pc_range: x0, y0, z0, x1, y1, z1 in metres: what the student's BEV map covers.
        maps: pairs of BEV maps that terms compare, each pair once.
        filled: (width, height) share of each camera's padded image that is image; features of cameras cover all of it.
        seen: left, top, right, bottom of what each camera's padded image covers, in pixels of the image as it was taken.
        queries: boxes that the distillation head found, with scores, None in a recipe without.
        positions: where its queries sample the BEV feature, None in a recipe without.
        importance: of the terms that compare neighbourhoods of voxels.
        pivots: of the terms that compare heatmaps of centre heads, and of sub-heads.
        stages: boxes of the student and what the recipe's second stage made of them; None without one.
    """

    comparisons: list[Comparison]
    pc_range: list[float]
    maps: Sequence[BEVMaps] = ()
    filled: Sequence[tuple[float, float]] = ()
    seen: Sequence[tuple[float, float, float, float]] = ()
    queries: BoxSet | None = None
    positions: Positions | None = None
    importance: Sequence[Importance] = ()
    pivots: Sequence[Pivots] = ()
    stages: tuple[BoxSet, BoxSet] | None = None

    def at(self, place: str) -> list[Comparison]:
        """The comparisons of maps in one place."""
        return [comparison for comparison in self.comparisons if comparison.place == place]


@torch.no_grad()
def inspect_step(distiller: Distiller, batch: dict[str, Any], trained: bool = True) -> Inspection:
    """Run one distillation step without learning from it.

    Host and connectors are in ``eval()``. Generators drop cells as in training, the same ones in every call.

    Args:
        distiller: with the weights of a checkpoint.
        batch: of one sample, with the teacher's view and ground truth.
        trained: whether connectors and generators are; if not, what goes through them is left out.
    """
    with evaluating(distiller), _whole_maps(distiller), torch.random.fork_rng():
        torch.manual_seed(0)
        _, step = distiller.run_models(batch)
        terms = {name: distiller.distill[name] for name in distiller.terms}
        teachers = distiller.teachers.values()
        bev = {tap.path for one in teachers for tap in one.adapter.aliases(one.model).get('bev', ())}
        comparisons = [_compare(name, term, step, trained, bev) for name, term in terms.items()]
        on_bev = [(terms[one.name], one) for one in reversed(comparisons) if one.place == BEV]
        pairs = {_pair(term): _maps(term, step, one) for term, one in on_bev if term.loss.takes_connector}
        importance, pivots = read_importance(terms, step), read_pivots(terms, step)
    # a 2D detector's image is a camera that stands nowhere
    limits = [] if 'gt_bboxes' in step.batch else pc_range_of(step.batch['img_metas'])
    meta = _meta(step)
    inspection = dict(comparisons=comparisons, pc_range=limits, filled=_filled(meta), seen=_seen(meta))
    inspection['maps'] = [*pairs.values()][::-1]
    inspection |= dict(importance=importance, pivots=pivots)
    if step.refined is not None:  # boxes of training hold shifted copies of the objects too
        inspection['stages'] = both_stages(step.refined[step.refined.proposals.remembered])
    if step.queries is not None:
        inspection['queries'] = _boxes(step.queries, *_query_limits(distiller))
        loss = _bev_focal_loss(distiller, step)
        inspection['positions'] = None if loss is None else _positions(step, loss, limits)
    return Inspection(**inspection)


@contextmanager
def _whole_maps(distiller: Distiller) -> Iterator[None]:
    """Let generators leave their whole maps behind, also where training generates only the cells that it compares."""
    losses = [distiller.distill[name].loss for name in distiller.terms]
    readers = {loss: loss.consumers for loss in losses if loss.generates}
    for loss in readers:
        loss.consumers += (DistillLoss(),)  # one that reads everything
    try:
        yield
    finally:
        for loss, before in readers.items():
            loss.consumers = before


def _compare(name: str, term: Term, step: Step, trained: bool, bev: set[str]) -> Comparison:
    """Compute one term and keep what it looked at."""
    loss = term(step)
    student, teacher = term.features(step)
    of = term.loss.generated_by
    generated = step.generated.get(of or name)
    believable = trained or not (list(term.parameters()) or of)
    value = loss.item() if believable else None
    if not isinstance(teacher, Tensor):
        return Comparison(name, ELSEWHERE, None, loss=value)
    place = BEV if term.teacher.path in bev else _place(teacher, step)
    covers = _covers(term, step) if place == BEV else ()
    alike = believable and of is None and term.loss.takes_connector and student.shape == teacher.shape
    shown = dict(
        teacher=teacher, student=student if alike else None, generated=generated if trained else None
    )
    shown = {
        key: _array(_as_lidar(feature, covers, term, step) if covers else feature)
        for key, feature in shown.items()
        if feature is not None
    }
    return Comparison(name, place, **shown, region=_region(term, step, teacher), loss=value, limits=covers)


def _covers(term: Term, step: Step) -> list[float]:
    """What the teacher's BEV map covers as a term compares it, in metres of its frame."""
    if term.limits is not None and term.loss.takes_connector:
        return list(term.limits)
    return list(term.teacher.grid.pc_range if term.teacher.grid else pc_range_of(step.batch['img_metas']))


def _as_lidar(feature: Tensor, covers: Sequence[float], term: Term, step: Step) -> Tensor:
    """A BEV map (B, C, H, W) as a term compares it -> in the LiDAR frame, where boxes are drawn."""
    return place_bev(feature, BEVGrid(covers, term.frame), covers, 'lidar', step.batch['img_metas'])


def _pair(term: Term) -> tuple[Hashable, ...]:
    """Which two maps a term compares."""
    return (term.taught_by, *((tap.path, tap.level) for tap in (term.student, term.teacher)))


def _maps(term: Term, step: Step, found: Comparison) -> BEVMaps:
    """The two maps of the only sample that a term compares, as the detectors made them."""
    student, teacher = (_array(_as_lidar(one, found.limits, term, step))[0] for one in term.maps(step))
    return BEVMaps(found.name, teacher, student, found.limits)


def _region(term: Term, step: Step, teacher: Tensor) -> np.ndarray | None:
    """Where a term looks, (N, H, W)."""
    if isinstance(term.loss, FocalPositions):
        return _looked_at(step, term.loss, teacher.shape[-2:])
    area = term.area(step, teacher)
    return None if area is None else _array(area[:, 0])


def _looked_at(step: Step, loss: FocalPositions, size: Sequence[int]) -> np.ndarray:
    """How much queries look at each cell of the only sample's N maps: (N, H, W), the largest being 1."""
    locations, attention, confidence = loss.positions(step)
    places = _array(map_by_map(locations).flatten(1, -2))
    weights = _array(map_by_map(attention * confidence[..., None, None, None]).flatten(1))
    total = np.stack([density(*one, size) for one in zip(places, weights, strict=True)])
    return total / max(total.max(), 1e-12)


def density(places: np.ndarray, weights: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Weights (K,) of places (K, 2), (x, y) in units of a map, added up cell by cell: (H, W)."""
    x, y = places.T
    total, _, _ = np.histogram2d(y, x, bins=size, range=[(0, 1), (0, 1)], weights=weights)
    return total


def _place(feature: Tensor, step: Step) -> str:
    """Where a feature of one sample lies, told by its shape."""
    if 'gt_bboxes' in step.batch:
        return CAMERAS if feature.dim() == 4 else ELSEWHERE
    if feature.dim() == 4 and len(feature) == len(_meta(step).get('lidar2img', ())):
        return CAMERAS
    return BEV if feature.dim() == 4 and len(feature) == 1 else ELSEWHERE


def _meta(step: Step) -> dict[str, Any]:
    """The meta of the present frame of the only sample."""
    return present_metas(step.batch['img_metas'])[0]


def _filled(meta: dict[str, Any]) -> list[tuple[float, float]]:
    """(width, height) share of each camera's padded image that is image."""
    if 'batch_input_shape' in meta:
        (height, width), full = meta['img_shape'][:2], meta['batch_input_shape']
        return [(width / full[1], height / full[0])]
    full = meta.get('img_shape', ())
    seen = meta.get('valid_shape', full)
    return [(image[1] / pad[1], image[0] / pad[0]) for image, pad in zip(seen, full, strict=True)]


def _seen(meta: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    """What each camera's padded image covers, in pixels of the image as it was taken; negative where it begins outside."""
    if 'batch_input_shape' in meta:
        height, width = meta['batch_input_shape']
        return [(0.0, 0.0, width / meta['scale_factor'][0], height / meta['scale_factor'][1])]
    if 'ida' not in meta:  # no cameras, or made-up frames
        return []
    corners = [np.array([[0, 0, 1], [width, height, 1]]).T for height, width, *_ in meta['img_shape']]
    placed = [np.linalg.solve(ida, corner) for ida, corner in zip(meta['ida'], corners, strict=True)]
    return [(x[0], y[0], x[1], y[1]) for x, y, _ in placed]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def _query_limits(distiller: Distiller) -> tuple[int, float]:
    """How many queries, and of which least confidence, the recipe's regions are drawn for."""
    regions = (distiller.distill[name].region for name in distiller.terms)
    sources = [region.instances for region in regions if hasattr(region, 'instances')]
    chosen = next((s for s in sources if s.source in ('queries', 'both')), InstanceSource())
    return chosen.top_k, chosen.min_score


def _bev_focal_loss(distiller: Distiller, step: Step) -> FocalPositions | None:
    """The recipe's choice of positions on BEV, or the default one; None where queries look at no BEV feature."""
    losses = [distiller.distill[name].loss for name in distiller.terms]
    losses = [loss for loss in losses if isinstance(loss, FocalPositions)]
    on_bev = [path for path, looks in step.queries.samplings.items() if looks.locations.shape[4] == 1]
    chosen = [loss for loss in losses if loss.path in on_bev]
    return next(iter(chosen), None) or (FocalPositions(path=on_bev[0]) if on_bev else None)


def _boxes(reading: QueryReading, top_k: int, min_score: float) -> BoxSet:
    """The best queries of the last layer."""
    sample, query = best_queries(reading, top_k, min_score)
    scores, labels = reading.scores[-1, sample, query].max(-1)
    return BoxSet(_array(reading.boxes[-1, sample, query]), labels.cpu().numpy(), _array(scores))


def _positions(step: Step, loss: FocalPositions, limits: Sequence[float]) -> Positions:
    """Sampled positions on BEV of all layers, heads and points, those of weight 0 left out."""
    locations, attention, confidence = loss.positions(step)
    weights = (attention * confidence[..., None, None, None]).flatten(1)
    low, high = (locations.new_tensor(limits[i : i + 2]) for i in (0, 3))
    layers = torch.arange(len(weights), device=weights.device)[:, None].expand_as(weights)
    kept = weights > 0
    places = (low + locations.flatten(1, -2) * (high - low))[kept]
    return Positions(_array(places), _array(weights[kept]), layers[kept].cpu().numpy())
