import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from nuscenes import NuScenes

from projects.mmdet3d_plugin.box_codec import (
    BOX_CONVENTIONS,
    check_heading,
    convert_boxes,
    decode_boxes,
    encode_boxes,
    heading_error,
)
from projects.mmdet3d_plugin.datasets.info_files import load_infos, save_infos
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions

BOX = np.array([[3.0, -7.0, 0.5, 4.6, 1.9, 1.6, 0.4, 5.0, 2.0]])


def random_boxes(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    boxes = rng.normal(size=(n, 9)) * [20, 20, 1, 0, 0, 0, 0, 5, 5]
    boxes[:, 3:6] = rng.uniform(0.3, 9, (n, 3))
    boxes[:, 6] = rng.uniform(-math.pi, math.pi, n)
    return boxes


def test_legacy_swaps_length_and_width_and_turns_the_angle() -> None:
    legacy = convert_boxes(BOX, 'v1.0', 'legacy')
    assert np.allclose(legacy, [[3.0, -7.0, 0.5, 1.9, 4.6, 1.6, -0.4 - math.pi / 2, 5.0, 2.0]])


@pytest.mark.parametrize('kind', [np.asarray, torch.as_tensor])
def test_conversion_is_its_own_inverse_and_leaves_its_input_alone(kind: Callable) -> None:
    boxes = kind(random_boxes(20))
    before = boxes.copy() if isinstance(boxes, np.ndarray) else boxes.clone()
    there = convert_boxes(boxes, 'v1.0', 'legacy')
    back = convert_boxes(there, 'legacy', 'v1.0')
    assert type(back) is type(boxes)
    assert abs(back - before).max() < 1e-12
    assert (boxes == before).all()


def test_codes_of_both_conventions_are_those_of_the_papers() -> None:
    r = -0.4 - math.pi / 2
    legacy = [3, -7, math.log(1.9), math.log(4.6), 0.5, math.log(1.6), math.sin(r), math.cos(r), 5, 2]
    today = [3, -7, math.log(4.6), math.log(1.9), 0.5, math.log(1.6), math.sin(0.4), math.cos(0.4), 5, 2]
    assert np.allclose(encode_boxes(BOX, 'legacy'), [legacy])
    assert np.allclose(encode_boxes(BOX, 'v1.0'), [today])


@pytest.mark.parametrize('convention', BOX_CONVENTIONS)
@pytest.mark.parametrize('kind', [np.asarray, torch.as_tensor])
def test_boxes_survive_encoding_and_decoding(convention: str, kind: Callable) -> None:
    boxes = kind(random_boxes(50))
    codes = encode_boxes(boxes, convention)
    codes[..., 6:8] *= 1.7  # a network's sine and cosine have no unit length
    assert abs(decode_boxes(codes, convention) - boxes).max() < 1e-9


def test_a_published_head_can_be_edited_instead_of_decoded_as_legacy() -> None:
    """Re-ordering the rows of the last layer turns legacy codes into v1.0 codes of the same boxes."""
    boxes = random_boxes(50)
    legacy, today = encode_boxes(boxes, 'legacy'), encode_boxes(boxes, 'v1.0')
    edited = legacy[:, [0, 1, 3, 2, 4, 5, 7, 6, 8, 9]] * [1, 1, 1, 1, 1, 1, -1, -1, 1, 1]
    assert np.allclose(edited, today, atol=1e-12)


def test_heading_tells_the_conventions_apart() -> None:
    boxes = random_boxes(40)
    boxes[:, 6] = np.arctan2(boxes[:, 8], boxes[:, 7]) + 0.02
    legacy = convert_boxes(boxes, 'v1.0', 'legacy')
    assert check_heading(boxes, 'v1.0') == pytest.approx(0.02)
    assert check_heading(torch.as_tensor(legacy), 'legacy') == pytest.approx(0.02)
    with pytest.raises(ValueError, match="probably in the 'legacy' convention"):
        check_heading(legacy, 'v1.0')
    with pytest.raises(ValueError, match=r"probably in the 'v1.0' convention"):
        check_heading(boxes, 'legacy')


def test_heading_says_nothing_when_nothing_moves() -> None:
    boxes = random_boxes(40)
    boxes[:, 7:] = np.nan
    assert math.isnan(heading_error(boxes, 'v1.0'))
    assert math.isnan(check_heading(boxes, 'v1.0'))


def test_unknown_convention_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'v0.17'; choose one of v1.0, legacy"):
        encode_boxes(BOX, 'v0.17')


@pytest.mark.parametrize('head_convention', BOX_CONVENTIONS)
@pytest.mark.parametrize('info_convention', BOX_CONVENTIONS)
def test_box_survives_from_dataset_to_devkit(
    tiny_nuscenes: Path, tmp_path: Path, info_convention: str, head_convention: str
) -> None:
    """Annotation -> info file -> dataset -> target code -> decoded prediction -> the devkit's box."""
    content = load_infos(tiny_nuscenes / 'nuscenes_infos_temporal_train.pkl', 'v1.0')
    for info in content['infos']:
        info['gt_boxes'] = convert_boxes(info['gt_boxes'], 'v1.0', info_convention)
    if info_convention == 'legacy':
        del content['metadata']['box_convention']  # official files carry no marker
    save_infos(content, tmp_path / 'infos_train.pkl')
    dataset = NuScenesTemporalDataset(
        str(tiny_nuscenes),
        str(tmp_path / 'infos_train.pkl'),
        [],
        info_convention=info_convention,
        test_mode=True,
    )
    nusc = NuScenes('v1.0-trainval', str(tiny_nuscenes), verbose=False)
    for index, info in enumerate(dataset.infos):
        truth = dataset.get_ann_info(index)
        target = torch.cat([truth['gt_bboxes_3d'].gravity_center, truth['gt_bboxes_3d'].tensor[:, 3:]], 1)
        decoded = decode_boxes(encode_boxes(target.double(), head_convention), head_convention)
        boxes = LiDARInstance3DBoxes(decoded.float(), box_dim=9, origin=(0.5, 0.5, 0.5))
        labels = torch.as_tensor(truth['gt_labels_3d'])
        result = dict(boxes_3d=boxes, scores_3d=torch.ones(len(labels)), labels_3d=labels)
        got = NuScenesPredictions.from_results([result], [info], dataset.CLASSES).boxes
        tokens = nusc.get('sample', info['token'])['anns'][
            :-1
        ]  # the last object is an animal: no class of ours
        assert len(got) == len(tokens) == 7
        for row, token in enumerate(tokens):
            expected = nusc.get('sample_annotation', token)
            assert np.allclose(got.translation[row], expected['translation'], atol=1e-4)
            assert np.allclose(got.size[row], expected['size'], atol=1e-5)
            assert abs(np.dot(got.rotation[row], expected['rotation'])) > 1 - 1e-9
            assert np.allclose(got.velocity[row], nusc.box_velocity(token)[:2], atol=1e-4)
