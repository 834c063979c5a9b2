import numpy as np

from projects.mmdet3d_plugin.worlds.ground import EXTENT, Ground, texel_transform, to_texels
from projects.mmdet3d_plugin.worlds.scene import Scene


def test_road_is_under_the_ego_vehicle(scene: Scene) -> None:
    path = scene.ego.at(scene.times)[:, :2]
    assert scene.ground.on_road(path).all()
    assert not scene.ground.on_road(np.array([[-1.0, 5.0], [EXTENT + 1, 5.0]])).any()


def test_north_is_up() -> None:
    texels = to_texels(np.array([[10.0, EXTENT], [10.0, 0.0]]))
    assert texels[0, 1] < texels[1, 1]


def test_levels_share_one_geometry(scene: Scene) -> None:
    spot = np.array([73.4, 120.1, 1.0])
    fine, coarse = (texel_transform(level) @ spot for level in (0, 2))
    # Texel (0, 0) of level 2 covers texels 0 to 3 of level 0, whose middle is 1.5.
    np.testing.assert_allclose(fine[:2], coarse[:2] * 4 + 1.5)
    np.testing.assert_allclose(fine[:2], to_texels(spot[None, :2])[0], atol=1)
    assert [level.shape[0] for level in scene.ground.levels] == [2000, 1000, 500, 250]


def test_texture_is_reproducible_and_varies(scene: Scene) -> None:
    first, again, other = (Ground(scene.ego, np.random.default_rng(seed)).levels[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
