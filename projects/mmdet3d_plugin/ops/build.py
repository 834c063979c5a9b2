"""Compile the operators' C++ and CUDA sources into one shared library, kept in the user's cache.

``python -m projects.mmdet3d_plugin.ops.build`` compiles what is missing and prints where the library lies.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / 'csrc'
LIBRARY = 'libfocaldistiller_ops.so'
COMMON_FLAGS = ['-O3', '-std=c++17', '-fPIC', '-fopenmp', '-fno-math-errno', '-fno-trapping-math']
ISA_FLAGS = {
    'avx2': ['-mavx2', '-mfma', '-mprefer-vector-width=256'],
    'avx512': ['-mavx512f', '-mavx512dq', '-mavx512vl', '-mavx512bw', '-mfma', '-mprefer-vector-width=512'],
}
CUDA_ARCHITECTURES = ('80', '86', '89', '90', '100', '120')


class BuildError(RuntimeError):
    """The operators could not be compiled; the message holds the compiler's own words."""


def build(force: bool = False) -> Path:
    """Compile the library unless the cache already holds it.

    Two processes may call this at once: one compiles, the other waits and takes the result.

    Args:
        force: compile even if the cache holds the library.

    Returns:
        Path of the shared library.
    """
    target = cached_library()
    if target.exists() and not force:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / 'lock'):
        if force or not target.exists():
            _compile(target)
    return target


def cached_library() -> Path:
    """Where the library for these sources, this torch, Python and machine lies (or would lie).

    A library with CUDA kernels serves every machine that has its torch, so one that is there is taken whether or not
    this process sees nvcc or a GPU: an image built with ``FORCE_CUDA=1`` runs where there is neither.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'focaldistiller' / 'ops'
    with_cuda, without = (cache / _key(kind) / LIBRARY for kind in ('cuda', 'cpu'))
    return with_cuda if with_cuda.exists() or wants_cuda() else without


def find_compiler() -> str | None:
    """The C++ compiler: ``$CXX``, or the first of c++, g++ and clang++ on the path."""
    wanted = os.environ.get('CXX')
    return (
        shutil.which(wanted)
        if wanted
        else next(filter(None, map(shutil.which, ('c++', 'g++', 'clang++'))), None)
    )


def find_nvcc() -> str | None:
    """The CUDA compiler of ``$CUDA_HOME`` or of the path."""
    home = os.environ.get('CUDA_HOME')
    return shutil.which(str(Path(home) / 'bin' / 'nvcc')) if home else shutil.which('nvcc')


def wants_cuda() -> bool:
    """CUDA sources are compiled when nvcc is there and a GPU is, or when ``FORCE_CUDA=1`` asks for it."""
    asked = os.environ.get('FORCE_CUDA') == '1'
    return find_nvcc() is not None and (asked or torch.cuda.is_available())


def _key(kind: str) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + source.read_bytes())
    return '-'.join(
        [
            f'torch{torch.__version__.replace("+", "_")}',
            f'py{sys.version_info.major}{sys.version_info.minor}',
            platform.machine(),
            kind,
            digest.hexdigest()[:16],
        ]
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compile(target: Path) -> None:
    """Compile and link in a temporary folder, then move the library to its place in one step."""
    compiler = find_compiler()
    if compiler is None:
        raise BuildError('no C++ compiler found: install g++ or set CXX.')
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        commands = [compile_command(compiler, source, Path(folder)) for source in cpp_sources()]
        if wants_cuda():
            sources = [*SOURCES.glob('*_cuda.cpp')]
            commands += [compile_command(compiler, source, Path(folder)) for source in sources]
            commands += [nvcc_command(source, Path(folder)) for source in SOURCES.glob('*.cu')]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        library = Path(folder) / LIBRARY
        _run(link_command(compiler, sorted(Path(folder).glob('*.o')), library))
        library.replace(target)


def cpp_sources() -> list[Path]:
    """The C++ files that every machine compiles: architectures other than x86 leave out its instruction sets."""
    x86 = platform.machine() in ('x86_64', 'AMD64')
    paths = [path for path in sorted(SOURCES.glob('*.cpp')) if not path.stem.endswith('_cuda')]
    return [path for path in paths if x86 or _isa(path) is None]


def _isa(source: Path) -> str | None:
    return next((isa for isa in ISA_FLAGS if source.stem.endswith(f'_{isa}')), None)


def _include_flags() -> list[str]:
    include = Path(torch.__file__).parent / 'include'
    paths = [include, include / 'torch/csrc/api/include', *cuda_include()]
    return [flag for path in paths for flag in ('-isystem', str(path))]


def cuda_include() -> list[Path]:
    """The folder of CUDA's headers: of ``$CUDA_HOME``, of the usual place, or of the wheels that torch brought."""
    wheels = Path(torch.__file__).parents[1] / 'nvidia' / 'cu13'
    homes = [
        Path(os.environ.get('CUDA_HOME', '/usr/local/cuda')),
        *Path('/usr/local').glob('cuda-13*'),
        wheels,
    ]
    found = [home / 'include' for home in homes if (home / 'include/cuda_runtime_api.h').exists()]
    return found[:1]


def _abi_flag() -> str:
    return f'-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}'


def compile_command(compiler: str, source: Path, folder: Path) -> list[str]:
    """Command that compiles one C++ source into ``folder``."""
    isa = ISA_FLAGS.get(_isa(source) or '', [])
    output = ['-c', str(source), '-o', str(folder / f'{source.name}.o')]
    return [compiler, *COMMON_FLAGS, *isa, _abi_flag(), *_include_flags(), *output]


def nvcc_command(source: Path, folder: Path) -> list[str]:
    """Command that compiles one CUDA source for every supported architecture into ``folder``."""
    codes = [f'-gencode=arch=compute_{arch},code=sm_{arch}' for arch in CUDA_ARCHITECTURES]
    flags = ['-O3', '-std=c++17', '-Xcompiler', '-fPIC']
    output = ['-c', str(source), '-o', str(folder / f'{source.name}.o')]
    return [find_nvcc() or 'nvcc', *flags, *codes, *output]


def link_command(compiler: str, objects: list[Path], library: Path) -> list[str]:
    """Link without -fopenmp: the OpenMP calls must bind to the runtime that torch brought along, not to a second one."""
    folder = Path(torch.__file__).parent / 'lib'
    names = ['-lc10', '-ltorch_cpu']
    if wants_cuda():
        homes = [include.parent for include in cuda_include()]
        names += [f'-L{home / lib}' for home in homes for lib in ('lib64', 'lib')]
        names += ['-lc10_cuda', '-ltorch_cuda', '-lcudart']
    return [
        compiler,
        '-shared',
        *map(str, objects),
        '-o',
        str(library),
        f'-L{folder}',
        f'-Wl,-rpath,{folder}',
        *names,
    ]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f'compiling failed: {" ".join(command)}\n{done.stderr[-4000:]}')


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--force', action='store_true', help='compile what is there, too')
    arguments = parser.parse_args(argv)
    try:
        print(build(arguments.force))
    except BuildError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
