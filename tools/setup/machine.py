"""What the machine offers: Python, compiler, disk, network, GPU. Each check fails with one line that names the mend."""

import importlib.util
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.setup.errors import SetupError

PYTHONS = ((3, 11), (3, 12))
VENV_GIB = 9  # .venv takes 5.5 GiB; pip unpacks the largest wheels beside it
TORCH_CUDA_MAJOR = 13  # torch 2.11.0 from PyPI is built for CUDA 13.0


@dataclass(frozen=True)
class Flavour:
    """For what the operators are compiled.

    Args:
        archs: GPU architectures as torch spells them (``'8.0;9.0'``); empty for CPU only.
        cuda_home: Root of the CUDA toolkit; None for CPU only, or when nvcc is to come from PyPI.
        notice: What the user should know about the choice; empty when nothing is unusual.
    """

    archs: str = ''
    cuda_home: Path | None = None
    notice: str = ''

    @property
    def cuda(self) -> bool:
        """Whether GPU operators are compiled."""
        return bool(self.archs)

    @property
    def nvcc_from_pypi(self) -> bool:
        """Whether the CUDA compiler has to be installed from PyPI first."""
        return self.cuda and self.cuda_home is None

    @property
    def tag(self) -> str:
        """Short name for cache keys, like ``cpu`` or ``cuda13-sm8.0-sm9.0``."""
        if not self.cuda:
            return 'cpu'
        archs = sorted(arch for arch in re.split(r'[;, ]+', self.archs) if arch)
        return '-'.join([f'cuda{TORCH_CUDA_MAJOR}', *(f'sm{arch}' for arch in archs)])


def check_python(version: tuple[int, int]) -> None:
    """Raise unless the interpreter is one that every pinned wheel exists for."""
    if version not in PYTHONS:
        reason = 'too old' if version < PYTHONS[0] else 'too new'
        raise SetupError(
            f'Python {version[0]}.{version[1]} is {reason}: use 3.11 or 3.12, for example PYTHON=python3.11 make setup'
        )


def missing_debian_packages() -> list[str]:
    """Debian packages without which a virtual environment cannot be made or C++ cannot be compiled."""
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    packages = []
    if importlib.util.find_spec('ensurepip') is None or importlib.util.find_spec('venv') is None:
        packages.append(f'python{version}-venv')
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        packages.append(f'python{version}-dev')
    if compiler() is None:
        packages.append('g++')
    return packages


def check_build_tools() -> None:
    """Raise one line with the apt-get command when something to build with is missing."""
    if (wanted := os.environ.get('CXX')) and shutil.which(wanted.split()[0]) is None:
        raise SetupError(f'the C++ compiler named by CXX, {wanted!r}, was not found: correct or unset CXX')
    if packages := missing_debian_packages():
        names = {'g++': 'a C++ compiler'}
        what = ', '.join(names.get(name, name) for name in packages)
        raise SetupError(f'missing: {what}. On Debian or Ubuntu: sudo apt-get install {" ".join(packages)}')


def compiler() -> str | None:
    """Path of the C++ compiler that will be used, or None."""
    wanted = os.environ.get('CXX', '').split()
    return shutil.which(wanted[0]) if wanted else shutil.which('c++') or shutil.which('g++')


