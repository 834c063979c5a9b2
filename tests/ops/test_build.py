"""The operators' build: the cache, two builders at once, and the CUDA sources under nvcc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.ops import build as ops_build

ROOT = Path(__file__).resolve().parents[2]


def test_the_library_in_the_cache_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    target = ops_build.cached_library()
    assert target.is_relative_to(tmp_path / 'focaldistiller' / 'ops')
    target.parent.mkdir(parents=True)
    target.write_bytes(b'made before')
    assert ops_build.build() == target
    assert target.read_bytes() == b'made before'


def test_the_command_line_asks_before_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what the compiler said, without a traceback."""

    def fails(force: bool) -> Path:
        raise ops_build.BuildError(f'compiling failed, forced: {force}')

    monkeypatch.setattr(ops_build, 'build', fails)
    for mistaken, status in {'--help': 0, '--forced': 2}.items():
        with pytest.raises(SystemExit) as end:
            ops_build.main([mistaken])
        assert end.value.code == status
    with pytest.raises(SystemExit, match='error: compiling failed, forced: True'):
        ops_build.main(['--force'])


def test_a_library_built_with_cuda_is_found_where_no_nvcc_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(ops_build, 'find_nvcc', lambda: None)
    monkeypatch.setattr(ops_build, '_compile', lambda target: target.write_bytes(b'for the CPU'))
    cpu_only = ops_build.build()
    monkeypatch.setattr(ops_build, 'find_nvcc', lambda: '/usr/bin/nvcc')
    monkeypatch.setenv('FORCE_CUDA', '1')
    monkeypatch.setattr(ops_build, '_compile', lambda target: target.write_bytes(b'with CUDA'))
    with_cuda = ops_build.build()
    assert with_cuda != cpu_only
    monkeypatch.delenv('FORCE_CUDA')
    monkeypatch.setattr(ops_build, 'find_nvcc', lambda: None)
    assert ops_build.build() == with_cuda
    assert with_cuda.read_bytes() == b'with CUDA'


def test_another_source_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ops_build.cached_library()
    monkeypatch.setattr(ops_build, 'SOURCES', tmp_path)
    (tmp_path / 'one.cpp').write_text('int one;')
    assert ops_build.cached_library() != before


def test_two_builders_compile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the lock taken, waits, and takes what the first has made."""
    count = tmp_path / 'count'
    script = (
        'import time\n'
        'from pathlib import Path\n'
        'from projects.mmdet3d_plugin.ops import build as b\n'
        'def compile(target):\n'
        f'    with open({str(count)!r}, "a") as file: file.write("x")\n'
        '    time.sleep(1)\n'
        '    target.write_text("library")\n'
        'b._compile = compile\n'
        'print(b.build().read_text())\n'
    )
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path), 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', script]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == ['library', 'library']
    assert count.read_text() == 'x'


def test_a_failing_compiler_is_quoted_and_leaves_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / 'csrc'
    sources.mkdir()
    (sources / 'bad.cpp').write_text('this is no C++')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(ops_build, 'SOURCES', sources)
    with pytest.raises(ops_build.BuildError, match=r'bad\.cpp'):
        ops_build.build()
    assert not ops_build.cached_library().exists()


def test_without_a_compiler_plain_torch_serves_with_one_warning(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        'XDG_CACHE_HOME': str(tmp_path),
        'CXX': 'no-such-compiler',
        'PYTHONPATH': str(ROOT),
    }
    script = (
        'import torch\n'
        'from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn\n'
        'args = torch.rand(1, 2, 1, 1, 3, 2), torch.rand(1, 2, 1, 1, 3)\n'
        'print(ms_deform_attn(torch.randn(1, 6, 1, 4), [(2, 3)], *args).shape)\n'
    )
    done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == 'torch.Size([1, 2, 4])'
    assert done.stderr.count('no C++ compiler found') == 1


@pytest.mark.skipif(
    ops_build.find_nvcc() is None, reason='nvcc is not installed (PyPI has it: nvidia-cuda-nvcc)'
)
@pytest.mark.parametrize('architecture', ['80', '90'])
def test_cuda_kernels_compile(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops_build, 'CUDA_ARCHITECTURES', (architecture,))
    for source in ops_build.SOURCES.glob('*.cu'):
        command = ops_build.nvcc_command(source, tmp_path)
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f'{source.name}.o').stat().st_size > 0


@pytest.mark.skipif(not ops_build.cuda_include(), reason='the headers of CUDA are not installed')
@pytest.mark.skipif(ops_build.find_compiler() is None, reason='no C++ compiler')
def test_the_host_side_of_cuda_compiles(tmp_path: Path) -> None:
    for source in ops_build.SOURCES.glob('*_cuda.cpp'):
        command = ops_build.compile_command(ops_build.find_compiler(), source, tmp_path)
        done = subprocess.run([*command, '-O0', '-fsyntax-only'], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_sources_are_no_wider_than_the_rest_of_the_code() -> None:
    wide = [
        f'{path.name}:{number}'
        for path in sorted(ops_build.SOURCES.iterdir())
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 110
    ]
    assert not wide, f'clang-format -i mends these: {wide}'
