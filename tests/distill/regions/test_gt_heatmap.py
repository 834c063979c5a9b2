"""The Gaussian heatmap against a rasteriser that draws box by box and cell by cell."""

import math

import pytest
import torch

from projects.mmdet3d_plugin.distill.regions.gt_heatmap import GTHeatmap, box_heatmap, gaussian_radius
from projects.mmdet3d_plugin.distill.regions.region import join_boxes
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step

RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


def naive_radius(length: float, width: float, overlap: float) -> float:
    """The three quadratics of CornerNet in the form that was published."""
    b1, c1 = length + width, length * width * (1 - overlap) / (1 + overlap)
    r1 = (b1 + math.sqrt(b1**2 - 4 * c1)) / 2
    b2, c2 = 2 * (length + width), (1 - overlap) * length * width
    r2 = (b2 + math.sqrt(b2**2 - 16 * c2)) / 2
    a3, b3, c3 = 4 * overlap, -2 * overlap * (length + width), (overlap - 1) * length * width
    r3 = (b3 + math.sqrt(b3**2 - 4 * a3 * c3)) / 2
    return min(r1, r2, r3)


def naive_heatmap(
    boxes: list[list[float]], size: tuple[int, int], overlap: float, least: int
) -> torch.Tensor:
    """Draw each box into each cell of one sample; row = y, column = x."""
    h, w = size
    out = torch.zeros(h, w)
    for x, y, _, length, width, *_ in boxes:
        cell_x, cell_y = (RANGE[3] - RANGE[0]) / w, (RANGE[4] - RANGE[1]) / h
        column, row = (x - RANGE[0]) / cell_x, (y - RANGE[1]) / cell_y
        if not (0 <= column < w and 0 <= row < h) or length <= 0 or width <= 0:
            continue
        column, row = int(column), int(row)
        r = max(least, int(naive_radius(length / cell_x, width / cell_y, overlap)))
        sigma = (2 * r + 1) / 6
        for j in range(max(0, row - r), min(h, row + r + 1)):
            for i in range(max(0, column - r), min(w, column + r + 1)):
                value = math.exp(-((j - row) ** 2 + (i - column) ** 2) / (2 * sigma**2))
                out[j, i] = max(out[j, i].item(), value)
    return out


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(count, 2, generator=generator) * 110 - 55  # some lie outside
    extent = torch.rand(count, 3, generator=generator) * 12 + 0.3
    return torch.cat([place, torch.zeros(count, 1), extent, torch.zeros(count, 1)], dim=1)


def heat_step(boxes: list) -> Step:
    return Step({'gt_bboxes_3d': boxes, 'img_metas': [[{'pc_range': RANGE}] for _ in boxes]}, {}, {})


@pytest.mark.parametrize('overlap', [0.1, 0.5])
def test_equals_the_naive_rasteriser(overlap: float) -> None:
    boxes = [random_boxes(9, 0), random_boxes(0, 1), random_boxes(4, 2)]
    heatmap = GTHeatmap(min_overlap=overlap)(heat_step(boxes), torch.zeros(3, 1, 50, 40))
    assert heatmap.shape == (3, 1, 50, 40)
    for i, expected in enumerate(boxes):
        assert torch.allclose(
            heatmap[i, 0], naive_heatmap(expected.tolist(), (50, 40), overlap, 2), atol=1e-6
        )


def test_legacy_draws_on_the_published_grid_and_enlarges() -> None:
    boxes = random_boxes(7, 3)
    heatmap = GTHeatmap(legacy=True)(heat_step([boxes]), torch.zeros(1, 1, 200, 200))
    coarse = naive_heatmap(boxes.tolist(), (128, 128), 0.1, 2)
    expected = [[coarse[j * 128 // 200, i * 128 // 200].item() for i in range(200)] for j in range(200)]
    assert torch.allclose(heatmap[0, 0], torch.tensor(expected), atol=1e-6)


def test_orientation_peak_and_isolation_of_samples() -> None:
    """A box at (x, y) = (10.3, -20.1) peaks with exactly 1 at column (10.3 + 51.2) / 1.024, row (-20.1 + 51.2) / 1.024."""
    boxes = torch.tensor([[10.3, -20.1, 0, 4, 2, 1.5, 0.4]])
    heatmap = GTHeatmap()(heat_step([boxes, boxes[:0]]), torch.zeros(2, 1, 100, 100))
    assert (heatmap == 1).nonzero().tolist() == [[0, 0, 30, 60]]
    assert heatmap[1].abs().max() == 0


def test_no_boxes_at_all() -> None:
    heatmap = GTHeatmap()(heat_step([torch.zeros(0, 7)] * 2), torch.zeros(2, 1, 20, 20))
    assert heatmap.shape == (2, 1, 20, 20)
    assert heatmap.abs().max() == 0


def test_box_objects_of_mmdet3d_count_from_their_gravity_centre() -> None:
    from mmdet3d.core.bbox import LiDARInstance3DBoxes

    boxes = random_boxes(5, 4)
    wrapped = LiDARInstance3DBoxes(boxes, origin=(0.5, 0.5, 0.5))
    joined, sample = join_boxes([wrapped, wrapped], torch.device('cpu'))
    assert torch.allclose(joined, torch.cat([boxes, boxes]), atol=1e-6)
    assert sample.tolist() == [0] * 5 + [1] * 5


def test_radius_matches_the_published_quadratics() -> None:
    length, width = torch.rand(50) * 30 + 0.1, torch.rand(50) * 30 + 0.1
    for overlap in (0.1, 0.3, 0.7):
        expected = [naive_radius(a, b, overlap) for a, b in zip(length.tolist(), width.tolist(), strict=True)]
        assert torch.allclose(gaussian_radius(length, width, overlap), torch.tensor(expected), atol=1e-3)


def test_huge_box_beyond_the_border() -> None:
    boxes = torch.tensor([[50.0, 50.0, 0, 150, 150, 4, 0]])
    heatmap = box_heatmap(boxes, torch.zeros(1, dtype=torch.long), RANGE, (20, 20), 1)
    assert torch.allclose(heatmap[0, 0], naive_heatmap(boxes.tolist(), (20, 20), 0.1, 2), atol=1e-6)


def test_missing_range_is_clear() -> None:
    step = Step({'gt_bboxes_3d': [torch.zeros(0, 7)], 'img_metas': [[{}]]}, {}, {})
    with pytest.raises(DistillError, match="no 'pc_range'"):
        GTHeatmap()(step, torch.zeros(1, 1, 4, 4))


def test_different_ranges_in_a_batch_are_clear() -> None:
    metas = [[{'pc_range': RANGE}], [{'pc_range': [0, -1, 0, 1, 1, 1]}]]
    step = Step({'gt_bboxes_3d': [torch.zeros(0, 7)] * 2, 'img_metas': metas}, {}, {})
    with pytest.raises(DistillError, match='different pc_range'):
        GTHeatmap()(step, torch.zeros(2, 1, 4, 4))


def test_bad_overlap_is_clear() -> None:
    with pytest.raises(ValueError, match='min_overlap'):
        GTHeatmap(min_overlap=1.0)
