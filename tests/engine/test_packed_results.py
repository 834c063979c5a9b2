import pickle
from typing import Any

import torch
from mmdet3d.core.bbox import DepthInstance3DBoxes, LiDARInstance3DBoxes

from projects.mmdet3d_plugin.engine.packed_results import PackedResults


def result(count: int, **more: Any) -> dict[str, Any]:
    """What a detector gives for a sample."""
    boxes = LiDARInstance3DBoxes(torch.rand(count, 9), box_dim=9)
    return dict(boxes_3d=boxes, scores_3d=torch.rand(count), labels_3d=torch.arange(count), **more)


def same(first: Any, second: Any) -> bool:
    """Whether two results are of the same types and hold the same."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if hasattr(first, 'tensor'):
        return first.box_dim == second.box_dim and torch.equal(first.tensor, second.tensor)
    return first == second


def test_results_come_back_as_they_were() -> None:
    results = [
        dict(pts_bbox=result(3), img_bbox=None),
        dict(pts_bbox=result(0), img_bbox=(torch.rand(2, 4, 5).half(), ['a', 1])),
        result(2, boxes=DepthInstance3DBoxes(torch.rand(2, 7))),
        result(1, extent=torch.tensor(4)),
        [torch.rand(4, 6)[:, 1:3], torch.zeros(0, 5)],
        'a word',
    ]
    packed = pickle.loads(pickle.dumps(PackedResults.pack(results)))
    assert len(packed.numbers) == 3  # float32, float16, int64
    assert same(packed.unpack(), results)


def test_no_results() -> None:
    assert PackedResults.pack([]).unpack() == []


def test_a_result_alone_is_small_in_a_pickle() -> None:
    """Of a view, a pickle would hold all that it is a view of."""
    results = PackedResults.pack([result(1000), result(1)]).unpack()
    assert len(pickle.dumps(results[1])) < 3000
