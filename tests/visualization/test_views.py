"""Every picture is drawn and looked at by pixel: colours must be where the boxes are."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from projects.mmdet3d_plugin.datasets.info_files import CAMERAS as NUSCENES
from projects.mmdet3d_plugin.studies.pictures.inspection import BEV, CAMERAS, Comparison, Positions
from projects.mmdet3d_plugin.studies.pictures.lidar_inspection import Importance, Pivots
from projects.mmdet3d_plugin.visualization.bev_view import UP, View, draw_bev
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.camera_view import draw_cameras, fit_width
from projects.mmdet3d_plugin.visualization.feature_view import (
    PrincipalColours,
    draw_bev_comparison,
    draw_camera_comparison,
)
from projects.mmdet3d_plugin.visualization.heatmap_view import CONTOUR, draw_heatmap, feature_salience
from projects.mmdet3d_plugin.visualization.lidar_view import draw_importance, draw_pivots
from projects.mmdet3d_plugin.visualization.overview import draw_overview
from projects.mmdet3d_plugin.visualization.position_view import draw_positions
from projects.mmdet3d_plugin.visualization.proposal_view import draw_proposals
from projects.mmdet3d_plugin.visualization.region_view import NOTHING, draw_camera_regions, tint
from projects.mmdet3d_plugin.visualization.style import CANVAS, class_colour, save_figure

CLASSES = ['car', 'pedestrian']
NAMES = ('CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_FRONT_LEFT', 'CAM_BACK', 'CAM_BACK_LEFT', 'CAM_BACK_RIGHT')
PC_RANGE = [-51.2, -51.2, -5, 51.2, 51.2, 3]


def rig(width: int = 160, height: int = 90) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Six grey cameras, 60 degrees apart, at the LiDAR's origin."""
    turns = dict(zip(NAMES, (0, -60, 60, 180, 120, -120), strict=True))
    cameras = {}
    for name, degrees in turns.items():
        a = np.deg2rad(degrees)
        right, ahead = np.array([np.cos(a), np.sin(a), 0]), np.array([-np.sin(a), np.cos(a), 0])
        extrinsic = np.eye(4)
        extrinsic[:3, :3] = (right, (0, 0, -1), ahead)
        intrinsic = np.array([(130, 0, 80, 0), (0, 130, 45, 0), (0, 0, 1, 0), (0, 0, 0, 1.0)])
        cameras[name] = (np.full((height, width, 3), 128, np.uint8), intrinsic @ extrinsic)
    return cameras


def boxes(x: float, y: float, label: int = 0, yaw: float = 0.0) -> BoxSet:
    return BoxSet(np.array([[x, y, 0, 4.5, 2, 1.6, yaw, 0, 0]]), np.array([label]))


def pixels_of(path: Path, colour: str) -> np.ndarray:
    """(n, 2) x, y of pixels near a colour, as shares of the picture's width and height."""
    image = cv2.imread(str(path))[..., ::-1].astype(int)
    near = np.abs(image - np.array(to_rgb(colour)) * 255).max(axis=-1) < 40
    rows, columns = np.nonzero(near)
    return np.stack([columns / image.shape[1], rows / image.shape[0]], axis=1)


@pytest.mark.parametrize(
    ('x', 'y', 'column', 'row'), [(0, 15, 1, 0), (13, 7.5, 2, 0), (-13, 7.5, 0, 0), (0, -15, 1, 1)]
)
def test_box_is_drawn_in_the_camera_that_sees_it(
    tmp_path: Path, x: float, y: float, column: int, row: int
) -> None:
    path = save_figure(draw_cameras(rig(), CLASSES, boxes(x, y), width=900), tmp_path / 'cameras.png')
    found = pixels_of(path, class_colour('car'))
    grid = found[found[:, 1] < 0.92]  # the legend shows the colour too
    assert len(grid) > 20
    assert ((grid[:, 0] * 3).astype(int) == column).all()
    assert ((grid[:, 1] > 0.46) == row).all()


