"""FD3D's distillation head on a shrunken BEVFormer: what it reads, and what it may not train."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmdet.models import DETECTORS

from projects.mmdet3d_plugin.box_codec import decode_boxes
from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.losses.focal_positions import COMPARE
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import QueryReading, Step
from projects.mmdet3d_plugin.engine.export import export_student
from tests.distill.bevformer_pair import build_pair, paired_batch, student_config
from tests.factories import PC_RANGE, frame_batch

TERMS = [
    dict(
        type='MaskedGeneration', name='pv_gen', on='pv', region=dict(type='PVArea', source='both'), weight=0.5
    ),
    dict(
        type='MaskedGeneration',
        name='bev_gen',
        on='bev',
        connector='deconv',
        region=dict(type='BEVFootprint', source='both', min_score=0.0, top_k=5),
    ),
    dict(type='FocalPositions', name='bev_focal', on='bev', generated_by='bev_gen', min_score=0.0, top_k=9),
]
Build = Callable[..., Distiller]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A function that builds the pair with FD3D's terms."""
    return partial(build_pair, tmp_path, terms=TERMS)


def observe(distiller: Distiller, batch: dict) -> Step:
    """The step of a batch as far as the head needs it."""
    records, predictions, _ = distiller.teacher.observe(batch, distiller.taps('teacher'), torch.device('cpu'))
    return Step(batch, {}, records, predictions)


def test_frozen_head_reads_the_teachers_own_predictions(build: Build) -> None:
    distiller = build(head=dict(init='teacher'))
    step = observe(distiller, paired_batch([0, 1]))
    found, losses = distiller.distill['head'](step)
    assert losses == {}
    assert found.boxes.shape == (2, 2, 20, 7)
    looks = found.sampling(None)
    assert looks.locations.shape == (2, 2, 20, 4, 1, 4, 2)
    torch.testing.assert_close(found.scores, step.predictions['all_cls_scores'].sigmoid())
    boxes = decode_boxes(step.predictions['all_bbox_preds'], 'legacy')
    torch.testing.assert_close(found.boxes, boxes[..., :7])
    torch.testing.assert_close(looks.weights.sum(-1), torch.ones(2, 2, 20, 4, 1))


def test_positions_are_those_that_the_attention_samples(build: Build) -> None:
    """Sampling the projected BEV there and summing by weight gives what the layer's attention returns."""
    distiller = build(head=dict(init='teacher'))
    decoder = distiller.teacher.model.pts_bbox_head.transformer.decoder
    seen = []
    attention = decoder.layers[1].attentions[1]
    handle = attention.output_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    step = observe(distiller, paired_batch([0, 1]))
    handle.remove()
    found, _ = distiller.distill['head'](step)
    looks = found.sampling(None)
    value = F.linear(step.predictions['bev_embed'], looks.projections[1], attention.value_proj.bias)
    value = value.transpose(1, 2).reshape(2 * 4, 8, 20, 24)
    where = looks.locations[1, :, :, :, 0].permute(0, 2, 1, 3, 4).flatten(0, 1)
    sampled = F.grid_sample(value, where * 2 - 1, align_corners=False)
    weights = looks.weights[1, :, :, :, 0].permute(0, 2, 1, 3).flatten(0, 1)[:, None]
    out = (sampled * weights).sum(-1).view(2, 32, 20).transpose(1, 2)
    torch.testing.assert_close(seen[0], out, rtol=1e-4, atol=1e-5)


def test_matches_are_the_assigners(build: Build) -> None:
    distiller, batch = build(head=dict(init='teacher')), paired_batch([0, 1])
    found, _ = distiller.distill['head'](observe(distiller, batch))
    pairs = found.match(batch['gt_bboxes_3d'], batch['gt_labels_3d'])
    assert [len(query) for query, _ in pairs] == [len(labels) for labels in batch['gt_labels_3d']]
    assert all(len(set(query.tolist())) == len(query) for query, _ in pairs)


def test_frozen_head_has_no_weights_to_save_or_train(build: Build) -> None:
    distiller = build(head=dict(init='teacher'))
    assert not list(distiller.distill['head'].parameters())
    assert not any('head.' in name for name in distiller.state_dict() if name.startswith('distill.'))


