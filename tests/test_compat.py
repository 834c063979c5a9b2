"""Each mend of compat.py, by what fails without it; those of the distributed wrapper are in engine/test_parallel.py."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils.checkpoint as cp

from projects.mmdet3d_plugin import compat

ROOT = Path(__file__).resolve().parents[1]


def test_it_can_be_applied_again() -> None:
    before = cp.checkpoint
    compat.apply()
    assert cp.checkpoint is before


def test_mmdet3d_is_importable_and_mmcv_keeps_its_version() -> None:
    import mmcv
    import mmdet3d

    assert mmcv.__version__ == '1.7.2'
    assert mmdet3d.__version__ == '1.0.0rc6'


PLAIN = """
import sys
import projects.mmdet3d_plugin
print('torch' in sys.modules)
import mmdet3d, mmcv
from mmdet.models import build_backbone
build_backbone(dict(type='ResNet', depth=18)).init_weights()
print(mmdet3d.__version__, mmcv.__version__)
"""


def test_importing_the_plugin_is_quick_makes_mmdet3d_importable_and_initialisation_quiet() -> None:
    done = subprocess.run([sys.executable, '-c', PLAIN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['False', '1.0.0rc6', '1.7.2'], done.stdout[:2000]
    assert done.stderr == ''


def test_numpy_aliases_are_the_builtin_types() -> None:
    assert np.bool in (bool, np.bool_)
    assert np.array([1], dtype=np.long).dtype == np.int64


@pytest.mark.parametrize(
    'value', [np.float64(0.5), np.float32(2), np.int64(3), np.bool_(True), np.arange(3.0)]
)
def test_numpy_numbers_in_a_checkpoint_are_read(tmp_path: Path, value: np.generic) -> None:
    torch.save(dict(best_score=value), tmp_path / 'a.pth')
    np.testing.assert_equal(torch.load(tmp_path / 'a.pth', weights_only=True)['best_score'], value)


def test_checkpointing_gives_gradients_when_its_input_needs_none() -> None:
    layer = torch.nn.Linear(2, 2)
    cp.checkpoint(layer, torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_mmcv_finds_a_copy_stream_by_device_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcv.parallel import _functions

    # Without a GPU torch answers None; without the mend it fails: an int has no attribute "type".
    if not torch.cuda.is_available():
        assert _functions._get_stream(0) is None


def test_spconv_scatters_voxels_without_an_index_that_torch_will_read_anew() -> None:
    cells, values = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    dense = compat._scatter_nd(cells, values, [3, 2, 2])
    assert dense[0, 1].tolist() == [1, 2]
    assert dense[2, 0].tolist() == [3, 4]
    assert dense.sum() == 10


def test_sparse_convolutions_add_up_on_one_thread() -> None:
    """spconv's own sum on several threads shares the pointers of its loop and loses terms, more the less else there is to do."""
    pytest.importorskip('spconv', reason='needs spconv (requirements/runtime.txt): run make setup')
    from spconv.cppconstants import CPU_ONLY_BUILD
    from spconv.pytorch import ops

    threads, seen = torch.get_num_threads(), []

    def fail(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise ValueError('damaged')

    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match='damaged'):
            compat._on_one_thread(fail)()
        assert (seen, torch.get_num_threads()) == ([1], 2)
        if CPU_ONLY_BUILD:
            assert '_on_one_thread' in ops.SpconvOps.scatter_add_cpu.__code__.co_qualname
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(4, (50_000,), generator=generator, dtype=torch.int32)
        # whole numbers, whose sum is exact in any order
        terms = torch.randint(8, (50_000, 16), generator=generator).float()
        sums = torch.zeros(4, 16)
        ops.SpconvOps.scatter_add_cpu(*map(ops.torch_tensor_to_tv, (sums, terms, rows)))
        assert torch.equal(sums, torch.zeros(4, 16).index_add_(0, rows, terms))
    finally:
        torch.set_num_threads(threads)


def test_mmdet3d_takes_spconv_on_a_cpu_and_mmcv_on_a_gpu() -> None:
    spconv = pytest.importorskip('spconv', reason='needs spconv (requirements/runtime.txt): run make setup')
    from mmdet3d.ops.spconv import IS_SPCONV2_AVAILABLE

    assert spconv.__version__ == '2.3.8'
    assert (not torch.cuda.is_available()) == IS_SPCONV2_AVAILABLE


def test_loops_that_numba_compiles_are_kept_for_the_next_process() -> None:
    """Those of augmentation took every process a minute, circle NMS six seconds before the first boxes."""
    from mmdet3d.core.bbox.box_np_ops import box2d_to_corner_jit
    from mmdet3d.core.post_processing import circle_nms

    for function in (box2d_to_corner_jit, circle_nms):
        assert function._cache.cache_path