def test_bird_eye_view_has_forward_up_and_right_right(tmp_path: Path) -> None:
    path = save_figure(draw_bev(CLASSES, None, boxes(30, 40), size=600), tmp_path / 'bev.png')
    found = pixels_of(path, class_colour('car'))
    x, y = found[found[:, 1] < 0.9].mean(axis=0)
    assert x == pytest.approx(0.5 + 30 / 102.4, abs=0.02)
    assert y == pytest.approx(0.5 * 600 / 634 - 40 / 102.4 * 588 / 634, abs=0.02)


def test_overview_holds_cameras_and_points(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(-50, 50, (500, 4))
    figure = draw_overview(rig(), CLASSES, points, boxes(0, 12), boxes(0.5, 12), width=1200)
    assert len(figure.axes) == 7
    image = cv2.imread(str(save_figure(figure, tmp_path / 'deep' / 'overview.png')))
    assert image.shape[1] == 1200
    corner = np.array(to_rgb(CANVAS)) * 255
    np.testing.assert_allclose(image[0, 0, ::-1], corner, atol=1)


def test_no_boxes_at_all_is_a_picture_too(tmp_path: Path) -> None:
    empty = BoxSet(np.zeros((0, 9)), np.zeros(0, dtype=int), np.zeros(0))
    assert save_figure(
        draw_overview(rig(), CLASSES, None, empty, empty, width=700), tmp_path / 'o.png'
    ).exists()


def test_salience_is_the_distance_from_the_mean() -> None:
    feature = np.ones((2, 2, 2))
    feature[:, 1, 0] = (5, 1)
    np.testing.assert_allclose(feature_salience(feature), [(1, 1), (3, 1)])


@pytest.mark.parametrize(
    ('forward', 'names'),
    [
        (UP, ('x, metres to the right', 'y, metres forward')),
        (0.0, ('x, metres forward', 'y, metres to the left')),
    ],
)
def test_a_heatmap_says_which_way_is_ahead(forward: float, names: tuple[str, str]) -> None:
    """KITTI's cars drive along x, nuScenes' along y."""
    ax = draw_heatmap(np.zeros((4, 8, 8)), np.zeros((8, 8)), PC_RANGE, forward=forward).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == names
    body = ax.patches[-1].get_xy()
    ahead = np.array([np.cos(forward), np.sin(forward)])
    nose = body[(body @ ahead).argmax()]
    np.testing.assert_allclose(nose, 1.7 * ahead, atol=1e-9)


def test_heatmap_lies_where_its_cells_are(tmp_path: Path) -> None:
    feature = np.random.default_rng(0).normal(size=(4, 20, 20)) * 0.01
    feature[:, 15:, 15:] = 9  # high rows are far ahead, high columns to the right
    heatmap = np.zeros((40, 40))
    heatmap[5, 5] = 1
    path = save_figure(draw_heatmap(feature, heatmap, PC_RANGE, boxes(0, 20)), tmp_path / 'heat.png')
    bright = pixels_of(path, '#fcfdbf')
    bright = bright[bright[:, 0] < 0.9]
    assert bright.mean(axis=0)[0] > 0.6
    assert bright.mean(axis=0)[1] < 0.4
    contour = pixels_of(path, CONTOUR)
    assert contour[:, 0].max() < 0.35
    assert contour[:, 1].min() > 0.65


def test_fit_width_keeps_projections_consistent() -> None:
    image, lidar2img = rig()['CAM_FRONT']
    small, scaled = fit_width(image, lidar2img, 80)
    point = np.array([1.0, 10, 0.5, 1])
    before, after = lidar2img @ point, scaled @ point
    assert small.shape == (45, 80, 3)
    np.testing.assert_allclose(after[:2] / after[2], before[:2] / before[2] / 2)


def test_region_lies_over_the_right_part_of_the_right_camera(tmp_path: Path) -> None:
    region = np.zeros((6, 4, 4))
    region[1, :2, 2:] = 1  # front right, upper right quarter of an image without padding
    figure = draw_camera_regions(rig(), region, [(0, 0, 160, 90)] * 6, CLASSES, NOTHING, 'title', width=900)
    found = pixels_of(save_figure(figure, tmp_path / 'region.png'), CONTOUR)
    found = found[found[:, 0] < 0.93]  # the colour bar shows the colour too
    # three images between margins of 6 and the colour bar's 56 pixels
    half = 6 + 2 * (820 / 3 + 6) + 820 / 6
    assert found[:, 0].min() == pytest.approx(half / 900, abs=0.01)
    assert found[:, 0].max() <= (half + 820 / 6) / 900 + 0.01
    assert found[:, 1].max() < 0.35


def test_padding_of_the_images_is_cut_off(tmp_path: Path) -> None:
    region = np.zeros((6, 4, 4))
    region[:, 3] = 1  # a row that is padding alone
    figure = draw_camera_regions(rig(), region, [(0, 0, 160, 120)] * 6, CLASSES, NOTHING, 'title', width=600)
    found = pixels_of(save_figure(figure, tmp_path / 'region.png'), CONTOUR)
    assert not (found[:, 0] < 0.9).any()


def test_every_camera_has_its_own_padding(tmp_path: Path) -> None:
    cameras = {
        'wide': (np.zeros((40, 80, 3), np.uint8), np.eye(4)),
        'low': (np.zeros((20, 80, 3), np.uint8), np.eye(4)),
    }
    region = np.zeros((2, 4, 4))
    region[:, 2:] = 1  # the lower half of the padded images: of the low one that is padding alone
    filled, seen = [(1.0, 1.0), (1.0, 0.5)], [(0, 0, 80, 40)] * 2
    figure = draw_camera_regions(cameras, region, seen, CLASSES, NOTHING, 'title', width=600)
    found = pixels_of(save_figure(figure, tmp_path / 'region.png'), CONTOUR)
    found = found[found[:, 0] < 0.9]  # the colour bar shows the colour too
    assert len(found)
    assert (found[:, 0] < 0.46).all()  # the first camera alone
    views = {key: np.ones((2, 3, 4, 8)) for key in ('teacher', 'student')}
    shown = draw_camera_comparison(Comparison('term', CAMERAS, **views), filled, list(cameras), width=80)
    wide, low = shown.axes[:2]
    assert wide.get_ylim() == (4.0, 0.0)
    assert low.get_ylim() == (2.0, 0.0)
    assert low.get_box_aspect() == 0.25


def test_region_of_a_cut_image_lies_over_what_was_cut_out(tmp_path: Path) -> None:
    cameras = {'one': (np.zeros((40, 80, 3), np.uint8), np.eye(4))}
    region = np.zeros((1, 4, 4))
    region[0, 1:3, 1:3] = 1  # of the lower right quarter, pixels 50 to 70 and 25 to 35
    figure = draw_camera_regions(cameras, region, [(40, 20, 80, 40)], CLASSES, NOTHING, 'title', width=600)
    found = pixels_of(save_figure(figure, tmp_path / 'region.png'), CONTOUR)
    found = found[found[:, 0] < 0.89] * 600  # the colour bar shows the colour too
    inner = 600 - 2 * 6 - 56
    assert found[:, 0].min() == pytest.approx(6 + 50 / 80 * inner, abs=5)
    assert found[:, 0].max() == pytest.approx(6 + 70 / 80 * inner, abs=5)


def test_tint_is_stronger_with_more_weight_and_nothing_at_zero() -> None:
    opacity = tint(np.array([[0.0, 0.1, 1.0]]))[0, :, 3]
    assert opacity[0] == 0
    assert 0 < opacity[1] < opacity[2] < 1


def test_positions_are_dots_where_they_are_sized_by_weight(tmp_path: Path) -> None:
    places = np.array([[-30.0, 30.0], [30.0, -30.0]])
    positions = Positions(places, np.array([1.0, 0.1]), np.array([0, 0]))
    figure = draw_positions(np.random.rand(4, 8, 8), positions, PC_RANGE, NOTHING, 'title', size=600)
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), places)
    heavy, light = ax.collections[0].get_sizes()
    assert heavy == pytest.approx(10 * light)
    assert save_figure(figure, tmp_path / 'positions.png').exists()