def test_scratch_head_is_trained_by_detection_alone(build: Build) -> None:
    distiller = build(head=dict(init='scratch', weight=0.5)).train()
    losses = distiller(**paired_batch([0, 1]))
    mine = {key: value for key, value in losses.items() if key.startswith('loss_head_')}
    assert set(mine) == {'loss_head_cls', 'loss_head_bbox', 'loss_head_d0_cls', 'loss_head_d0_bbox'}
    head = [p for p in distiller.distill['head'].parameters() if p.requires_grad]
    kd = sum(value for key, value in losses.items() if key.startswith('loss_kd_'))
    assert not any(g is not None for g in torch.autograd.grad(kd, head, retain_graph=True, allow_unused=True))
    sum(mine.values()).backward()
    assert all(p.grad is not None for p in head)
    assert all(p.grad is None for p in distiller.student.parameters())
    assert all(p.grad is None for p in distiller.teacher.model.parameters())


def test_scratch_head_starts_new_and_has_no_encoder(build: Build) -> None:
    distiller = build(head=dict(init='scratch'))
    own = distiller.distill['head'].decoder.state_dict()
    theirs = distiller.teacher.model.pts_bbox_head.state_dict()
    assert not any('encoder' in name or 'bev_embedding' in name for name in own)
    same = [name for name, value in own.items() if value.dim() > 1 and torch.equal(value, theirs[name])]
    assert not [name for name in same if 'sampling_offsets' not in name and 'attention_weights' not in name]


@pytest.mark.parametrize('compare', COMPARE)
def test_only_student_connector_and_generator_can_lower_the_focal_loss(build: Build, compare: str) -> None:
    """The cheat that a shared, trainable value projection would allow: here there is nothing else to train."""
    terms = [*TERMS[:2], {**TERMS[2], 'compare': compare}]
    distiller = build(head=dict(init='scratch'), terms=terms).train()
    losses = distiller(**paired_batch([0, 1]))
    losses['loss_kd_bev_focal'].backward()
    taught = {name for name, p in distiller.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught
    allowed = ('student.', 'distill.bev_gen.connector.', 'distill.bev_gen.loss.generator.')
    assert all(name.startswith(allowed) for name in taught)
    assert not any(
        name.startswith('student.') and ('decoder' in name or 'branches' in name) for name in taught
    )


def test_no_gradient_reaches_the_reading(build: Build) -> None:
    distiller = build(head=dict(init='scratch')).train()
    found, _ = distiller.distill['head'](observe(distiller, paired_batch([0])))
    assert isinstance(found, QueryReading)
    looks = found.sampling(None)
    assert not any(t.requires_grad for t in (found.boxes, found.scores, *vars(looks).values()))


def test_scratch_head_survives_resume(build: Build) -> None:
    distiller = build(head=dict(init='scratch'))
    state = distiller.state_dict()
    assert any(name.startswith('distill.head.decoder.') for name in state)
    assert any(name.startswith('distill.bev_gen.loss.generator.') for name in state)
    other = build(head=dict(init='scratch'))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in state.items())


def test_exported_student_predicts_the_same(build: Build, tmp_path: Path) -> None:
    distiller = build(head=dict(init='scratch')).eval()
    torch.save({'state_dict': distiller.state_dict(), 'meta': {}}, tmp_path / 'distilled.pth')
    export_student(tmp_path / 'distilled.pth', tmp_path / 'student.pth')
    state = read_checkpoint(tmp_path / 'student.pth')['state_dict']
    assert not any(name.startswith('distill.') for name in state)
    torch.manual_seed(9)
    student = DETECTORS.build(student_config()).eval()
    student.load_state_dict(state, strict=True)
    batch = frame_batch([0, 1], queue=2, pc_range=PC_RANGE)
    for one, other in zip(
        student.forward_test(**batch), distiller.student.forward_test(**batch), strict=True
    ):
        assert torch.equal(one['boxes_3d'].tensor, other['boxes_3d'].tensor)
        assert torch.equal(one['scores_3d'], other['scores_3d'])


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (dict(init='copy'), 'init must be one of'),
        (dict(start='teacher'), "takes no 'start'"),
        (None, r"head=dict\(init='teacher'\)"),
    ],
)
def test_mistakes_are_clear(build: Build, head: dict | None, message: str) -> None:
    with pytest.raises((DistillError, ValueError), match=message):
        build(head=head)


def test_focal_term_must_come_after_what_it_compares(build: Build) -> None:
    with pytest.raises(DistillError, match=r"compares what 'bev_gen' generates.*known: none"):
        build(head=dict(init='teacher'), terms=TERMS[2:])
    with pytest.raises(DistillError, match='cannot name a term'):
        build(terms=[{**TERMS[0], 'name': 'head'}])
