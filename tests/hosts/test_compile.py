"""What torch.compile must not stumble over, in toys: whole detectors are compiled by ``tools/benchmark/deploy.py``."""

from typing import Any

import pytest
import torch
from mmdet3d.models.dense_heads import centerpoint_head
from mmdet3d.models.necks import SECONDFPN
from torch import Tensor
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounter

import projects.mmdet3d_plugin.hosts  # noqa: F401  mends mmdet3d
from projects.mmdet3d_plugin.hosts.bevdepth.lift_memory import LiftMemory
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted
from projects.mmdet3d_plugin.hosts.bevformer.bev_memory import BEVMemory

FRAMES = 6
Memory = BEVMemory | LiftMemory


def frames_seen(memory: Memory, metas: list[dict], x: Tensor) -> Tensor:
    """A detector that adds one to what it saw in the frame before, or to nothing."""
    if isinstance(memory, BEVMemory):
        before = memory.recall(metas)[0]
        seen = x if before is None else before + 1
        memory.store(seen, metas)
        return seen
    frames = memory.recall(metas)
    seen = frames[0][0].depth + 1 if frames else x
    memory.store(Lifted(seen, seen), metas)
    return seen


@pytest.mark.parametrize('kind', ['bevformer', 'bevdepth'])
def test_a_new_frame_needs_no_new_graph(kind: str) -> None:
    """Graphs held to the tokens of a frame would be made anew at each, until torch gives up: 1.8 s per frame, not 0.05."""
    torch._dynamo.reset()
    memory = BEVMemory() if kind == 'bevformer' else LiftMemory(1)
    counter = CompileCounter()
    step = torch.compile(frames_seen, backend=counter, dynamic=False)
    made = []
    for frame in range(FRAMES):
        meta = dict(sample_token=str(frame), prev_token=str(frame - 1), prev_bev_exists=frame > 0)
        assert step(memory, [meta], torch.zeros(2)).tolist() == [frame] * 2
        made.append(counter.frame_count)
    assert 0 < made[-1] == made[2]


def test_strides_that_numpy_rounded_are_numbers() -> None:
    """mmdet3d's neck in one graph, which fake tensors could not compute."""
    neck = SECONDFPN(in_channels=[4, 4], out_channels=[4, 4], upsample_strides=[0.5, 1]).eval()
    assert {type(side) for side in neck.deblocks[0][0].stride + neck.deblocks[0][0].kernel_size} == {int}
    maps = [torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)]
    compiled = torch.compile(neck, backend='aot_eager', fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(maps), neck(maps))


def test_numba_compiles_outside_graphs() -> None:
    """A centre head's suppression is left out of graphs: the first frame's call would be followed into numba's compiler."""

    def kept(x: Tensor) -> Any:
        return centerpoint_head.circle_nms((x + 0).numpy(), 1.0, 83)

    with pytest.raises(Unsupported, match=r'torch\.compiler\.disable'):
        torch.compile(kept, backend='eager', fullgraph=True)(torch.zeros(2, 3))