@pytest.mark.parametrize('forward', [UP, 0.0])
def test_overview_and_positions_show_which_way_is_ahead(forward: float) -> None:
    """In a frame of its own: KITTI's range is no square around the car, and x is ahead."""
    pc_range = KITTI_RANGE if forward == 0.0 else PC_RANGE
    view = View.of(pc_range, forward)
    positions = Positions(np.array([[3.0, 3.0]]), np.array([1.0]), np.array([0]))
    dots = draw_positions(np.zeros((4, 8, 8)), positions, pc_range, NOTHING, 'title', 200, forward)
    overview = draw_overview(rig(), CLASSES, None, NOTHING, NOTHING, view, width=700)
    for figure, ax in ((dots, dots.axes[0]), (overview, overview.axes[-1])):
        nose = max(ax.patches[-1].get_xy(), key=lambda at: at @ (np.cos(forward), np.sin(forward)))
        np.testing.assert_allclose(nose, 1.7 * np.array([np.cos(forward), np.sin(forward)]), atol=1e-9)
        width, height = figure.get_size_inches() * ax.get_position().size
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        assert height / width == pytest.approx((y1 - y0) / (x1 - x0), rel=1e-3)
    assert overview.axes[-1].get_xlim() == (view.limits[0], view.limits[2])


