"""What is read off a distillation step is what its terms compare."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_terms
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from projects.mmdet3d_plugin.studies.pictures.inspection import density, inspect_step
from projects.mmdet3d_plugin.studies.pictures.visualize import Scene
from projects.mmdet3d_plugin.studies.pictures.visualize_distill import draw_inspection, gap_row
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.comparison import BEV, CAMERAS, Comparison, measure_gap
from tests.distill.bevformer_pair import build_pair, paired_batch
from tests.distill.test_bev_grid import LIDAR_TO_EGO, delta
from tests.distill.toy_host import ToyAdapter, ToyBEVHost, toy_batch

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


WIDE, NARROW = [-8, -8, -5, 8, 8, 3], [-4, -4, -5, 4, 4, 3]


@pytest.mark.parametrize('frame', ['lidar', 'ego'])
def test_an_object_is_shown_at_one_place_in_the_maps_of_both(
    monkeypatch: pytest.MonkeyPatch, frame: str
) -> None:
    """A student of +-8 m and a teacher of +-4 m, in the LiDAR's frame or the car's: pictures show what both cover, boxes on
    top, and the region where it is compared."""
    grids = {16: BEVGrid(WIDE, frame), 8: BEVGrid(NARROW, frame)}
    taps = ToyAdapter.aliases

    def with_grids(self: ToyAdapter, model: ToyBEVHost) -> dict[str, list]:
        return {'bev': [replace(tap, grid=grids[model.bev_size]) for tap in taps(self, model)['bev']]}

    monkeypatch.setattr(ToyAdapter, 'aliases', with_grids)
    here, batch = (1.5, -2.5), toy_batch(1)
    for meta in batch['img_metas'][0]:
        meta['lidar2ego'] = LIDAR_TO_EGO
    batch['gt_bboxes_3d'] = [torch.tensor([[*here, 0, 1, 1, 1, 0]])]
    batch['gt_labels_3d'] = batch['gt_labels_3d'][0][None, :1]
    student, teacher = ToyBEVHost(6, 16), FrozenTeacher.from_model(ToyBEVHost(4, 8))
    place = here if frame == 'lidar' else (LIDAR_TO_EGO @ [*here, 0, 1])[:2]
    for host in (student, teacher.model):
        grid, shape = grids[host.bev_size], (1, host.channels, 1, 1)
        seen = delta(grid, 1, *place).expand(-1, host.channels, -1, -1) + 0 * torch.ones(shape)
        keep = host.encoder.weight  # a term wants a gradient
        monkeypatch.setattr(host.encoder, 'forward', lambda x, m=seen, w=keep: m + 0 * w.sum())
    features = dict(type='FeatureL2', on='bev', connector='conv1x1')
    if frame == 'lidar':
        features |= dict(region=dict(type='BEVFootprint'))
        relations = [dict(type='BoxKeypoints', on='bev', compare='cosines')]
    else:  # regions and boxes are refused
        relations = []
    distiller = Distiller(student, teacher, build_terms([features, *relations], student, teacher))

    inspection = inspect_step(distiller, batch)
    (maps,) = inspection.maps
    assert maps.limits == NARROW
    assert (maps.teacher.shape[0], maps.student.shape[0]) == (4, 6)
    for feature in (maps.teacher[0], maps.student[0]):
        row, column = divmod(int(feature.argmax()), 8)
        assert (column - 3.5, row - 3.5) == here
    assert all(one.limits == NARROW and np.isfinite(gap_row(one)[-1]) for one in inspection.comparisons)
    if frame == 'lidar':
        region = inspection.comparisons[0].region[0]
        assert [*zip(*region.nonzero(), strict=True)] == [(1, 5)]
        assert inspection.comparisons[1].student is None  # of another width, without a connector
    scene = Scene({}, None, BoxSet(np.array([[*here, 0, 1, 1, 1, 0]]), np.zeros(1, dtype=int)), np.pi / 2)
    pictures = {picture.name: picture.figure for picture in draw_inspection(inspection, scene, ['car'])}
    assert list(pictures)[:2] == ['feature_l2_maps', 'feature_l2']
    assert all(ax.get_xlim() == ax.get_ylim() == (-4, 4) for ax in pictures['feature_l2_maps'].axes)
    assert pictures['feature_l2'].axes[0].get_xlim() == (-4, 4)
