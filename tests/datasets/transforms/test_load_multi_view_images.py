from pathlib import Path

import cv2
import numpy as np
import pytest

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
