"""Fixtures of the distiller's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config

import projects.mmdet3d_plugin.distill  # noqa: F401  (makes mmdet3d importable)
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.distill.toy_host import CLASSES, ToyBEVHost

BEV_TERM = dict(
    type='FeatureL2', name='bev', on='bev', connector='deconv', region=dict(type='GTHeatmap'), weight=0.5
)
PV_TERM = dict(
    type='ChannelWiseDivergence', name='pv', on='backbone.{0..1}', connector='conv1x1', weight=0.25
)


@pytest.fixture
def teacher_file(tmp_path: Path) -> str:
    """A checkpoint of the toy teacher (6 channels, BEV 16 x 16)."""
    torch.manual_seed(1)
    path = tmp_path / 'teacher.pth'
    torch.save({'state_dict': ToyBEVHost(channels=6, bev_size=16).state_dict(), 'meta': {}}, path)
    return str(path)


@pytest.fixture
def recipe(teacher_file: str) -> Callable[..., Config]:
    """A function that makes the config of a toy recipe; keyword arguments change the ``distiller`` part."""

    def make(**changes: Any) -> Config:
        teacher = dict(
            config=dict(model=dict(type='ToyBEVHost', channels=6, bev_size=16), class_names=CLASSES),
            checkpoint=teacher_file,
            view='same',
        )
        teacher |= changes.pop('teacher', {})
        distiller = dict(type='Distiller', teacher=teacher, terms=[PV_TERM, BEV_TERM]) | changes
        return Config(dict(model=dict(type='ToyBEVHost'), class_names=CLASSES, distiller=distiller))

    return make


@pytest.fixture
def distiller(recipe: Callable[..., Config]) -> Distiller:
    """A toy distiller with two PV terms and one BEV term."""
    torch.manual_seed(0)
    return build_distiller(recipe())
