"""Fine-grained positions: FD3D's focal distillation."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss, check_same_shape
from projects.mmdet3d_plugin.distill.regions.instances import queries_of, query_agreement
from projects.mmdet3d_plugin.distill.registry import LOSSES
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn

COMPARE = ('positions', 'aggregated', 'values')


@LOSSES.register_module()
class FocalPositions(DistillLoss):
    """Compare two features where the queries of the distillation head sample them, decoder layer by layer.

    Per layer and sample: ``sum_q conf_q sum_mp a_qmp mean_c (S - T)(x_qmp)^2 / sum_q conf_q sum_mp a_qmp``, then the
    mean over layers and samples. ``x`` are the positions that query q samples with head m and point p, on BEV or on the
    image that shows them, ``a`` its attention weights, ``conf`` the probability of its best class. Queries and value
    projections are constants: a projection that learned along could make everything alike. So only the student, its
    connector and its generator can lower this loss.

    Args:
        generated_by: name of an earlier term whose generated student feature is compared; None for what the connector gives.
        top_k: queries per sample, best first.
        min_score: least confidence of a query's last layer; a scene in which the teacher sees nothing gives 0.
        compare: 'positions' = every sampled position by itself; 'aggregated' = the attention-weighted sum over what a
            head samples, where differences of opposite sign cancel; 'values' = that sum of projected values, all that
            the teacher's decoder takes in of a feature, as in the released left-overs.
        layers: how many of the last decoder layers are used; None for all.
        gate: metres; multiply a query's confidence by its agreement with ground truth, see :func:`agreement`.
        path: module of the teacher's feature, which a term fills in; None where queries sample only one.
    """

    needs_queries = True

    def __init__(
        self,
        generated_by: str | None = None,
        top_k: int = 300,
        min_score: float = 0.1,
        compare: str = 'positions',
        layers: int | None = None,
        gate: float | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__()
        if compare not in COMPARE:
            raise ValueError(f'compare must be one of {COMPARE}, got {compare!r}')
        if layers is not None and layers < 1:
            raise ValueError(f'layers must be at least 1, got {layers}')
        self.generated_by, self.top_k, self.min_score = generated_by, top_k, min_score
        self.compare, self.layers, self.gate, self.path = compare, layers, gate, path

    def forward(self, student: Tensor, teacher: Tensor, *, step: Step) -> Tensor:
        """Distance at the sampled positions.

        Args:
            student: (B * N, C, H, W), N maps per sample, after the connector; not used if :attr:`generated_by` is given.
            teacher: (B * N, C, H, W), constant.
            step: with the reading of the distillation head.

        Returns:
            Scalar.
        """
        student = student if self.generated_by is None else step.generated[self.generated_by]
        check_same_shape(student, teacher)
        locations, weights, confidence = self.positions(step)
        projections = queries_of(step).sampling(self.path).projections[-len(locations) :]
        gap = sampled_square(student - teacher, locations, weights, self.compare, projections)
        total = (confidence * weights.sum((-2, -1)).mean(-1)).sum(-1)
        mean = (gap * confidence.to(gap)).sum(-1) / total.where(total > 0, torch.ones_like(total)).to(gap)
        return mean.sum() / max(mean.numel(), 1)

    def cells_needed(self, step: Step, like: Tensor) -> Tensor:
        """The four cells around every sampled position; arguments and return as in the base."""
        maps, _, h, w = like.shape
        locations, weights, _ = self.positions(step)
        locations = locations.masked_fill((weights == 0)[..., None], -1.0)
        place = map_by_map(locations).reshape(maps, -1, 2) * locations.new_tensor([w, h]) - 0.5
        touched = torch.zeros(maps, h, w, dtype=torch.bool, device=like.device)
        sample = torch.arange(maps, device=like.device)[:, None]
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = (place.floor() + place.new_tensor([dx, dy])).long().unbind(-1)
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            touched[sample.expand_as(column)[inside], row[inside], column[inside]] = True
        return touched

    def positions(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """What the best queries of a step look at.

        Returns:
            Locations (L, B, K, M, N, P, 2), attention weights (L, B, K, M, N, P) and confidences (L, B, K), which are 0
            for queries below the least score.
        """
        reading = queries_of(step)
        best, query = reading.confidence[-1].topk(min(self.top_k, reading.scores.shape[2]), dim=1)
        keep = best >= self.min_score
        most = int(keep.sum(1).max()) if keep.numel() else 0
        query, keep = query[:, :most], keep[:, :most]
        first = 0 if self.layers is None else -self.layers
        sample = torch.arange(len(query), device=query.device)[:, None]
        confidence = reading.confidence[first:, sample, query] * keep
        if self.gate is not None:
            confidence = confidence * query_agreement(step, self.gate)[sample, query]
        looks = reading.sampling(self.path)
        return looks.locations[first:, sample, query], looks.weights[first:, sample, query], confidence


def map_by_map(sampled: Tensor) -> Tensor:
    """(L, B, K, M, N, P, ...) of queries -> (B * N, L, K, M, P, ...), in the order of a feature's B * N maps."""
    return sampled.movedim((1, 4), (0, 1)).flatten(0, 1)


def sampled_square(
    gap: Tensor, locations: Tensor, weights: Tensor, compare: str, projections: Tensor | None = None
) -> Tensor:
    """Mean square of a difference of features where queries sample it.

    Args:
        gap: (B * N, C, H, W), N maps per sample.
        locations: (L, B, K, M, N, P, 2), (x, y) in units of the map's width and height; outside, the gap is 0.
        weights: (L, B, K, M, N, P).
        compare: 'positions' = ``sum_p w_p |gap(x_p)|^2``; 'aggregated' = ``|sum_p w_p gap(x_p)|^2``; 'values' =
            ``|sum_p w_p V gap(x_p)|^2``, V being the head's rows of the projection; sums run over maps too.
        projections: (L, V, C), for 'values'; head m reads the m-th slice of the V outputs.

    Returns:
        (L, B, K): the mean over channels and heads.
    """
    num_layers, b, k, m, n, p, _ = locations.shape
    size, value = [tuple(gap.shape[-2:])], gap.flatten(2).transpose(1, 2)[:, :, None]
    points, share = (
        map_by_map(item.to(gap)).flatten(1, 3)[:, :, None, None] for item in (locations, weights)
    )
    if compare == 'positions':
        points, share = points.reshape(b * n, num_layers * k * m * p, 1, 1, 1, 2), share.flatten(1)
        sampled = ms_deform_attn(value, size, points, torch.ones_like(points[..., 0]))
        square = (sampled.square().mean(-1) * share).view(b, n, num_layers, k, m, p)
        return square.sum((1, -1)).mean(-1).transpose(0, 1)
    summed = ms_deform_attn(value, size, points, share).view(b, n, num_layers, k, m, gap.shape[1]).sum(1)
    if compare == 'values':  # projecting the sums instead of the map: the same, and far less work
        rows = projections.to(gap).unflatten(1, (m, -1))
        summed = torch.einsum('blkmc,lmvc->blkmv', summed, rows)
    return summed.square().mean((-2, -1)).transpose(0, 1)
