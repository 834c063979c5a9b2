"""The whole step on a shrunken BEVFormer: history, two views, taps, gradients, head inheritance."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.bev_query_host import unflatten_bev
from projects.mmdet3d_plugin.distill.hosts.bevformer import BEVFormerAdapter
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Recorder
from tests.distill.bevformer_pair import build_pair, paired_batch, student_config
from tests.factories import PC_RANGE, frame_batch

Build = Callable[..., Distiller]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A function that builds the pair; keyword arguments change the ``distiller`` part."""
    return partial(build_pair, tmp_path)


def test_full_step_teaches_backbone_neck_and_encoder(build: Build) -> None:
    distiller = build(debug=True).train()
    out = distiller.train_step(paired_batch([0, 1], queue=3), None)
    assert {'loss_kd_pv_cwd_0', 'loss_kd_pv_cwd_1', 'loss_kd_bev_l2'} <= set(out['log_vars'])
    assert all(np.isfinite(value) and value > 0 for key, value in out['log_vars'].items() if 'kd' in key)
    out['loss'].backward()
    silent = [name for name, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


@pytest.mark.parametrize(
    ('term', 'reached'), [('pv', 'img_neck'), ('bev', 'pts_bbox_head.transformer.encoder')]
)
def test_each_term_alone_reaches_what_it_should(build: Build, term: str, reached: str) -> None:
    distiller = build().train()
    losses = distiller(**paired_batch([0]))
    sum(value for key, value in losses.items() if key.startswith(f'loss_kd_{term}')).backward()
    taught = {name for name, p in distiller.student.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith(reached) for name in taught)
    assert any(name.startswith('img_backbone') for name in taught)
    assert not any('decoder' in name or 'branches' in name for name in taught)


def test_teacher_has_no_grid_mask_and_no_dropout(build: Build) -> None:
    distiller, batch = build().train(), paired_batch([0], queue=3)
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in distiller.teacher.model.modules())
    assert distiller.teacher.model.grid_mask is not None
    taps, device = distiller.taps('teacher'), torch.device('cpu')
    first = distiller.teacher.observe(batch, taps, device).features
    for _ in range(3):
        distiller(**batch)
        again = distiller.teacher.observe(batch, taps, device).features
        assert all(torch.equal(first[path], again[path]) for path in first)
    assert distiller.student.training
    assert distiller.student.grid_mask.training


def test_teacher_sees_its_own_view_and_history(build: Build) -> None:
    distiller, batch = build().eval(), paired_batch([0], queue=3)
    knowledge, outs, _ = distiller.teacher.observe(batch, distiller.taps('teacher'), torch.device('cpu'))
    with torch.no_grad():
        expected = distiller.teacher.model.predict_raw(batch['teacher_img'], batch['teacher_img_metas'])
    torch.testing.assert_close(outs['bev_embed'], expected['bev_embed'])
    torch.testing.assert_close(knowledge['pts_bbox_head.transformer.encoder'], expected['bev_embed'])
    assert knowledge['img_neck.fpn_convs.0.conv'].shape == (6, 32, 8, 12)


def test_students_own_losses_are_those_without_a_teacher(build: Build) -> None:
    distiller, batch = build().eval(), paired_batch([0, 1])
    losses = distiller(**batch)
    alone = distiller.student(
        return_loss=True, **{k: v for k, v in batch.items() if not k.startswith('teacher')}
    )
    assert alone.keys() == {key for key in losses if 'kd' not in key}
    for key, value in alone.items():
        torch.testing.assert_close(losses[key], value)


def test_batch_of_two_equals_two_singles(build: Build) -> None:
    distiller, batch = build().eval(), paired_batch([0, 1])
    both = distiller(**batch)
    singles = [distiller(**{key: value[i : i + 1] for key, value in batch.items()}) for i in range(2)]
    for key in (key for key in both if 'kd' in key):
        assert both[key].item() == pytest.approx(sum(s[key].item() for s in singles) / 2, rel=1e-3), key


def test_generation_inside_boxes_on_both_sides(build: Build) -> None:
    """The generative terms of FD3D with ground-truth areas, on image features and on the BEV map."""
    terms = [
        dict(type='MaskedGeneration', name='pv_generative', on='pv', region='PVArea', weight=1.0),
        dict(
            type='MaskedGeneration',
            name='bev_generative',
            on='bev',
            connector='deconv',
            region='BEVFootprint',
        ),
    ]
    distiller, batch = build(terms=terms, debug=True).train(), paired_batch([0, 1])
    losses = distiller(**batch)
    kd = {key: value for key, value in losses.items() if 'kd' in key}
    assert set(kd) == {'loss_kd_pv_generative_0', 'loss_kd_pv_generative_1', 'loss_kd_bev_generative'}
    assert all(value > 0 for value in kd.values())
    sum(kd.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in distiller.distill.parameters())
    assert 'distill.bev_generative.loss.generator.0.weight' in distiller.state_dict()
    empty = {**batch, 'gt_bboxes_3d': [boxes[:0] for boxes in batch['gt_bboxes_3d']]}
    empty['gt_labels_3d'] = [labels[:0] for labels in batch['gt_labels_3d']]
    losses = distiller(**empty)
    assert all(losses[key].item() == 0.0 and losses[key].requires_grad for key in kd)


