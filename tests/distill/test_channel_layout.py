"""Where the channels of a narrow detector lie in a wide one."""

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.channel_layout import Layout, input_layouts
from projects.mmdet3d_plugin.distill.registry import DistillError
from tests.lidar_factories import centerpoint_config, pillar_config


def test_first_channels_of_every_block() -> None:
    layout = Layout(((4, 2), (6, 3)))
    assert layout.widths == (10, 5)
    assert layout.index().tolist() == [0, 1, 4, 5, 6]


def test_flattened_height_is_the_inner_axis() -> None:
    """Against a view of numbered channels and heights, as sparse encoders make it."""
    wide = torch.stack([torch.arange(6)] * 2, dim=1).mul(10).add(torch.arange(2)).view(1, 12, 1, 1)
    narrow = wide.view(1, 6, 2, 1, 1)[:, :3].reshape(1, 6, 1, 1)
    index = Layout(((6, 3),)).flattened((12, 6)).index()
    assert torch.equal(wide[:, index], narrow)
    assert index.tolist() != [0, 1, 2, 6, 7, 8]  # the published code's


@pytest.mark.parametrize('widths', [(12, 9), (13, 6), (3, 3)])
def test_heights_that_differ_are_clear(widths: tuple[int, int]) -> None:
    with pytest.raises(DistillError, match='cannot become'):
        Layout(((6, 3),)).flattened(widths)


def test_layouts_of_whole_detectors() -> None:
    wide, narrow = (build_model(Config(dict(model=centerpoint_config(width))).model) for width in (16, 8))
    assert input_layouts(wide, narrow) == {
        'pts_backbone.blocks.0.0': Layout(((16, 8),)),
        'pts_bbox_head.shared_conv.conv': Layout(((16, 8), (16, 8))),
    }


def test_unknown_parts_must_have_equal_shapes() -> None:
    wide, narrow = (build_model(Config(dict(model=pillar_config(width))).model) for width in (16, 8))
    wide.roi_head, narrow.roi_head = nn.Linear(3, 4), nn.Linear(3, 4)
    assert 'bbox_head.conv_cls' in input_layouts(wide, narrow)
    narrow.roi_head = nn.Linear(3, 2)
    with pytest.raises(
        DistillError, match=r"'roi_head' is narrower .* of a Linear are laid out is not known"
    ):
        input_layouts(wide, narrow)
    del wide.roi_head
    with pytest.raises(DistillError, match="the teacher VoxelNet has no 'roi_head', the student has"):
        input_layouts(wide, narrow)
