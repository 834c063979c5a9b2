from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import build_dataloader, build_dataset
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.engine.build import require_evaluation
from tests.datasets.test_nuscenes_temporal_dataset import TARGETS, VIEW

TRAIN, VAL = (f'nuscenes_infos_temporal_{part}.pkl' for part in ('train', 'val'))


def inner(root: Path, ann_file: Any = TRAIN, **more: Any) -> dict[str, Any]:
    pipeline = [
        dict(type='LoadMultiViewImages'), dict(type='PhotoMetricDistortionMultiView'), *TARGETS, *VIEW,
        dict(type='FormatFrame'),
    ]  # fmt: skip
    base = dict(type='NuScenesTemporalDataset', data_root=str(root), ann_file=ann_file, queue_length=3)
    return base | dict(pipeline=pipeline) | more


def wrapped(root: Path) -> dict[str, Any]:
    one = inner(root)
    return {
        'list of files': inner(root, [TRAIN, VAL]),
        'list': [one, inner(root, VAL)],
        'ConcatDataset': dict(type='ConcatDataset', datasets=[one, inner(root, VAL)]),
        'RepeatDataset': dict(type='RepeatDataset', dataset=one, times=2),
        'repeated and not': [dict(type='RepeatDataset', dataset=one, times=2), inner(root, VAL)],
        'ClassBalancedDataset': dict(type='ClassBalancedDataset', dataset=one, oversample_thr=0.5),
        'CBGSDataset': dict(type='CBGSDataset', dataset=one),
        'CBGS of both': dict(type='CBGSDataset', dataset=inner(root, [TRAIN, VAL])),
    }


@pytest.mark.parametrize('kind', wrapped(Path('x')))
def test_samples_follow_from_their_seed(tiny_nuscenes: Path, kind: str) -> None:
    dataset = build_dataset(wrapped(tiny_nuscenes)[kind])
    assert len(dataset.CLASSES) == 10
    last = len(dataset) - 1
    np.random.seed(0)
    one = dataset[SeededIndex(last, 5)]['img'].data
    np.random.seed(1)
    assert torch.equal(dataset[SeededIndex(last, 5)]['img'].data, one)
    assert not torch.equal(dataset[SeededIndex(last, 6)]['img'].data, one)


def test_an_epoch_of_a_wrapper_is_the_same_again_and_from_the_middle(tiny_nuscenes: Path) -> None:
    def tokens(start: int, noise: int) -> list[Any]:
        np.random.seed(noise)
        dataset = build_dataset(dict(type='CBGSDataset', dataset=inner(tiny_nuscenes, [TRAIN, VAL])))
        loader = build_dataloader(dataset, workers_per_gpu=0, seed=3)
        loader.sampler.set_epoch(2, start)
        return [
            [(m['sample_token'], float(b['img'].data[0].sum())) for m in b['img_metas'].data[0][0]]
            for b in loader
        ]

    whole = tokens(0, 0)
    assert tokens(0, 1) == whole
    assert tokens(len(whole) - 3, 2) == whole[-3:]


def test_joined_datasets_are_evaluated_part_by_part(tiny_nuscenes: Path, tmp_path: Path) -> None:
    dataset = build_dataset(inner(tiny_nuscenes, [TRAIN, VAL], queue_length=1, test_mode=True))
    assert len(dataset) == len(dataset.scene_tokens) == 12
    dataset.check_evaluation()
    assert dataset.get_frame(11)['sample_token'] == 'scene-0003-3'
    results = []
    for part in dataset.datasets:
        for index in range(len(part)):
            truth = part.get_ann_info(index)
            labels = torch.as_tensor(truth['gt_labels_3d'])
            results.append(
                dict(
                    boxes_3d=truth['gt_bboxes_3d'],
                    scores_3d=torch.full((len(labels),), 0.5),
                    labels_3d=labels,
                )
            )
    metrics = dataset.evaluate(results, out_dir=tmp_path)
    assert metrics['1/mAP'] > 0.5
    assert set(dataset.metric_names()) <= set(metrics)
    assert (tmp_path / '0/results_nusc.json').is_file()


def test_joined_datasets_must_agree(tiny_nuscenes: Path) -> None:
    with pytest.raises(ValueError, match='joined datasets differ in their classes'):
        build_dataset([inner(tiny_nuscenes), inner(tiny_nuscenes, classes=['car'])])


def test_classes_that_nothing_is_of_do_not_divide_by_zero(tiny_nuscenes: Path) -> None:
    dataset = build_dataset(dict(type='CBGSDataset', dataset=inner(tiny_nuscenes)))  # no trailer
    assert len(dataset) > 0
    with pytest.raises(ValueError, match='has a box of'):
        build_dataset(dict(type='CBGSDataset', dataset=inner(tiny_nuscenes, classes=['trailer'])))


def test_what_repeats_samples_is_not_evaluated_on(tiny_nuscenes: Path) -> None:
    for kind in ('RepeatDataset', 'CBGSDataset'):
        with pytest.raises(UserError, match='cannot evaluate: name the dataset in it'):
            require_evaluation(build_dataset(wrapped(tiny_nuscenes)[kind]), 'test')
