"""Weights that do not fit name the config that they belong to."""

from pathlib import Path

import pytest
from torch import nn

from projects.mmdet3d_plugin.common.checkpoint import load_weights
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.bevformer.bevformer import BEVFormer
from projects.mmdet3d_plugin.hosts.bevformer.published_weights import KNOWN_GEOMETRIES, config_hint


class Geometry(nn.Module):
    """Only the parts of BEVFormer that tell its geometry."""

    weights_hint = BEVFormer.weights_hint

    def __init__(self, rows: int, laterals: int) -> None:
        super().__init__()
        self.pts_bbox_head = nn.ModuleDict(dict(bev_embedding=nn.Embedding(rows, 2)))
        convs = [nn.ModuleDict(dict(conv=nn.Conv2d(2, 2, 1))) for _ in range(laterals)]
        self.img_neck = nn.ModuleDict(dict(lateral_convs=nn.ModuleList(convs)))


@pytest.mark.parametrize(('rows', 'laterals'), list(KNOWN_GEOMETRIES))
def test_a_misfit_names_the_config_that_fits(rows: int, laterals: int) -> None:
    state = Geometry(rows, laterals).state_dict()
    expected = KNOWN_GEOMETRIES[rows, laterals]
    with pytest.raises(UserError, match=f'{laterals} image levels: it fits {expected}'):
        load_weights(Geometry(rows + 1, laterals), dict(state_dict=state))


def test_weights_of_something_else_get_no_hint() -> None:
    assert config_hint({}) == ''
    assert 'none of the published configs' in config_hint(Geometry(7, 1).state_dict())


def test_every_hinted_config_exists() -> None:
    assert all(Path(config).is_file() for config in KNOWN_GEOMETRIES.values())
