"""Names in checkpoints, whatever their origin."""

import pytest
import torch

from projects.mmdet3d_plugin.distill.state_names import plain_names

VALUE = torch.zeros(1)


@pytest.mark.parametrize(
    ('name', 'plain'),
    [
        ('img_neck.conv.weight', 'img_neck.conv.weight'),
        ('distill.bev.connector.layers.0.weight', 'distill.bev.connector.layers.0.weight'),
        ('student.img_neck.conv.weight', 'img_neck.conv.weight'),
        ('teacher.img_neck.conv.weight', None),
        ('bev_restore_layers.0.weight', None),
        ('distill_losses.loss_cwd.x', None),
        ('student_img_neck_fpn_convs_0_conv', None),
        ('teacher_bev', None),
    ],
)
def test_each_name_gets_its_plain_form_or_is_dropped(name: str, plain: str | None) -> None:
    kept, dropped = plain_names({name: VALUE})
    assert list(kept) == ([] if plain is None else [plain])
    assert dropped == ([name] if plain is None else [])


def test_wrapper_prefix_goes_only_when_all_have_it() -> None:
    assert list(plain_names({'module.a': VALUE, 'module.student.b': VALUE})[0]) == ['a', 'b']
    assert list(plain_names({'module.a': VALUE, 'b': VALUE})[0]) == ['module.a', 'b']
