"""Patches that make mmcv-full 1.7 and mmdet3d 1.0.0rc6 work on torch 2.11; each names its reason."""

import functools
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch  # importing this package is quick: torch comes when it is used


def hush() -> None:
    """Silence warnings of mmcv and mmdet3d that nobody here can heed; the package calls it before anything else."""
    # mmcv announces at every import that version 2 will appear in 2023; we know, and pin 1.7.2.
    warnings.filterwarnings('ignore', message='On January 1, 2023, MMCV will release', category=UserWarning)
    # Every anchor head says that two of its arguments will go, and both it and the box coders use torch as one did.
    warnings.filterwarnings('ignore', message='dir_offset and dir_limit_offset', category=UserWarning)
    warnings.filterwarnings('ignore', message='torch.meshgrid', category=UserWarning)
    warnings.filterwarnings('ignore', message='To copy construct', module='mmdet3d', category=UserWarning)
    # spconv asks torch in every process whether it is being traced, in a way that torch calls imprecise.
    logging.getLogger('torch.fx._symbolic_trace').setLevel(logging.ERROR)
    # mmcv imports torch's builder of extensions, which warns on every machine without a GPU; we build none.
    logging.getLogger('torch.utils.cpp_extension').setLevel(logging.ERROR)


def apply() -> None:
    """Make mmdet3d importable and mmcv's runner usable. Safe to call any number of times."""
    watch_imports()
    import mmdet3d  # noqa: F401

    _mend_frameworks()  # where mmdet3d had been imported before this package


