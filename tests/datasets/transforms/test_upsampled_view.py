import numpy as np
import pytest
import torch
import torch.nn.functional as F

from projects.mmdet3d_plugin.datasets.transforms.image_view import ImageView
from projects.mmdet3d_plugin.datasets.transforms.upsampled_view import UpsampledView
from tests.datasets.transforms.test_image_view import frame, project


def test_the_teacher_sees_the_enlarged_student_image() -> None:
    results = UpsampledView('teacher', factor=2)(ImageView(scale=0.5)(frame()))
    main, view = results['views'][''], results['views']['teacher']
    expected = F.interpolate(
        torch.from_numpy(main['img']), scale_factor=2, mode='bilinear', align_corners=False
    )
    assert np.allclose(view['img'], expected, atol=1e-4)
    assert view['img_shape'] == (128, 192)
    assert view['valid_shape'] == [(90, 160)] * 2
    point = np.array([1.0, 0.5, 10.0])
    assert np.allclose(project(view, 1, point), 2 * project(main, 1, point))


def test_odd_factors_are_padded() -> None:
    view = UpsampledView(factor=1.6)(ImageView(scale=0.5)(frame()))['views']['teacher']
    assert view['img_shape'] == (128, 160)  # 64 x 96 -> 102 x 153, then up to multiples of 32
    assert (view['img'][:, :, 102:] == 0).all()
    assert (view['img'][:, :, :, 153:] == 0).all()


def test_it_needs_the_main_view_and_a_name() -> None:
    with pytest.raises(ValueError, match="put an ImageView with name='' before it"):
        UpsampledView()(frame())
    with pytest.raises(ValueError, match='needs a name'):
        UpsampledView(name='')