def test_no_positions_are_a_picture_too(tmp_path: Path) -> None:
    positions = Positions(np.zeros((0, 2)), np.zeros(0), np.zeros(0, int))
    figure = draw_positions(np.random.rand(4, 8, 8), positions, PC_RANGE, NOTHING, 'title', size=300)
    assert save_figure(figure, tmp_path / 'positions.png').exists()


def test_equal_features_have_equal_colours_and_the_teacher_spans_them() -> None:
    teacher = (
        np.random.default_rng(0).normal(size=(2, 5, 20, 20)) * np.array([9, 4, 2, 0.1, 0.1])[:, None, None]
    )
    colours = PrincipalColours(teacher)
    assert colours.explained > 0.99
    np.testing.assert_array_equal(colours(teacher)[:1], colours(teacher[:1]))
    assert colours(teacher).min() == 0
    assert colours(teacher).max() == 1
    np.testing.assert_allclose(
        colours(teacher * 0 + teacher.mean((0, 2, 3), keepdims=True)).std((1, 2)), 0, atol=1e-9
    )


@pytest.mark.parametrize('channels', [1, 2])
def test_colours_of_a_narrow_or_constant_feature(channels: int) -> None:
    picture = PrincipalColours(np.ones((1, channels, 3, 3)))(np.ones((1, channels, 3, 3)))
    assert picture.shape == (1, 3, 3, 3)
    assert np.isfinite(picture).all()


def test_comparisons_have_a_column_or_row_for_each_feature() -> None:
    rng = np.random.default_rng(0)
    bev = {key: rng.normal(size=(1, 4, 10, 10)) for key in ('teacher', 'student', 'generated')}
    region = np.zeros((1, 10, 10))
    region[0, 8, 2] = 1
    shown = draw_bev_comparison(
        Comparison('term', BEV, region=region, **bev), PC_RANGE, boxes(0, 20), side=100
    )
    assert [ax.get_title('left').split(' ')[0] for ax in shown.axes[:3]] == [
        'teacher',
        'student',
        'generated',
    ]
    assert len(shown.axes) == 3 + 3 + 1  # the colour bar
    views = {key: rng.normal(size=(6, 4, 4, 8)) for key in ('teacher', 'student')}
    shown = draw_camera_comparison(
        Comparison('term', CAMERAS, **views), [(1.0, 0.75)] * 6, NUSCENES, width=80
    )
    assert len(shown.axes) == 3 * 6 + 1
    assert shown.axes[0].get_ylim() == (3.0, 0.0)


@pytest.mark.parametrize(('column', 'value'), [(0, 1e30), (3, 1e12), (5, 1e300)])
def test_absurd_boxes_are_clipped_at_the_window(tmp_path: Path, column: int, value: float) -> None:
    absurd = np.tile([2.0, 15, 0, 4.5, 2, 1.6, 0, 0, 0], (2, 1))
    absurd[0, column] = value
    found = BoxSet(absurd, np.zeros(2, dtype=int))
    figure = draw_overview(rig(), CLASSES, None, found, found, width=500)
    assert figure.axes[-1].get_xlim() == (-51.2, 51.2)
    height, width = cv2.imread(str(save_figure(figure, tmp_path / 'o.png'))).shape[:2]
    assert width == 500
    assert height < 300
    assert len(pixels_of(tmp_path / 'o.png', class_colour('car'))) > 5


