"""The CUDA kernels' arithmetic, run on the CPU by an emulator of warps: shapes, shuffles, indices and gradients.

It says nothing about speed, memory ordering or the hardware; where a GPU is present, the tests of
``test_ms_deform_attn`` on CUDA do.
"""

import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import build as ops_build
from projects.mmdet3d_plugin.ops.lift_splat import lift_splat_torch
from tests.ops.test_lift_splat import SIZE, make_case
from tests.ops.test_lift_splat import run as run_splat
from tests.ops.test_ms_deform_attn import CASES, make_door, relative_error, run

HERE = Path(__file__).parent
NAMESPACE = 'focaldistiller_emulated'
pytestmark = pytest.mark.skipif(ops_build.find_compiler() is None, reason='no C++ compiler')


def emulated_sources(folder: Path) -> list[Path]:
    """Copies of the sources in which launches, shared memory and the device are those of the emulator."""
    for name in ('cuda_bf16.h', 'cuda_fp16.h', 'cuda_runtime_api.h'):
        (folder / name).write_text(f'#include "{HERE / "cuda_emulator.h"}"\n')
    (folder / 'c10/cuda').mkdir(parents=True)
    guard = 'namespace c10::cuda { struct CUDAGuard { explicit CUDAGuard(c10::Device) {} };'
    (folder / 'c10/cuda/CUDAGuard.h').write_text(f'#pragma once\n#include <c10/core/Device.h>\n{guard} }}\n')
    stream = 'namespace c10::cuda { inline void* getCurrentCUDAStream() { return nullptr; } }'
    (folder / 'c10/cuda/CUDAStream.h').write_text(f'#pragma once\n{stream}\n')
    csrc = ops_build.SOURCES
    for header in csrc.glob('*.h'):
        (folder / header.name).write_text(header.read_text())
    texts = {}
    for family in ('msda', 'lift_splat'):
        kernels = (csrc / f'{family}_kernels.cu').read_text()
        launch = re.compile(r'(\w+<[^<>]*>)<<<(\w+), (\w+), ([^,]+), stream>>>\(([^)]*)\)')
        assert launch.findall(kernels)
        kernels = launch.sub(r'emulator::launch(\2, \3, \4, [=] { \1(\5); })', kernels)
        texts[f'{family}_kernels.cpp'] = kernels.replace(
            'extern __shared__ uint4 shared[];', 'uint4* shared = emulator::shared_memory.data();'
        )
        host = (csrc / f'{family}_cuda.cpp').read_text().replace('is_cuda()', 'is_cpu()')
        texts[f'{family}_host.cpp'] = host.replace(
            'TORCH_LIBRARY_IMPL(focaldistiller, CUDA', f'TORCH_LIBRARY_IMPL({NAMESPACE}, CPU'
        )
        schemas = (csrc / f'{family}_ops.cpp').read_text()
        texts[f'{family}_schemas.cpp'] = schemas.replace('FRAGMENT(focaldistiller', f'FRAGMENT({NAMESPACE}')
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


@pytest.fixture(scope='module')
def emulated(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile and load the emulated operators."""
    folder = tmp_path_factory.mktemp('emulated')
    compiler = ops_build.find_compiler()
    objects = []
    for source in emulated_sources(folder):
        command = ops_build.compile_command(compiler, source, folder)
        command[1:1] = ['-I', str(folder)]
        done = subprocess.run([*command, '-O1'], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        objects.append(folder / f'{source.name}.o')
    library = folder / 'emulated.so'
    subprocess.run(ops_build.link_command(compiler, objects, library), check=True)
    torch.ops.load_library(library)


class Emulated(torch.autograd.Function):
    """One emulated operator with its backward operator."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, name: str, flat: list[int], *inputs: Tensor
    ) -> Tensor:
        ctx.name, ctx.flat = name, flat
        ctx.save_for_backward(*inputs)
        return getattr(getattr(torch.ops, NAMESPACE), name)(inputs[0], flat, *inputs[1:])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
        op = getattr(getattr(torch.ops, NAMESPACE), f'{ctx.name}_backward')
        value, *rest = ctx.saved_tensors
        wanted = [] if ctx.name == 'ms_deform_attn' else [True]
        grads = op(grad, value, ctx.flat, *rest, *wanted)
        return None, None, *grads, *[None] * (len(rest) + 1 - len(grads))


@pytest.mark.slow
@pytest.mark.usefixtures('emulated')
@pytest.mark.parametrize('name', ['plain', 'fused', 'packed'])
@pytest.mark.parametrize('case', [c for c in CASES if c != 'many queries, ordered by tile'])
@pytest.mark.parametrize(
    ('dtype', 'bound'),
    [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 1e-2), (torch.float16, 1e-2)],
)
def test_emulated_kernels_equal_the_reference(name: str, case: str, dtype: torch.dtype, bound: float) -> None:
    sampling = torch.float64 if dtype == torch.float64 else torch.float32
    shapes, door = make_door(name, case, sampling, batch=1 if dtype != torch.float32 else 2)
    inputs = (door.inputs[0].to(dtype), *door.inputs[1:])
    op = {'plain': 'ms_deform_attn', 'fused': 'ms_deform_attn_fused', 'packed': 'ms_deform_attn_packed'}[name]

    def call(value: Tensor, shapes: list[tuple[int, int]], *rest: Tensor) -> Tensor:
        return Emulated.apply(op, [side for shape in shapes for side in shape], value, *rest)

    ours = run(call, shapes, door, inputs, None)
    reference = run(door.reference, shapes, door, tuple(x.double() for x in inputs), None)
    assert max(map(relative_error, ours, reference)) < bound


class EmulatedSplat(torch.autograd.Function):
    """Emulated lift-splat pooling with its backward operator."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, truncate: bool, *inputs: Tensor) -> Tensor:
        ctx.truncate = truncate
        ctx.save_for_backward(*inputs)
        return getattr(torch.ops, NAMESPACE).lift_splat(*inputs, *SIZE, truncate)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple:
        op = getattr(torch.ops, NAMESPACE).lift_splat_backward
        return None, *op(grad, *ctx.saved_tensors, ctx.truncate), None, None, None


@pytest.mark.slow
@pytest.mark.usefixtures('emulated')
@pytest.mark.parametrize('truncate', [False, True])
@pytest.mark.parametrize(('channels', 'rows'), [(19, 5), (140, 2)])
@pytest.mark.parametrize(('dtype', 'bound'), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_emulated_pooling_equals_plain_torch(
    channels: int, rows: int, truncate: bool, dtype: torch.dtype, bound: float
) -> None:
    case = make_case(dtype, channels, rows)
    ours = run_splat(
        lambda *args, truncate: EmulatedSplat.apply(truncate, *args[:5]), case, truncate=truncate
    )
    wide = case._replace(depth=case.depth.double(), context=case.context.double())
    for mine, other in zip(ours, run_splat(lift_splat_torch, wide, truncate=truncate), strict=True):
        torch.testing.assert_close(mine.double(), other, rtol=bound, atol=10 * bound)
