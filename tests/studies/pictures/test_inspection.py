"""What is read off a distillation step is what its terms compare."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.studies.pictures.inspection import density, inspect_step
from projects.mmdet3d_plugin.visualization.comparison import BEV, CAMERAS, Comparison, measure_gap
from tests.distill.bevformer_pair import build_pair, paired_batch

TERMS = [
    dict(
        type='MaskedGeneration',
        name='pv_generation',
        on='pv',
        connector='resize_conv',
        region=dict(type='PVArea', source='gt'),
    ),
    dict(
        type='MaskedGeneration',
        name='bev_generation',
        on='bev',
        connector='deconv',
        region=dict(type='BEVFootprint', source='both', min_score=0.0, top_k=5, gate=4.0),
    ),
    dict(type='FocalPositions', name='bev_focal', on='bev', generated_by='bev_generation', min_score=0.0),
]


@pytest.fixture(scope='module')
def pair(tmp_path_factory: pytest.TempPathFactory) -> Distiller:
    return build_pair(tmp_path_factory.mktemp('pair'), terms=TERMS, head=dict(init='teacher'))


def test_every_term_is_read_with_its_region_and_its_loss(pair: Distiller) -> None:
    inspection = inspect_step(pair, paired_batch([0]))
    assert [c.name for c in inspection.at(CAMERAS)] == ['pv_generation_0', 'pv_generation_1']
    assert [c.name for c in inspection.at(BEV)] == ['bev_generation', 'bev_focal']
    camera, footprint, focal = (inspection.comparisons[i] for i in (0, 2, 3))
    assert camera.teacher.shape[0] == 6
    assert camera.region.shape == (6, *camera.teacher.shape[-2:])
    assert set(camera.student_features) == {'student', 'generated'}
    assert 0 < footprint.region.max() <= 1
    assert footprint.region[footprint.region > 0].min() < 1  # the gate
    assert set(focal.student_features) == {'generated'}
    np.testing.assert_array_equal(focal.generated, footprint.generated)
    area = footprint.region.sum()  # a loss divides by at least 1
    expected = footprint.gap('generated').inside * area / max(area, 1)
    assert footprint.loss == pytest.approx(expected, rel=1e-4)


def test_queries_and_positions_are_those_of_the_head(pair: Distiller) -> None:
    inspection = inspect_step(pair, paired_batch([0]))
    layers, queries, heads, points = 2, 20, 4, 4
    assert len(inspection.queries) == 5
    assert (np.diff(inspection.queries.scores) <= 0).all()
    assert len(inspection.positions.weights) == layers * queries * heads * points
    assert set(inspection.positions.layers) == {0, 1}


def test_reading_is_reproducible_and_leaves_no_trace(pair: Distiller) -> None:
    pair.train()
    state = {key: value.clone() for key, value in pair.state_dict().items()}
    readers = [pair.distill[name].loss.consumers for name in pair.terms]
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again = (inspect_step(pair, paired_batch([0])) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in pair.modules() if isinstance(module, nn.Dropout))
    assert all(torch.equal(value, state[key]) for key, value in pair.state_dict().items())
    assert [pair.distill[name].loss.consumers for name in pair.terms] == readers
    for one, two in zip(first.comparisons, again.comparisons, strict=True):
        np.testing.assert_array_equal(one.generated, two.generated)


def test_untrained_connectors_and_generators_are_left_out(pair: Distiller) -> None:
    inspection = inspect_step(pair, paired_batch([0]), trained=False)
    assert all(not c.student_features and c.loss is None for c in inspection.comparisons)
    assert all(c.region is not None for c in inspection.comparisons)


def test_recipe_without_a_head_has_no_queries(tmp_path: Path) -> None:
    inspection = inspect_step(build_pair(tmp_path), paired_batch([0]))
    assert inspection.queries is None
    assert inspection.positions is None
    heatmap = inspection.at(BEV)[0]
    assert heatmap.region.max() == 1
    assert inspection.at(CAMERAS)[0].region is None
    assert np.isnan(inspection.at(CAMERAS)[0].gap('student').inside)


def test_gap_inside_is_weighted_and_outside_is_the_rest() -> None:
    gap = np.array([[[1.0, 2.0], [3.0, 5.0]]])
    region = np.array([[[1.0, 0.5], [0.0, 0.0]]])
    found = measure_gap(gap, region)
    assert found.everywhere == 2.75
    assert found.inside == pytest.approx((1 + 0.5 * 2) / 1.5)
    assert found.outside == 4.0


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_gap_of_an_empty_or_full_region_is_nan_on_one_side(value: float) -> None:
    found = measure_gap(np.ones((1, 2, 2)), np.full((1, 2, 2), value))
    assert np.isnan(found.inside) == (value == 0)
    assert np.isnan(found.outside) == (value == 1)


def test_extent_says_how_much_is_looked_at() -> None:
    region = np.zeros((2, 2, 5))
    region[0, 0, :3] = 0.5
    feature = np.zeros((2, 1, 2, 5))
    assert Comparison('t', CAMERAS, feature, region=region).extent == (
        'region: 15.0% of 5 x 2 cells, weights up to 0.5'
    )
    assert Comparison('t', CAMERAS, feature, region=(region > 0) * 1.0).extent.endswith('5 x 2 cells')
    assert Comparison('t', CAMERAS, feature).extent == 'no region: everywhere'


def test_density_adds_weights_cell_by_cell() -> None:
    places = np.array([[0.01, 0.01], [0.1, 0.1], [0.99, 0.99], [7.0, 0.5]])
    found = density(places, np.array([0.5, 0.3, 0.2, 9.0]), (4, 8))
    expected = np.zeros((4, 8))
    expected[0, 0], expected[3, 7] = 0.8, 0.2
    np.testing.assert_allclose(found, expected)