def test_scores_are_written_at_the_boxes() -> None:
    found = BoxSet(boxes(0, 15).boxes, np.array([0]), np.array([0.57]))
    figure = draw_overview(rig(), CLASSES, None, found, boxes(0, 15), width=700, scores=True)
    assert [text.get_text() for ax in figure.axes for text in ax.texts].count('57') == 1


KITTI_RANGE = [0, -16, -3, 32, 16, 1]


def test_view_of_a_lidar_detector_is_its_range_with_the_ego_car(tmp_path: Path) -> None:
    view = View.of(KITTI_RANGE, forward=0.0)
    assert view.limits == (-3.0, -16, 32, 16)
    path = save_figure(draw_bev(CLASSES, None, boxes(20, 10), view=view, size=700), tmp_path / 'bev.png')
    height, width = cv2.imread(str(path)).shape[:2]
    assert width == 700
    scene = (width - 12) * 32 / 35
    found = pixels_of(path, class_colour('car'))
    place = found[found[:, 1] < 0.9].mean(axis=0) * (width, height)  # below is the legend
    assert abs(place[0] - (6 + (20 + 3) / 35 * (width - 12))) < 20  # the heading pulls the mean a little
    assert abs(place[1] - (6 + (16 - 10) / 32 * scene)) < 5


def test_important_voxels_are_coloured_where_they_are(tmp_path: Path) -> None:
    centres = np.array([[10.0, 8.0], [30.0, -10.0]])
    importance = Importance('t', centres, np.array([0.2, 1.8]), centres[:, None], (2.0, 2.0), 7)
    figure = draw_importance(importance, None, NOTHING, View.of(KITTI_RANGE, 0.0), width=700)
    picture = cv2.imread(str(save_figure(figure, tmp_path / 'voxels.png'))).astype(int)
    blue, green, red = picture[:, :660].transpose(2, 0, 1)
    rows, columns = np.nonzero((red > 180) & (green > 180) & (blue < 90))  # the heavy one is yellow
    assert abs(columns.mean() / 700 - 33 / 35) < 0.02
    assert abs((rows.mean() - 28) / (700 * 32 / 35) - 26 / 32) < 0.02


def test_heatmaps_and_weights_stand_side_by_side(tmp_path: Path) -> None:
    teacher, student, weight = np.zeros((8, 8)), np.zeros((4, 4)), np.zeros((8, 8))
    teacher[7, 0], student[0, 3], weight[0, 0] = 1.0, 1.0, 1.0
    pivots = Pivots('t', teacher, student, weight, KITTI_RANGE, KITTI_RANGE)
    figure = draw_pivots(pivots, NOTHING, forward=0.0, width=160)
    picture = cv2.imread(str(save_figure(figure, tmp_path / 'maps.png')))
    bright = picture[32:184].min(axis=2) > 120
    corners = [bright[:20, 8:24], bright[-25:, 300:335], bright[-20:, 340:356]]
    assert all(corner.mean() > 0.6 for corner in corners)
    assert bright[:, :500].mean() < 0.12


def test_both_stages_are_drawn_side_by_side(tmp_path: Path) -> None:
    """A car of the first stage behind the LiDAR, moved ahead of it by the second."""
    first, second = boxes(0, -30), boxes(0, 30)
    nobody = second.select(np.zeros(1, bool))
    figure = draw_proposals(CLASSES, None, first, second, nobody, View.of(PC_RANGE), size=300)
    x, y = pixels_of(save_figure(figure, tmp_path / 'proposals.png'), class_colour('car')).T
    drawn = y < 0.9  # the legend lies below
    assert y[drawn & (x < 0.5)].min() > 0.6
    assert y[drawn & (x > 0.5)].max() < 0.4
