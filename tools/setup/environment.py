"""The steps from a bare Python to a working ``.venv``, each remembered, so that a second run does only what is left."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tools.setup import machine
from tools.setup.errors import SetupError
from tools.setup.mmcv_wheel import MmcvWheel, cache_dir, compile_env, wheel_key
from tools.setup.progress import Job, Progress, pip_status, stopping

SMOKE_TEST = (
    'from projects.mmdet3d_plugin import compat; compat.apply(); '
    'import torch, torchvision, mmcv.ops, mmdet3d.datasets, nuscenes.nuscenes, timm'
)


def digest(parts: Iterable[str | bytes]) -> str:
    """Short hash of texts and file contents."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)
        total.update(b'\0')
    return total.hexdigest()[:16]


def contents(paths: Iterable[Path]) -> list[str | bytes]:
    """Names and bytes of files, for :func:`digest`."""
    return [part for path in sorted(paths) for part in (path.name, path.read_bytes())]


def pinned(lock: Path, name: str) -> str:
    """Version that the lock file gives a package."""
    found = re.search(rf'^{re.escape(name)}==(\S+)', lock.read_text(), re.MULTILINE)
    if found is None:
        raise SetupError(f'{lock} pins no version of {name}: restore the line {name}==VERSION')
    return found[1]


