"""mmcv-full has no wheel on PyPI: compile it once for every torch, Python and CUDA, and keep the result.

pip's own wheel cache goes by name and version alone and hands out a wheel that was built for another torch, which
then fails with an undefined symbol. Ours is keyed by all that the binary depends on.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.setup.machine import Flavour, compile_jobs, machine_tag
from tools.setup.progress import Job, ninja_status

# -g0: the wheel is 2 MB instead of 31. The rest is Python's own choice, which setuptools drops when CFLAGS is set
FLAGS = '-O3 -DNDEBUG -fwrapv -g0'
ALONE = (
    '--no-deps',
    '--no-build-isolation',
    '--no-cache-dir',
)  # mmcv-full itself, against the torch that is here


def cache_dir(env: Mapping[str, str]) -> Path:
    """Where compiled wheels live: ``$XDG_CACHE_HOME/focaldistiller``, else ``~/.cache/focaldistiller``."""
    base = env.get('XDG_CACHE_HOME') or Path(env.get('HOME', '~')).expanduser() / '.cache'
    return Path(base) / 'focaldistiller'


def wheel_key(mmcv: str, torch: str, python: str, flavour: Flavour, flags: str) -> str:
    """Name of the cache entry.

    Args:
        mmcv: Version of mmcv-full.
        torch: Version of torch with its build, like ``2.11.0+cu130``.
        python: Interpreter tag, like ``cp311``.
        flavour: CPU, or GPU with its architectures.
        flags: Compiler flags; a wheel for one processor (``-march=native``) must not reach another.
    """
    flags_tag = hashlib.sha256(flags.encode()).hexdigest()[:8]
    return f'mmcv{mmcv}-torch{torch}-{python}-{flavour.tag}-{machine_tag()}-{flags_tag}'


class MmcvWheel:
    """One entry of the wheel cache.

    Args:
        cache: Root of the cache.
        key: From :func:`wheel_key`.
        version: Version of mmcv-full.
    """

    def __init__(self, cache: Path, key: str, version: str) -> None:
        self.key = key
        self.version = version
        self.folder = cache / 'wheels' / key
        self.build = cache / 'build' / key

    @property
    def path(self) -> Path | None:
        """The compiled wheel, or None when it has to be compiled first."""
        return next(iter(sorted(self.folder.glob('mmcv_full-*.whl'))), None)

    @property
    def sdist(self) -> Path | None:
        """The downloaded source, or None."""
        return next(iter(self.build.glob('mmcv*full-*.tar.gz')), None)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time compile this entry; a second one waits and finds it done."""
        self.build.mkdir(parents=True, exist_ok=True)
        with (self.build.parent / f'{self.key}.lock').open('w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def download(self, pip: list[str], log: Path) -> Job:
        """Job that fetches the sdist into the build folder."""
        options = ['--no-binary', 'mmcv-full', '-d', self.build, f'mmcv-full=={self.version}']
        return Job('fetching the source of mmcv-full', [*pip, 'download', *ALONE, *options], log)

    def compile(self, pip: list[str], log: Path, flavour: Flavour) -> Job:
        """Job that compiles the unpacked sdist in place: after an interruption ninja goes on with the rest.

        Args:
            pip: Command that runs pip in the environment with torch.
            log: File for the compiler's output.
            flavour: CPU, or GPU with its architectures.
        """
        source = self._unpack()
        return Job(
            f'compiling mmcv-full {self.version} for {flavour.tag}',
            [*pip, 'wheel', '-v', *ALONE, '-w', self.build / 'wheel', source],
            log,
            env=compile_env(os.environ, flavour),
            status=lambda seconds: ninja_status(log, seconds),
        )

    def keep(self) -> Path:
        """Move the finished wheel into the cache, whole or not at all, and drop the build folder."""
        built = next((self.build / 'wheel').glob('mmcv_full-*.whl'))
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f'{built.name}.part'
        shutil.copyfile(built, partial)
        final = partial.rename(self.folder / built.name)
        shutil.rmtree(self.build)
        return final

    def _unpack(self) -> Path:
        """Unpack the sdist unless that was done before; returns the source folder."""
        source = self.build / f'mmcv-full-{self.version}'
        if not source.is_dir():
            partial = self.build / 'unpacking'
            shutil.rmtree(partial, ignore_errors=True)
            with tarfile.open(self.sdist) as archive:
                safe = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
                archive.extractall(partial, **safe)
            (partial / source.name).rename(source)
        return source


def compile_env(env: Mapping[str, str], flavour: Flavour) -> dict[str, str]:
    """Environment for compiling operators, ours and mmcv's.

    Args:
        env: Environment to start from.
        flavour: CPU, or GPU with its architectures.
    """
    made = {**env, 'MMCV_WITH_OPS': '1', 'MAX_JOBS': str(compile_jobs(env))}
    made['CFLAGS'] = f'{FLAGS} {env.get("CFLAGS", "")}'.strip()
    if flavour.cuda:
        made |= {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': flavour.archs}
        if flavour.cuda_home is not None:
            made['CUDA_HOME'] = str(flavour.cuda_home)
    else:
        # mmcv compiles for the GPU as soon as torch sees one, with or without nvcc
        made |= {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    return made