def test_short_names_read_the_documented_shapes(build: Build) -> None:
    student, adapter = build().student, BEVFormerAdapter()
    taps = adapter.aliases(student)
    batch = adapter.prepare(student, frame_batch([0, 1], queue=2))
    with Recorder(student, [tap for group in taps.values() for tap in group]) as recorder:
        outs = adapter.infer(student, batch)
    record = recorder.pop()
    (heads,) = taps.pop('heads')
    logits = adapter.dense_head(student).logits(heads.convert(record[heads.path]))
    assert torch.equal(logits, outs['all_cls_scores'][-1])
    (boxes,) = taps.pop('boxes')
    assert boxes.convert(record[boxes.path])['codes'].shape == (2, 2, 20, 10)
    shapes = {
        name: [tuple(tap.convert(record[tap.path]).shape) for tap in group] for name, group in taps.items()
    }
    assert shapes['pv'] == [(12, 32, 8, 12), (12, 32, 4, 6)]
    assert shapes['bev'] == [(2, 32, 10, 12)]
    assert shapes['queries'] == [(2, 2, 20, 32)]
    bev = taps['bev'][0].convert(record[taps['bev'][0].path])
    assert torch.equal(bev[:, :, 3, 5], outs['bev_embed'][:, 3 * 12 + 5])
    assert taps['bev'][0].size == (10, 12)


def test_wrong_bev_size_is_clear() -> None:
    with pytest.raises(ValueError, match='10 x 12 cells was expected, the encoder returned 100'):
        unflatten_bev(torch.zeros(1, 100, 4), size=(10, 12))


def test_gradient_checkpointing_of_the_encoder_changes_nothing(build: Build) -> None:
    grads = []
    for with_cp in (False, True):
        cfg = student_config()
        cfg['pts_bbox_head']['transformer']['encoder']['with_cp'] = with_cp
        distiller = build(student=cfg).eval()
        sum(distiller(**paired_batch([0])).values()).backward()
        grads.append(distiller.student.pts_bbox_head.bev_embedding.weight.grad)
    torch.testing.assert_close(grads[0], grads[1])


def test_head_is_inherited_and_the_bev_embedding_resized(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level('INFO', logger='focaldistiller'):
        distiller = build(initialize=[dict(type='InheritHead')])
    student, teacher = distiller.student.state_dict(), distiller.teacher.model.state_dict()
    for name in (
        'query_embedding.weight',
        'cls_branches.1.0.weight',
        'transformer.encoder.layers.1.norms.2.bias',
    ):
        assert torch.equal(student[f'pts_bbox_head.{name}'], teacher[f'pts_bbox_head.{name}']), name
    grid = teacher['pts_bbox_head.bev_embedding.weight'].view(20, 24, 32)
    halved = grid.view(10, 2, 12, 2, 32).mean((1, 3)).view(120, 32)
    torch.testing.assert_close(student['pts_bbox_head.bev_embedding.weight'], halved)
    assert '3 resized (pts_bbox_head.' in caplog.text
    assert not torch.equal(
        student['img_neck.fpn_convs.0.conv.weight'], teacher['img_neck.fpn_convs.0.conv.weight']
    )


def test_boxes_of_two_conventions_cannot_be_mixed(build: Build) -> None:
    cfg = student_config()
    cfg['pts_bbox_head']['box_convention'] = 'v1.0'
    with pytest.raises(DistillError, match=r"student's boxes are 'v1.0', the teacher's 'legacy'"):
        build(student=cfg)


def test_batch_without_the_teachers_view_is_clear(build: Build) -> None:
    with pytest.raises(DistillError, match="the batch has no 'teacher_img'"):
        build()(**frame_batch([0], pc_range=PC_RANGE))


def test_teacher_labels_under_bevformer_run_the_history_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its final boxes are decoded from the predictions that there are; nothing runs again."""
    distiller = build(targets=[dict(type='TeacherLabels', score_thr=0.0)]).train()
    model, seen, counted = distiller.teacher.model, [], []
    history, own = model.history_bev, distiller.adapter.losses
    monkeypatch.setattr(model, 'history_bev', lambda *args: counted.append(1) or history(*args))
    monkeypatch.setattr(
        type(distiller.adapter), 'losses', lambda _, student, batch: seen.append(batch) or own(student, batch)
    )
    batch = paired_batch([0], queue=3)
    distiller(**batch)
    assert len(counted) == 1
    more = len(seen[0]['gt_labels_3d'][0]) - len(batch['gt_labels_3d'][0])
    assert more > 0
    assert seen[0]['gt_bboxes_3d'][0].tensor.shape[1] == 9