class Environment:
    """The project's virtual environment.

    Args:
        root: The clone that it belongs to.
        progress: Where to report.
    """

    def __init__(self, root: Path, progress: Progress) -> None:
        self.root = root
        self.progress = progress
        self.venv = root / '.venv'
        self.python = self.venv / 'bin' / 'python'
        self.pip = [str(self.python), '-m', 'pip', '--disable-pip-version-check', '--no-input']
        self.state = self.venv / 'setup'
        self.requirements = root / 'requirements'
        self.lock = self.requirements / 'constraints.txt'
        self.flavour = machine.Flavour()

    # -- what is done already ------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """All that the finished environment depends on."""
        return digest(
            [
                sys.version,
                str(self.root),
                *machine.build_hints(os.environ),
                *contents(self.requirements.glob('*.txt')),
                *contents((self.root / 'tools' / 'setup').glob('*.py')),
                *contents([self.root / 'pyproject.toml']),
                self.ops_fingerprint(),
            ]
        )

    def ops_fingerprint(self) -> str:
        """All sources that our own operators are compiled from."""
        ops = self.root / 'projects' / 'mmdet3d_plugin' / 'ops'
        return digest(
            contents([ops / 'build.py', *(path for path in ops.glob('csrc/**/*') if path.is_file())])
        )

    def is_done(self, step: str, fingerprint: str) -> bool:
        """Whether this step was finished for the same inputs."""
        stamp = self.state / f'{step}.done'
        return self.python.exists() and stamp.is_file() and stamp.read_text() == fingerprint

    def mark(self, step: str, fingerprint: str) -> None:
        """Remember that a step was finished."""
        self.state.mkdir(parents=True, exist_ok=True)
        partial = self.state / f'{step}.part'
        partial.write_text(fingerprint)
        partial.rename(self.state / f'{step}.done')

    def step(self, name: str, title: str, fingerprint: str, action: Callable[[], None]) -> None:
        """Do a step unless it was finished before with the same inputs."""
        if self.is_done(name, fingerprint):
            self.progress.advance(f'{title}: done before')
            return
        self.progress.advance(title)
        action()
        self.mark(name, fingerprint)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second set-up of the same clone waiting until this one is through."""
        folder = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    # -- the steps -----------------------------------------------------------------------------------------------

    def set_up(self) -> bool:
        """Bring the environment up to date; returns False when there was nothing to do."""
        with self.alone():
            whole = self.fingerprint()
            if self.is_done('all', whole):
                return False
            self._check_machine()
            lock = digest(contents(self.requirements.glob('*.txt')))
            self.step('venv', f'virtual environment in {self.venv}', sys.version, self._make_venv)
            self.step('build', 'torch and build tools (3 GB)', lock, self._install_build_tools)
            self.flavour = self._resolve_nvcc(self.flavour)
            key = self._mmcv_key()
            self.step(
                'packages', 'packages of the lock, and mmcv-full', digest([lock, key]), self._install_packages
            )
            own = digest([str(self.root), *contents([self.root / 'pyproject.toml'])])
            self.step('project', 'this project, editable', digest([own, lock]), self._install_project)
            self.step('ops', 'our own operators', digest([key, self.ops_fingerprint()]), self._build_ops)
            self.step('check', 'everything imports', whole, self._check_imports)
            self.mark('all', whole)
            return True

    def _check_machine(self) -> None:
        if sys.platform != 'linux':
            raise SetupError(f'set-up is for Linux, this is {sys.platform}: use the Dockerfile')
        machine.check_build_tools()
        if not (self.state / 'packages.done').exists():
            machine.check_disk(self.venv, machine.VENV_GIB)
        self.flavour = machine.choose_flavour(os.environ)
        if self.flavour.notice:
            self.progress.say(f'note: {self.flavour.notice}')

    def _make_venv(self) -> None:
        if self._venv_works():
            return
        if self.venv.exists():
            self.progress.say(
                'the .venv that is here is of another Python, or was not finished: making it anew'
            )
            shutil.rmtree(self.venv)
        self._create_venv()

    def _create_venv(self) -> None:
        base = getattr(sys, '_base_executable', None) or sys.executable
        made = subprocess.run([base, '-m', 'venv', str(self.venv)], capture_output=True, text=True)
        if made.returncode:
            raise SetupError(
                f'{base} cannot make a virtual environment: {made.stdout.strip()} {made.stderr.strip()}'
            )

    def _venv_works(self) -> bool:
        """Whether ``.venv`` has pip and this very Python, whoever made it."""
        if not self.python.exists():
            return False
        probe = 'import sys, pip; print(sys.version)'
        answer = subprocess.run([self.python, '-c', probe], capture_output=True, text=True)
        return answer.stdout.rstrip('\n') == sys.version

    def _install_build_tools(self) -> None:
        self._prepare_pip()
        self._pip_install(
            'installing torch', '-r', self.requirements / 'build.txt', '-c', self.lock, log='build'
        )

    def _install_packages(self) -> None:
        """Compile mmcv-full (minutes) while pip installs everything else, then install its wheel."""
        self._prepare_pip()
        wheel = MmcvWheel(cache_dir(os.environ), self._mmcv_key(), pinned(self.lock, 'mmcv-full'))
        others = self.state / 'lock_without_mmcv.txt'
        others.write_text(re.sub(r'^mmcv-full==.*\n', '', self.lock.read_text(), flags=re.MULTILINE))
        options = ['--no-deps', '--no-build-isolation', '-r', others]
        with wheel.lock():
            jobs = [self._pip_job('installing packages', *options, log='packages')]
            if wheel.path is None:
                if wheel.sdist is None:
                    self.progress.run(wheel.download(self.pip, self._log('mmcv_download')))
                jobs.append(wheel.compile(self.pip, self._log('mmcv_compile'), self.flavour))
                self.progress.say(f'compiling mmcv-full takes minutes; its output goes to {jobs[-1].log}')
            with stopping(*(job.start() for job in jobs)):
                self.progress.wait(*jobs)
            path = wheel.path or wheel.keep()
        self._pip_install('installing mmcv-full', '--no-deps', '--force-reinstall', path, log='mmcv')

    def _install_project(self) -> None:
        self._pip_install(
            'installing this project', '--no-deps', '--no-build-isolation', '-e', self.root, log='project'
        )

    def _build_ops(self) -> None:
        command = [self.python, '-m', 'projects.mmdet3d_plugin.ops.build']
        self._run('compiling our operators', command, 'ops', compile_env(os.environ, self.flavour))

    def _check_imports(self) -> None:
        self._run('importing everything', [self.python, '-W', 'ignore', '-c', SMOKE_TEST], 'check')

    # -- helpers -------------------------------------------------------------------------------------------------

    def _mmcv_key(self) -> str:
        probe = 'import sys, torch; print(torch.__version__, "cp%d%d" % sys.version_info[:2])'
        answer = subprocess.run([self.python, '-c', probe], capture_output=True, text=True)
        if answer.returncode:
            raise SetupError(f'torch was installed but does not import: {answer.stderr.strip()}')
        torch, python = answer.stdout.split()
        flags = compile_env(os.environ, self.flavour)['CFLAGS']
        return wheel_key(pinned(self.lock, 'mmcv-full'), torch, python, self.flavour, flags)

    def _resolve_nvcc(self, flavour: machine.Flavour) -> machine.Flavour:
        """Install nvcc from PyPI when GPU operators are asked for and the machine's own does not fit."""
        if not flavour.nvcc_from_pypi:
            return flavour
        self._pip_install('installing nvcc', '--no-deps', '-r', self.requirements / 'nvcc.txt', log='nvcc')
        site = next((self.venv / 'lib').glob('python3.*/site-packages'))
        home = site / 'nvidia' / f'cu{machine.TORCH_CUDA_MAJOR}'
        # the wheels carry lib/libcudart.so.13 only, the linker is told lib64 and -lcudart
        for link, target in ((home / 'lib64', 'lib'), (home / 'lib' / 'libcudart.so', 'libcudart.so.13')):
            if not link.exists():
                link.symlink_to(target)
        return replace(flavour, cuda_home=home)

    def _prepare_pip(self) -> None:
        """Check the network, and forget packages whose installation was cut off.

        pip takes those for installed although files are missing. It writes RECORD last, so its absence tells.
        """
        machine.check_network(self.pip)
        for info in (self.venv / 'lib').glob('python3.*/site-packages/*.dist-info'):
            if not (info / 'RECORD').is_file():
                shutil.rmtree(info)

    def _pip_install(self, title: str, *arguments: str | Path, log: str) -> None:
        self.progress.run(self._pip_job(title, *arguments, log=log))

    def _pip_job(self, title: str, *arguments: str | Path, log: str) -> Job:
        path = self._log(log)
        return Job(title, [*self.pip, 'install', *arguments], path, status=lambda seconds: pip_status(path))

    def _run(
        self, title: str, command: list[str | Path], log: str, env: dict[str, str] | None = None
    ) -> None:
        self.progress.run(Job(title, command, self._log(log), env))

    def _log(self, name: str) -> Path:
        return self.state / f'{name}.log'
