import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.transforms import load_multi_view_images
from projects.mmdet3d_plugin.datasets.transforms.load_multi_view_images import LoadMultiViewImages


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A 6x4 picture whose blue channel is 7."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((4, 6, 3), (7, 0, 255), np.uint8))
    return tmp_path / 'a.png'


@pytest.mark.parametrize(('to_float32', 'kind'), [(False, np.uint8), (True, np.float32)])
def test_images_are_bgr(picture: Path, to_float32: bool, kind: type) -> None:
    results = LoadMultiViewImages(to_float32)(dict(img_filename=[str(picture)], img_size=[(6, 4)]))
    (image,) = results['images']
    assert image.shape == (4, 6, 3)
    assert image.dtype == kind
    assert image[0, 0].tolist() == [7, 0, 255]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'gone.jpg cannot be read .*check data_root'):
        LoadMultiViewImages()(dict(img_filename=[str(tmp_path / 'gone.jpg')]))


@pytest.mark.parametrize('content', [b'', b'not a picture'])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'bad.jpg').write_bytes(content)
    with pytest.raises(ValueError, match=r'bad.jpg is not a readable picture'):
        LoadMultiViewImages()(dict(img_filename=[str(tmp_path / 'bad.jpg')]))


def test_another_size_than_recorded_is_an_error(picture: Path) -> None:
    with pytest.raises(ValueError, match=r'a.png is 6x4, but the info file says 1600x900'):
        LoadMultiViewImages()(dict(img_filename=[str(picture)], img_size=[(1600, 900)]))
    assert LoadMultiViewImages()(dict(img_filename=[str(picture)], img_size=None))['images']


def test_kept_images_are_decoded_once_as_long_as_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / f'{name}.png') for name in 'abc']
    for value, path in enumerate(paths):
        cv2.imwrite(path, np.full((4, 6, 3), value, np.uint8))
    read, decoded = load_multi_view_images._read, []
    monkeypatch.setattr(
        load_multi_view_images, '_read', lambda path, size: decoded.append(path) or read(path, size)
    )
    load = LoadMultiViewImages(cache_mb=2 * 72e-6)  # two images of 72 bytes

    def values(*names: int) -> list[int]:
        images = load(dict(img_filename=[paths[i] for i in names]))['images']
        assert not any(image.flags.writeable for image in images)
        return [int(image[0, 0, 0]) for image in images]

    assert values(0, 1) == values(0, 1) == [0, 1]
    assert decoded == paths[:2]
    assert values(2, 1, 0) == [2, 1, 0]  # c drives out a, and a then c
    assert decoded == [*paths, paths[0]]
    assert values(2) == [2]
    assert decoded == [*paths, paths[0], paths[2]]
    assert not pickle.loads(pickle.dumps(load))._kept


def test_kept_images_do_not_hide_another_size_and_go_through_float(picture: Path) -> None:
    load = LoadMultiViewImages(to_float32=True, cache_mb=1)
    for _ in range(2):
        (image,) = load(dict(img_filename=[str(picture)], img_size=[(6, 4)]))['images']
        assert image.dtype == np.float32
    with pytest.raises(ValueError, match='1600x900'):
        load(dict(img_filename=[str(picture)], img_size=[(1600, 900)]))
    with pytest.raises(ValueError, match='cache_mb=-1'):
        LoadMultiViewImages(cache_mb=-1)