def watch_imports() -> None:
    """Let ``import mmdet3d``, whoever says it and whenever, find what it needs; the package calls it."""
    if not any(isinstance(finder, _MendedImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MendedImport())


class _MendedImport(MetaPathFinder):
    """Finds mmdet3d where it is, and loads it between our mends."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks; only the package mmdet3d itself is ours."""
        if fullname != 'mmdet3d':
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _MendedLoader(spec.loader)
        return spec


class _MendedLoader(Loader):
    """Executes mmdet3d as its own loader would."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does it."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Mend what mmdet3d looks at while it is imported, then what it and mmcv do wrong."""
        _add_numpy_aliases()
        with _sparse_convolution(), _older_mmcv():
            self.loader.exec_module(module)
        _mend_frameworks()


@functools.cache
def _mend_frameworks() -> None:
    """What mmcv, mmdet and torch need once they are imported."""
    _trust_numpy_numbers()
    _checkpoint_without_reentry()
    _mend_copy_streams()
    _mend_distributed_wrapper()
    from mmcv.utils import get_logger

    # init_weights reports every single parameter at INFO, pages per model, to the first of mmcv's loggers
    get_logger('mmcv', log_level=logging.WARNING)


def cache_compiled_loops() -> None:
    """mmdet3d compiles the loops of its augmentation anew in every process, which takes a minute; numba can keep them.

    Those of a centre head's suppression too, which the first frame of every test waits seconds for.
    """
    from mmdet3d.core.bbox import box_np_ops
    from mmdet3d.core.post_processing import box3d_nms
    from mmdet3d.datasets.pipelines import data_augment_utils
    from numba.core.dispatcher import Dispatcher

    for module in (box_np_ops, data_augment_utils, box3d_nms):
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                function.enable_caching()


def take_plain_strides() -> None:
    """mmdet3d's SECOND FPN gives convolutions strides that numpy has rounded, which torch.compile cannot follow."""
    from mmdet3d.models.necks import SECONDFPN
    from torch import nn

    made = SECONDFPN.__init__

    @functools.wraps(made)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.kernel_size, module.stride = (
                    tuple(map(int, sizes)) for sizes in (module.kernel_size, module.stride)
                )

    SECONDFPN.__init__ = init


def keep_loops_out_of_graphs() -> None:
    """torch.compile follows a centre head's suppression into numba's own compiler, and fails within it."""
    import torch
    from mmdet3d.models.dense_heads import centerpoint_head

    centerpoint_head.circle_nms = torch.compiler.disable(centerpoint_head.circle_nms)


def _add_numpy_aliases() -> None:
    """mmdet3d 1.0.0rc6 uses ``np.bool``, ``np.int`` and ``np.long``, removed in numpy 1.24."""
    import numpy as np

    for name, kind in (('bool', bool), ('int', int), ('long', int), ('float', float), ('object', object)):
        if name not in np.__dict__:
            setattr(np, name, kind)


@contextmanager
def _older_mmcv() -> Iterator[None]:
    """mmdet3d asserts mmcv <= 1.7.0 at import, but mmcv-full 1.7.0 cannot be compiled for torch 2."""
    import mmcv

    real = mmcv.__version__
    mmcv.__version__ = '1.7.0'
    try:
        yield
    finally:
        mmcv.__version__ = real


@contextmanager
def _sparse_convolution() -> Iterator[None]:
    """Decide, before mmdet3d is imported, whether it computes sparse convolutions with spconv or with mmcv.

    mmdet3d takes spconv wherever it can be imported. PyPI's ``spconv`` has no CUDA kernels, mmcv-full's own
    sparse convolution has nothing else: each is right on one kind of machine.
    """
    if importlib.util.find_spec('spconv') is None:
        yield
        return
    import spconv.pytorch as sparse
    import torch
    from spconv.cppconstants import CPU_ONLY_BUILD

    sparse.core.scatter_nd = _scatter_nd
    if CPU_ONLY_BUILD and torch.cuda.is_available():
        hidden = {name: sys.modules[name] for name in ('spconv', 'spconv.pytorch')}
        sys.modules.update(dict.fromkeys(hidden))  # None makes an import fail
        try:
            yield
        finally:
            sys.modules.update(hidden)
        return
    if CPU_ONLY_BUILD:
        # The backward pass asks torch for a CUDA stream even where nothing runs on one.
        sparse.ops.get_current_stream = lambda: 0
        operators = sparse.ops.SpconvOps
        operators.scatter_add_cpu = staticmethod(_on_one_thread(operators.scatter_add_cpu))
    yield


def _on_one_thread(scatter_add: Callable[..., None]) -> Callable[..., None]:
    """spconv's sum of products, which on several threads writes to wherever any of them has come to and loses terms.

    Its threads share the two pointers of the loop (``GatherCPU.scatter_add`` of spconv 2.3.8).
    """
    import torch

    @functools.wraps(scatter_add)
    def alone(*tensors: Any) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            scatter_add(*tensors)
        finally:
            torch.set_num_threads(threads)

    return alone


def _scatter_nd(indices: 'torch.Tensor', updates: 'torch.Tensor', shape: list[int]) -> 'torch.Tensor':
    """spconv indexes with a list of tensors, which torch has announced to understand in another way.

    Args:
        indices: (N, D) cells.
        updates: (N, C) their values.
        shape: D sizes, then C.

    Returns:
        (*shape), zero elsewhere.
    """
    dense = updates.new_zeros(shape)
    dense[tuple(indices.long().unbind(-1))] = updates
    return dense


def _trust_numpy_numbers() -> None:
    """mmcv's evaluation hooks store best scores as ``np.float64``, which ``weights_only=True`` refuses.

    Only plain numbers and arrays are added: they cannot run code when they are unpickled.
    """
    import numpy as np
    import torch

    makers = {'scalar': np.float64(0).__reduce__()[0], '_reconstruct': np.zeros(0).__reduce__()[0]}
    # Files name them by where they lived: numpy.core until numpy 1.26, numpy._core since 2.0.
    named = [
        (f, f'numpy.{core}.multiarray.{name}') for name, f in makers.items() for core in ('core', '_core')
    ]
    kinds = (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint32, np.bool_)
    dtypes = {type(np.dtype(kind)) for kind in kinds}
    torch.serialization.add_safe_globals([*named, np.dtype, np.ndarray, *dtypes])


def _checkpoint_without_reentry() -> None:
    """mmdet's ``with_cp=True`` relies on a default that torch has announced to drop.

    The old re-entrant form marks a parameter ready twice under ``find_unused_parameters=True`` and gives no
    gradient when its input needs none; the other form does neither.
    """
    import torch.utils.checkpoint as module

    original = module.checkpoint

    @functools.wraps(original)
    def checkpoint(function: Any, *args: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:
        return original(function, *args, use_reentrant=bool(use_reentrant), **kwargs)

    module.checkpoint = checkpoint


def _mend_copy_streams() -> None:
    """mmcv asks torch for a copy stream by device number; torch >= 2.1 wants a ``torch.device``."""
    import torch
    from mmcv.parallel import _functions

    original = _functions._get_stream

    def get_stream(device: 'int | torch.device') -> Any:
        return original(torch.device('cuda', device) if isinstance(device, int) else device)

    _functions._get_stream = get_stream


def _mend_distributed_wrapper() -> None:
    """mmcv's ``MMDistributedDataParallel`` was written against torch 1.x internals.

    Its ``forward`` reads ``_use_replicated_tensor_module`` (gone: every distributed evaluation fails) and on
    CPU neither ``forward`` nor ``train_step`` unwraps ``DataContainer``. All three calls now go through
    torch's own ``forward``, because only that arms the all-reduce of gradients: calling
    ``module.train_step`` alone leaves every process with its own gradients, without any error.
    """
    from mmcv.parallel import MMDistributedDataParallel as Wrapper
    from torch.nn.parallel import DistributedDataParallel

    def forward(self: Wrapper, *inputs: Any, **kwargs: Any) -> Any:
        return _call_distributed(self, 'forward', inputs, kwargs)

    def train_step(self: Wrapper, *inputs: Any, **kwargs: Any) -> Any:
        return _call_distributed(self, 'train_step', inputs, kwargs)

    def val_step(self: Wrapper, *inputs: Any, **kwargs: Any) -> Any:
        return _call_distributed(self, 'val_step', inputs, kwargs)

    def run_ddp_forward(self: Wrapper, *inputs: Any, **kwargs: Any) -> Any:
        inputs, kwargs = self.scatter(inputs, kwargs, self.device_ids or [-1])
        # mmcv calls modules, not ``module.forward``, so that forward hooks (taps) fire.
        method = self.module if self._method == 'forward' else getattr(self.module, self._method)
        with self._inside_ddp_forward():
            return method(*inputs[0], **kwargs[0])

    def _call_distributed(self: Wrapper, method: str, inputs: tuple, kwargs: dict) -> Any:
        self._method = method
        return DistributedDataParallel.forward(self, *inputs, **kwargs)

    Wrapper.forward, Wrapper.train_step, Wrapper.val_step = forward, train_step, val_step
    Wrapper._run_ddp_forward = run_ddp_forward
