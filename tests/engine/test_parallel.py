"""Two processes compute what one does with the joined batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.checkpoint as cp
from mmcv.parallel import DataContainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import Launch, gather_objects
from projects.mmdet3d_plugin.engine.parallel import unpack_batch, wrap_model
from projects.mmdet3d_plugin.engine.train import TrainOptions, train
from tests.distill.test_second_stage import flat, taught
from tests.engine.processes import run_in_processes
from tests.engine.toy import ONE_PROCESS, ToyDataset, ToyDetector, toy_config
from tests.factories import frame_batch, pint_bevformer
from tests.lidar_factories import lidar_batch, roi_head_config

SIZE = 8
HOST_SEEDS = [3, 4]  # with different numbers of boxes: their normaliser has to be shared too


def trained_state(launch: Launch, folder: str, batch: int, **changes: Any) -> dict[str, torch.Tensor]:
    """Weights after an epoch of plain SGD: with learning rate 1 they are the start minus all gradients."""
    cfg = toy_config(
        Path(folder),
        epochs=1,
        **{
            'model.dropout': 0.0,
            'data.samples_per_gpu': batch,
            'data.train': dict(type='ToyDataset', size=SIZE, jitter=0.0),
            'optimizer': dict(type='SGD', lr=1.0, _delete_=True),
            'optimizer_config': dict(grad_clip=None),
            'lr_config': None,
            **changes,
        },
    )
    runner = train(cfg, TrainOptions(), launch)
    return {name: value.clone() for name, value in runner.model.module.state_dict().items()}


class Checkpointed(nn.Module):
    """A layer under gradient checkpointing, used twice, and one that stays unused: what broke DDP before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3) -> (n, 3)."""
        return self.layer(x)

    def train_step(self, data: dict[str, torch.Tensor], optimizer: Any = None) -> dict[str, Any]:
        """As mmdet's backbones call it: without saying which kind of checkpointing."""
        x = cp.checkpoint(self.layer, cp.checkpoint(self.layer, data['x']))
        return dict(loss=x.square().mean(), log_vars=dict(loss=0.0), num_samples=1)


def everything_distributed(place: Launch, folder: str) -> dict[str, Any]:
    """All that two processes are asked, in one start of them because starting takes longest."""
    found: dict[str, Any] = {'rank': place.rank, 'trained': {}}
    for name, changes in _variants().items():
        found['trained'][name] = trained_state(place, f'{folder}/{name}', batch=2, **changes)
    batch = dict(x=DataContainer(_points()[place.rank :: 2], stack=True))
    model = wrap_model(Checkpointed(), place, find_unused_parameters=True)
    model.train_step(batch, None)['loss'].backward()
    found['checkpointed'] = model.module.layer.weight.grad
    with torch.no_grad():
        found['forward'] = model(**batch)
    found['host'] = host_gradients(place, [HOST_SEEDS[place.rank]])
    found['self-taught'] = self_taught_gradients(place, [HOST_SEEDS[place.rank]])
    found['results'] = _evaluate(place)
    found['objects'] = gather_objects(f'from {place.rank}')
    return found


def host_gradients(place: Launch, seeds: list[int]) -> dict[str, torch.Tensor]:
    """Gradients of a real BEVFormer, with history, on the samples of these seeds."""
    model = wrap_model(pint_bevformer(), place)
    batch = frame_batch(seeds, queue=2)
    for _ in range(2):  # a second pass fails if a parameter got no gradient in the first
        model.zero_grad(set_to_none=True)
        model.train_step(dict(batch, img_metas=DataContainer([batch['img_metas']], cpu_only=True)), None)[
            'loss'
        ].backward()
    return {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}


def self_taught_gradients(place: Launch, seeds: list[int]) -> dict[str, torch.Tensor]:
    """What the terms of a voxel detector that teaches itself send to its weights, on the samples of these seeds.

    Batch norms keep their statistics, which each process would else take from its own samples, and no boxes are shifted by
    chance. One sample has no object: its process has nothing to refine, and all weights must get a gradient all the same.
    """
    model = taught(head=dict(roi_head=roi_head_config(scatter=8, bev=16) | dict(sampler={})), debug=False)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    batch = lidar_batch(seeds)
    for i, seed in enumerate(seeds):
        if seed == HOST_SEEDS[0]:
            batch['gt_bboxes_3d'][i], batch['gt_labels_3d'][i] = (
                batch['gt_bboxes_3d'][i][:0],
                torch.zeros(0).long(),
            )
    wrapped = wrap_model(model, place)
    packed = {key: DataContainer([value], cpu_only=True) for key, value in batch.items()}
    for only in (False, True):
        model.zero_grad(set_to_none=True)
        losses = {name: flat(loss) for name, loss in wrapped(**packed).items()}
        kept = {name: 1.0 if 'kd' in name or not only else 0.0 for name in losses}
        sum(kept[name] * loss for name, loss in losses.items()).backward()
    return {name: weight.grad for name, weight in model.named_parameters()}