def check_disk(folder: Path, gibibytes: float) -> None:
    """Raise unless the file system of ``folder`` (or its nearest existing parent) has that much free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < gibibytes:
        raise SetupError(
            f'{folder} has {free:.1f} GiB free and set-up needs {gibibytes:g}: make room and run it again'
        )


def check_network(pip: list[str]) -> None:
    """Raise when pip's package index cannot be reached; pip itself would try for minutes before saying so.

    Args:
        pip: Command that runs pip, to learn which index is configured.
    """
    if os.environ.get('PIP_NO_INDEX'):
        return
    asked = subprocess.run([*pip, 'config', 'get', 'global.index-url'], capture_output=True, text=True)
    url = os.environ.get('PIP_INDEX_URL') or asked.stdout.strip() or 'https://pypi.org/simple'
    try:
        urllib.request.urlopen(
            urllib.request.Request(url.rstrip('/') + '/pip/', method='HEAD'), timeout=15
        ).close()
    except urllib.error.HTTPError:
        return  # it answered: whatever is wrong, pip words it better
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, 'reason', error)
        if isinstance(reason, ssl.SSLError):
            return  # pip has certificates of its own (PIP_CERT)
        raise SetupError(
            f'no network: the package index {url} cannot be reached ({reason}). Check the connection, HTTPS_PROXY '
            'or PIP_INDEX_URL, and run it again'
        ) from None


def machine_tag() -> str:
    """What a compiled wheel depends on beside torch and CUDA: processor family and C library."""
    return f'{platform.system()}-{platform.machine()}-{"".join(platform.libc_ver())}'.lower()


def build_hints(env: Mapping[str, str]) -> list[str]:
    """What decides how operators are compiled, cheap to read: asking nvidia-smi takes seconds on some servers."""
    names = ('FORCE_CUDA', 'TORCH_CUDA_ARCH_LIST', 'CUDA_HOME', 'CUDA_PATH', 'CFLAGS')
    return [f'{name}={env.get(name, "")}' for name in names] + [
        f'gpu={shutil.which("nvidia-smi") is not None}'
    ]


def compile_jobs(env: Mapping[str, str]) -> int:
    """How many compilers may run at a time: one per processor, each with 1.5 GiB, unless MAX_JOBS says otherwise."""
    if given := env.get('MAX_JOBS'):
        if not given.isdecimal() or int(given) < 1:
            raise SetupError(
                f'MAX_JOBS={given} is no number of compilers: say MAX_JOBS=1 or more, or unset it'
            )
        return int(given)
    return max(1, min(len(os.sched_getaffinity(0)), int(free_memory() / 1.5)))


def free_memory(
    meminfo: Path = Path('/proc/meminfo'), limit: Path = Path('/sys/fs/cgroup/memory.max')
) -> float:
    """GiB that new processes may take: what the kernel calls available, or a container's limit if that is less.

    Args:
        meminfo: The kernel's account.
        limit: The container's limit in bytes, or the word ``max``.
    """
    available = int(re.search(r'^MemAvailable:\s*(\d+) kB', meminfo.read_text(), re.MULTILINE)[1]) / 2**20
    ceiling = limit.read_text().strip() if limit.is_file() else ''
    return min(available, int(ceiling) / 2**30) if ceiling.isdigit() else available


def choose_flavour(env: Mapping[str, str]) -> Flavour:
    """Decide between CPU and GPU operators.

    ``FORCE_CUDA=0`` means CPU and ``FORCE_CUDA=1`` means GPU, whatever is plugged in; otherwise GPU operators are
    compiled when both a GPU and an nvcc that fits torch are there.
    """
    force = env.get('FORCE_CUDA', '')
    present = '' if force == '0' else gpu_architectures()
    if force != '1' and not present:
        return Flavour()
    home = cuda_home(env)
    if force != '1' and home is None:
        notice = (
            f'a GPU is here but no toolkit of CUDA {TORCH_CUDA_MAJOR} with its headers: operators are compiled for the CPU only. '
            'FORCE_CUDA=1 make setup takes nvcc from PyPI and compiles them for the GPU'
        )
        return Flavour(notice=notice)
    archs = env.get('TORCH_CUDA_ARCH_LIST') or present
    if not archs:
        raise SetupError(
            'FORCE_CUDA=1 but no GPU is here to ask for its architecture: name it, for example '
            "TORCH_CUDA_ARCH_LIST='8.0;9.0' FORCE_CUDA=1 make setup"
        )
    return Flavour(archs, home)


def gpu_architectures() -> str:
    """Compute capabilities of the GPUs as nvidia-smi tells them, like ``'8.0;9.0'``; empty without a GPU."""
    if shutil.which('nvidia-smi') is None:
        return ''
    query = ['nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader']
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise SetupError(
            'nvidia-smi does not answer within a minute: mend the driver, or say FORCE_CUDA=0 make setup for the CPU'
        ) from None
    return ';'.join(sorted(set(re.findall(r'\d+\.\d+', answer.stdout)))) if answer.returncode == 0 else ''


def cuda_home(env: Mapping[str, str]) -> Path | None:
    """Root of the first CUDA toolkit whose nvcc fits torch, or None."""
    found = shutil.which('nvcc')
    places = [
        env.get('CUDA_HOME'),
        env.get('CUDA_PATH'),
        f'/usr/local/cuda-{TORCH_CUDA_MAJOR}',
        '/usr/local/cuda',
    ]
    places += sorted(str(place) for place in Path('/usr/local').glob(f'cuda-{TORCH_CUDA_MAJOR}.*'))
    places += [str(Path(found).resolve().parents[1])] if found else []
    return next((Path(place) for place in places if place and nvcc_fits(Path(place))), None)


def nvcc_fits(home: Path) -> bool:
    """Whether ``home`` holds a toolkit of the CUDA generation that torch was built with: nvcc, and all that it compiles.

    A compiler alone, without the headers of the libraries that torch's own headers name, compiles half of mmcv.
    """
    nvcc = home / 'bin' / 'nvcc'
    if not os.access(nvcc, os.X_OK) or not (home / 'include' / 'cusparse.h').is_file():
        return False
    answer = subprocess.run([nvcc, '--version'], capture_output=True, text=True)
    return f'release {TORCH_CUDA_MAJOR}.' in answer.stdout
