import numpy as np

from projects.mmdet3d_plugin.worlds.mesh import CORNERS, MeshBuilder


def test_a_box_has_six_outward_faces() -> None:
    mesh = MeshBuilder((4, 2, 1)).part((-0.5, 0.5), (-0.5, 0.5), (0, 1), (1, 2, 3)).build()
    assert mesh.polygons.shape == (6, CORNERS, 3)
    np.testing.assert_allclose(mesh.bounds, [[(-2, -1, 0), (2, 1, 1)]])
    directions = {tuple(np.rint(normal).astype(int)) for normal in mesh.normals}
    assert directions == {(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)}
    np.testing.assert_array_equal(mesh.colours, np.tile([1, 2, 3], (6, 1)))


def test_paint_lies_on_its_face_and_follows_it() -> None:
    builder = MeshBuilder((4, 2, 1)).part((-0.5, 0.5), (-0.5, 0.5), (0, 1), (9, 9, 9))
    mesh = builder.paint('left', (0, 0.25), (0.5, 1), (1, 2, 3)).build()
    index = int(np.flatnonzero(~mesh.solid)[0])
    np.testing.assert_allclose(mesh.polygons[index].min(0), [-2, 1, 0.5])  # u = 0 is the rear
    np.testing.assert_allclose(mesh.polygons[index].max(0), [-1, 1, 1])
    np.testing.assert_allclose(mesh.normals[index], [0, 1, 0], atol=1e-12)
    assert mesh.solid[index - 1]
    assert (mesh.polygons[index - 1][:, 1] == 1).all()


def test_tapered_faces_lean_and_stay_flat() -> None:
    mesh = (
        MeshBuilder((2, 2, 2))
        .part((-0.5, 0.5), (-0.5, 0.5), (0, 1), (0, 0, 0), taper=(0.2, 0.2, 0.2))
        .build()
    )
    offsets = ((mesh.polygons - mesh.polygons[:, :1]) * mesh.normals[:, None]).sum(-1)
    np.testing.assert_allclose(offsets, 0, atol=1e-12)
    assert (mesh.normals[:4, 2] > 0).all()  # the four walls see a bit of the sky


def test_a_wheel_fills_its_bounds_and_is_convex() -> None:
    mesh = MeshBuilder((1, 1, 1)).wheel((-0.5, 0.5), (-0.1, 0.1), (0, 1), (0, 0, 0)).build()
    np.testing.assert_allclose(mesh.polygons.reshape(-1, 3).max(0), mesh.bounds[0, 1])
    np.testing.assert_allclose(mesh.polygons.reshape(-1, 3).min(0), mesh.bounds[0, 0], atol=1e-12)
    inside = (mesh.polygons.reshape(-1, 1, 3) - mesh.polygons[:, 0]) * mesh.normals
    assert inside.sum(-1).max() < 1e-9