def _variants() -> dict[str, dict[str, Any]]:
    return {
        'plain': {},
        'unused': {'model.unused': True, 'find_unused_parameters': True},
        # Three micro-batches of one sample, then a group of one: the last group is shorter.
        'accumulated': {'data.samples_per_gpu': 1, 'optimizer_config.cumulative_iters': 3},
    }


def _points() -> torch.Tensor:
    return torch.arange(12.0).reshape(4, 3) / 12


def _evaluate(place: Launch) -> Any:
    from projects.mmdet3d_plugin.datasets.builder import build_dataloader

    torch.manual_seed(0)
    dataset = ToyDataset(size=11, test_mode=True)
    loader = build_dataloader(dataset, 1, 0, train=False, rank=place.rank, world_size=place.world_size)
    return run_inference(ToyDetector(), loader, place)


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found."""
    folder = tmp_path_factory.mktemp('processes')
    return run_in_processes(everything_distributed, 2, folder, folder=str(folder))


@pytest.mark.parametrize('variant', ['plain', 'unused'])
def test_gradients_equal_those_of_the_joined_batch(
    ranks: list[dict[str, Any]], variant: str, tmp_path: Path
) -> None:
    alone = trained_state(ONE_PROCESS, str(tmp_path), batch=4, **_variants()[variant])
    start = ToyDetector().state_dict().keys()
    for name in start:
        for rank in ranks:
            torch.testing.assert_close(rank['trained'][variant][name], alone[name], rtol=1e-5, atol=1e-6)


def test_gradients_of_the_real_host_equal_those_of_the_joined_batch(ranks: list[dict[str, Any]]) -> None:
    alone = host_gradients(ONE_PROCESS, HOST_SEEDS)
    half = host_gradients(ONE_PROCESS, HOST_SEEDS[:1])
    assert len(alone) > 100
    name = 'pts_bbox_head.transformer.level_embeds'
    assert not torch.allclose(half[name], alone[name], rtol=1e-2)
    for rank in ranks:
        assert rank['host'].keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(rank['host'][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_a_net_that_teaches_itself_learns_the_same_from_its_terms(ranks: list[dict[str, Any]]) -> None:
    """A4, without looking for unused parameters: two processes are one with twice the batch."""
    alone = self_taught_gradients(ONE_PROCESS, HOST_SEEDS)
    half = self_taught_gradients(ONE_PROCESS, HOST_SEEDS[:1])
    name = 'student.bbox_head.conv_cls.weight'
    assert alone[name].any()
    assert not torch.allclose(half[name], alone[name], rtol=1e-2)
    for rank in ranks:
        assert rank['self-taught'].keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(rank['self-taught'][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_processes_really_differ_in_their_samples(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    half = trained_state(ONE_PROCESS, str(tmp_path), batch=2, **{'data.train.size': SIZE // 2})
    name = 'pts_bbox_head.weight'
    assert not torch.allclose(half[name], ranks[0]['trained']['plain'][name], atol=1e-4)


def test_accumulation_over_processes_is_exact(ranks: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = trained_state(
        ONE_PROCESS,
        str(tmp_path),
        batch=2,
        **{'data.samples_per_gpu': 2, 'optimizer_config.cumulative_iters': 3},
    )
    for name, value in alone.items():
        torch.testing.assert_close(ranks[0]['trained']['accumulated'][name], value, rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_lives_with_unused_parameters(ranks: list[dict[str, Any]]) -> None:
    model = Checkpointed()
    model.train_step(dict(x=_points()))['loss'].backward()
    for rank in ranks:
        torch.testing.assert_close(rank['checkpointed'], model.layer.weight.grad)


def test_a_wrapped_model_can_be_called(ranks: list[dict[str, Any]]) -> None:
    for number, rank in enumerate(ranks):
        torch.testing.assert_close(rank['forward'], Checkpointed()(_points()[number::2]).detach())


def test_results_of_processes_come_together_in_order(ranks: list[dict[str, Any]]) -> None:
    alone = _evaluate(ONE_PROCESS)
    assert ranks[1]['results'] is None
    assert [float(r['value']) for r in ranks[0]['results']] == pytest.approx(
        [float(r['value']) for r in alone]
    )
    assert [r['frame'] for r in ranks[0]['results']] == [r['frame'] for r in alone] == [1, 2, 3] * 3 + [1, 2]
    assert ranks[0]['objects'] == ['from 0', 'from 1']
    assert ranks[1]['objects'] is None


def test_batches_are_taken_out_of_their_containers() -> None:
    batch = dict(
        img=DataContainer([torch.ones(2, 3)], stack=True),
        boxes=DataContainer([['a', 'b']], cpu_only=True),
        plain=torch.zeros(2),
    )
    unpacked = unpack_batch(batch, ONE_PROCESS)
    assert torch.equal(unpacked['img'], torch.ones(2, 3))
    assert unpacked['boxes'] == ['a', 'b']
    assert torch.equal(unpacked['plain'], torch.zeros(2))
