"""The set-up: a complete lock, keys that keep builds apart, steps done once, errors of one sentence."""

import contextlib
import importlib.metadata
import io
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.setup import machine, progress
from tools.setup.__main__ import main
from tools.setup.environment import Environment, pinned
from tools.setup.errors import SetupError
from tools.setup.machine import Flavour
from tools.setup.mmcv_wheel import MmcvWheel, cache_dir, compile_env, wheel_key

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / 'requirements' / 'constraints.txt'
# what mmdet3d 1.0.0rc6 and lyft-dataset-sdk ask for and nobody imports (constraints.txt says why)
IDLE = {'plyfile', 'scikit-image', 'black', 'flake8', 'plotly', 'opencv-python'}
TOO_OLD = {('mmdet3d', 'numba'), ('mmdet3d', 'networkx'), ('mmdet3d', 'trimesh')}


def requirements(name: str) -> list[Requirement]:
    """Requirements of one file in requirements/."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    texts = (line.partition('#')[0].strip() for line in lines)
    return [Requirement(text) for text in texts if text]


@pytest.fixture(scope='module')
def lock() -> dict[str, str]:
    """Locked version of every package."""
    return {canonicalize_name(item.name): str(item.specifier)[2:] for item in requirements('constraints.txt')}


# -- the lock ----------------------------------------------------------------------------------------------------


def needs(package: str) -> Iterator[Requirement]:
    """What an installed package asks for here, extras left out."""
    for text in importlib.metadata.requires(package) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
            yield requirement


def test_the_environment_agrees_with_the_lock(lock: dict[str, str]) -> None:
    installed = {name: importlib.metadata.version(name) for name in lock}
    # torch and torchvision carry their build (+cu130) in the installed version
    different = {name: have for name, have in installed.items() if have.split('+')[0] != lock[name]}
    assert different == {}


def test_the_lock_is_complete_and_consistent(lock: dict[str, str]) -> None:
    wrong = []
    for package in lock:
        for requirement in needs(package):
            name = canonicalize_name(requirement.name)
            if name in IDLE or (package, name) in TOO_OLD:
                continue
            if name not in lock or not requirement.specifier.contains(lock[name], prereleases=True):
                wrong.append(f'{package} needs {requirement}, the lock has {lock.get(name)}')
    assert wrong == []


def test_nothing_in_the_lock_is_idle(lock: dict[str, str]) -> None:
    files = ('build.txt', 'runtime.txt', 'tests.txt', 'docs.txt')
    waiting = [canonicalize_name(item.name) for file in files for item in requirements(file)]
    reached: set[str] = set()
    while waiting:
        package = waiting.pop()
        if package not in reached and package not in IDLE:
            assert package in lock, f'{package} is asked for but not locked'
            reached.add(package)
            for requirement in needs(package):
                # extras such as jinja2[...] or cuda-toolkit[cublas,...] bring packages of their own
                waiting += extras_of(requirement)
                waiting.append(canonicalize_name(requirement.name))
    assert set(lock) - reached == set()


def extras_of(requirement: Requirement) -> list[str]:
    """Names that the extras of a requirement stand for."""
    try:
        texts = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    wanted = [Requirement(text) for text in texts]
    return [
        canonicalize_name(item.name)
        for item in wanted
        for extra in requirement.extras
        if item.marker and not item.marker.evaluate({'extra': ''}) and item.marker.evaluate({'extra': extra})
    ]


def test_requirement_files_leave_versions_to_the_lock() -> None:
    for file in ('build.txt', 'runtime.txt', 'tests.txt', 'docs.txt'):
        assert [str(item) for item in requirements(file) if item.specifier] == []
    assert all(re.fullmatch(r'==[^,*]+', str(item.specifier)) for item in requirements('constraints.txt'))


def test_pinned_reads_the_lock_and_says_what_is_missing(tmp_path: Path) -> None:
    assert pinned(LOCK, 'mmcv-full') == '1.7.2'
    empty = tmp_path / 'constraints.txt'
    empty.write_text('torch==1.0\n')
    with pytest.raises(SetupError, match='pins no version of mmcv-full'):
        pinned(empty, 'mmcv-full')


# -- the wheel cache ---------------------------------------------------------------------------------------------


def test_every_part_that_a_binary_depends_on_changes_its_key() -> None:
    base = dict(mmcv='1.7.2', torch='2.11.0+cu130', python='cp311', flavour=Flavour(), flags='-O3')
    others = [
        dict(mmcv='1.7.1'),
        dict(torch='2.11.0+cpu'),
        dict(python='cp312'),
        dict(flavour=Flavour('9.0')),
        dict(flavour=Flavour('8.0;9.0')),
        dict(flags='-O3 -march=native'),
    ]
    keys = [wheel_key(**base)] + [wheel_key(**{**base, **other}) for other in others]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r'[\w.+-]+', key) for key in keys)


def test_architectures_name_the_same_binary_in_any_order() -> None:
    assert Flavour('9.0;8.0').tag == Flavour('8.0 9.0').tag == 'cuda13-sm8.0-sm9.0'


def test_the_cache_follows_xdg() -> None:
    assert cache_dir({'XDG_CACHE_HOME': '/x', 'HOME': '/h'}) == Path('/x/focaldistiller')
    assert cache_dir({'HOME': '/h'}) == Path('/h/.cache/focaldistiller')


def test_a_kept_wheel_is_whole_and_found_again(tmp_path: Path) -> None:
    wheel = MmcvWheel(tmp_path, 'key', '1.7.2')
    assert wheel.path is None
    built = wheel.build / 'wheel' / 'mmcv_full-1.7.2-cp311-cp311-linux_x86_64.whl'
    built.parent.mkdir(parents=True)
    built.write_bytes(b'wheel')
    kept = wheel.keep()
    assert MmcvWheel(tmp_path, 'key', '1.7.2').path == kept
    assert kept.read_bytes() == b'wheel'
    assert [path.name for path in kept.parent.iterdir()] == [built.name]
    assert MmcvWheel(tmp_path, 'other key', '1.7.2').path is None


def test_setuptools_hands_our_flags_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.utils.cpp_extension compiles C++ with distutils' C flags; some setuptools replace them by CFLAGS."""
    from setuptools._distutils import ccompiler, sysconfig

    monkeypatch.setenv('CFLAGS', compile_env({}, Flavour())['CFLAGS'])
    compiler = ccompiler.new_compiler()
    sysconfig.customize_compiler(compiler)
    levels = [flag for flag in compiler.compiler_so if re.match(r'-[Og]', flag)]
    assert levels[-2:] == ['-O3', '-g0']


@pytest.mark.parametrize('jobs', ['many', '0', '-1'])
def test_a_count_of_compilers_that_is_none_is_named(jobs: str) -> None:
    with pytest.raises(SetupError, match=f'MAX_JOBS={jobs} is no number of compilers'):
        machine.compile_jobs({'MAX_JOBS': jobs})


def test_cpu_builds_hide_the_gpu_from_mmcv() -> None:
    env = compile_env({'CFLAGS': '-O1', 'MAX_JOBS': '3', 'CUDA_VISIBLE_DEVICES': '0'}, Flavour())
    assert (env['FORCE_CUDA'], env['CUDA_VISIBLE_DEVICES']) == ('0', '')
    assert (env['CFLAGS'], env['MAX_JOBS']) == ('-O3 -DNDEBUG -fwrapv -g0 -O1', '3')
    gpu = compile_env({'CUDA_VISIBLE_DEVICES': '0'}, Flavour('9.0', Path('/cuda')))
    assert (gpu['FORCE_CUDA'], gpu['CUDA_VISIBLE_DEVICES']) == ('1', '0')
    assert (gpu['CUDA_HOME'], gpu['TORCH_CUDA_ARCH_LIST']) == ('/cuda', '9.0')


# -- what the machine offers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('gpu', 'home', 'env', 'expected'),
    [
        ('', None, {}, Flavour()),
        ('9.0', Path('/cuda'), {}, Flavour('9.0', Path('/cuda'))),
        ('9.0', Path('/cuda'), {'FORCE_CUDA': '0'}, Flavour()),
        ('', Path('/cuda'), {}, Flavour()),
        (
            '',
            Path('/cuda'),
            {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '8.0'},
            Flavour('8.0', Path('/cuda')),
        ),
        ('9.0', None, {'FORCE_CUDA': '1'}, Flavour('9.0')),
    ],
    ids=['bare', 'gpu server', 'gpu declined', 'nvcc alone', 'ahead of time', 'nvcc from PyPI'],
)
def test_the_flavour_follows_machine_and_wish(
    gpu: str, home: Path | None, env: dict[str, str], expected: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, 'gpu_architectures', lambda: gpu)
    monkeypatch.setattr(machine, 'cuda_home', lambda _: home)
    assert machine.choose_flavour(env) == expected


def test_a_gpu_without_nvcc_is_said_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, 'gpu_architectures', lambda: '9.0')
    monkeypatch.setattr(machine, 'cuda_home', lambda _: None)
    flavour = machine.choose_flavour({})
    assert not flavour.cuda
    assert 'FORCE_CUDA=1' in flavour.notice


def test_forced_cuda_without_gpu_asks_for_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, 'gpu_architectures', lambda: '')
    with pytest.raises(SetupError, match='TORCH_CUDA_ARCH_LIST'):
        machine.choose_flavour({'FORCE_CUDA': '1'})


def test_an_nvcc_of_another_generation_does_not_fit(tmp_path: Path) -> None:
    nvcc, headers = tmp_path / 'bin' / 'nvcc', tmp_path / 'include'
    nvcc.parent.mkdir()
    headers.mkdir()
    (headers / 'cusparse.h').touch()
    for release, fits in (('12.4', False), ('13.0', True)):
        nvcc.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.88"\n')
        nvcc.chmod(0o755)
        assert machine.nvcc_fits(tmp_path) is fits
    headers.rename(tmp_path / 'elsewhere')
    assert not machine.nvcc_fits(tmp_path)  # a compiler alone
    assert not machine.nvcc_fits(tmp_path / 'nowhere')


def test_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / 'meminfo', tmp_path / 'memory.max'
    meminfo.write_text('MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n')
    assert machine.free_memory(meminfo, limit) == 8
    for text, gibibytes in (('max\n', 8), (f'{3 * 2**30}\n', 3)):
        limit.write_text(text)
        assert machine.free_memory(meminfo, limit) == gibibytes


@pytest.mark.parametrize(('version', 'reason'), [((3, 10), 'too old'), ((3, 13), 'too new')])
def test_other_pythons_are_refused(version: tuple[int, int], reason: str) -> None:
    with pytest.raises(SetupError, match=rf'{reason}.*PYTHON=python3\.11 make setup'):
        machine.check_python(version)


@pytest.mark.parametrize('version', [(3, 11), (3, 12)])
def test_our_pythons_are_taken(version: tuple[int, int]) -> None:
    machine.check_python(version)


def test_all_missing_debian_packages_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.setattr(machine.importlib.util, 'find_spec', lambda _: None)
    monkeypatch.setattr(machine.sysconfig, 'get_path', lambda _: '/nowhere')
    version = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    with pytest.raises(SetupError) as raised:
        machine.check_build_tools()
    assert str(raised.value).endswith(f'sudo apt-get install {version}-venv {version}-dev g++')


def test_a_wrong_cxx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CXX', 'no-such-compiler -m64')
    with pytest.raises(SetupError, match='no-such-compiler'):
        machine.check_build_tools()


def test_a_full_disk_is_seen_before_it_hurts(tmp_path: Path) -> None:
    machine.check_disk(tmp_path / 'not' / 'yet', 0)
    with pytest.raises(SetupError, match='GiB free and set-up needs 1e'):
        machine.check_disk(tmp_path / 'not' / 'yet', 1e9)


def test_no_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('http_proxy', 'HTTP_PROXY', 'PIP_NO_INDEX'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')  # the discard port: nobody listens
    with pytest.raises(SetupError, match=r'^no network: .*127\.0\.0\.1:9.* cannot be reached'):
        machine.check_network([sys.executable, '-m', 'pip'])


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('OSError: [Errno 28] No space left on device', 'disk is full'),
        ('urllib3.exceptions.NewConnectionError: Failed', 'network went away'),
        ('ERROR: No matching distribution found for torch==2.11.0', 'does not have torch==2.11.0'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('something else', 'see the lines above'),
    ],
)
def test_a_failed_log_is_explained(text: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / 'step.log'
    log.write_text('\n'.join(['noise'] * 50 + [text]))
    message = progress.explain('installing torch', log)
    assert reason in message
    assert text in message
    assert message.count('noise') == progress.TAIL_LINES - 1
    assert str(log) in message


# -- steps -------------------------------------------------------------------------------------------------------


def clone(root: Path) -> Path:
    """The files of a clone that its fingerprint is made of."""
    ops = 'projects/mmdet3d_plugin/ops/build.py'
    for file in ('requirements/constraints.txt', 'pyproject.toml', 'tools/setup/machine.py', ops):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text((ROOT / file).read_text())
    return root


class Rehearsal(Environment):
    """An environment whose steps only note that they were called."""

    def __init__(self, root: Path, fail_at: str = '') -> None:
        super().__init__(root, progress.Progress(6, io.StringIO()))
        self.fail_at = fail_at
        self.calls: list[str] = []

    def _note(self, name: str) -> None:
        if name == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(name)

    def _check_machine(self) -> None:
        self.flavour = Flavour()

    def _mmcv_key(self) -> str:
        return 'key'

    def _venv_works(self) -> bool:
        return False

    def _create_venv(self) -> None:
        self._note('venv')
        self.python.parent.mkdir(parents=True)
        self.python.touch()

    def _install_build_tools(self) -> None:
        self._note('build')

    def _install_packages(self) -> None:
        self._note('packages')

    def _install_project(self) -> None:
        self._note('project')

    def _build_ops(self) -> None:
        self._note('ops')

    def _check_imports(self) -> None:
        self._note('check')


ALL = ['venv', 'build', 'packages', 'project', 'ops', 'check']


def test_a_finished_set_up_is_not_repeated(tmp_path: Path) -> None:
    first, second = Rehearsal(clone(tmp_path)), Rehearsal(tmp_path)
    assert first.set_up() is True
    assert first.calls == ALL
    assert second.set_up() is False
    assert second.calls == []


@pytest.mark.parametrize('step', ALL)
def test_an_interrupted_set_up_goes_on_where_it_stopped(step: str, tmp_path: Path) -> None:
    first, second = Rehearsal(clone(tmp_path), fail_at=step), Rehearsal(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.set_up()
    assert second.set_up() is True
    assert first.calls + second.calls == ALL


def test_a_changed_lock_installs_again_but_keeps_the_venv(tmp_path: Path) -> None:
    Rehearsal(clone(tmp_path)).set_up()
    lock = tmp_path / 'requirements' / 'constraints.txt'
    lock.write_text(lock.read_text() + 'another==1.0\n')
    again = Rehearsal(tmp_path)
    assert again.set_up() is True
    assert again.calls == ['build', 'packages', 'project', 'check']


def test_changed_operator_sources_are_compiled_again(tmp_path: Path) -> None:
    Rehearsal(clone(tmp_path)).set_up()
    source = tmp_path / 'projects/mmdet3d_plugin/ops/csrc/cpu/kernel.cpp'
    source.parent.mkdir(parents=True)
    source.write_text('// new')
    again = Rehearsal(tmp_path)
    again.set_up()
    assert again.calls == ['ops', 'check']


def test_a_wish_for_cuda_is_not_a_no_op(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    Rehearsal(clone(tmp_path)).set_up()
    monkeypatch.setenv('FORCE_CUDA', '1')
    assert Rehearsal(tmp_path).set_up() is True


def test_a_vanished_venv_is_made_again(tmp_path: Path) -> None:
    Rehearsal(clone(tmp_path)).set_up()
    (tmp_path / '.venv' / 'bin' / 'python').unlink()
    again = Rehearsal(tmp_path)
    again.set_up()
    assert again.calls == ALL


def test_a_venv_made_by_hand_is_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rehearsal, '_venv_works', lambda _: True)
    python = clone(tmp_path) / '.venv' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.touch()
    made = Rehearsal(tmp_path)
    made.set_up()
    assert made.calls == ALL[1:]


def test_half_installed_packages_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, 'check_network', lambda _: None)
    site = tmp_path / '.venv' / 'lib' / 'python3.11' / 'site-packages'
    whole, half = site / 'whole-1.dist-info', site / 'half-1.dist-info'
    for info in (whole, half):
        info.mkdir(parents=True)
        (info / 'METADATA').touch()
    (whole / 'RECORD').touch()
    Environment(tmp_path, progress.Progress(1, io.StringIO()))._prepare_pip()
    assert whole.exists()
    assert not half.exists()


# -- progress ----------------------------------------------------------------------------------------------------


def test_a_long_job_shows_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, 'HEARTBEAT_S', 0)
    out = io.StringIO()
    shown = progress.Progress(3, out)
    shown.advance('first')
    shown.run(progress.Job('sleeping', ['sleep', '0.5'], tmp_path / 'log', status=lambda _: 'soundly'))
    assert re.search(r'^\[1/3\] 0:0\d sleeping 0:00 \(soundly\)$', out.getvalue(), re.MULTILINE)


def test_on_a_terminal_one_line_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '30')
    out = io.StringIO()
    out.isatty = lambda: True
    shown = progress.Progress(1, out)
    shown.beat('x' * 100)
    shown.beat('done')
    first, second = out.getvalue().split('\r\x1b[K')[1:]
    assert len(first) == 29
    assert second.endswith(' done')
    assert '\n' not in out.getvalue()


def test_a_failing_job_ends_its_companion_and_tells(tmp_path: Path) -> None:
    shown = progress.Progress(1, io.StringIO())
    fails = progress.Job('failing', ['sh', '-c', 'echo broken; exit 3'], tmp_path / 'fails.log').start()
    lasts = progress.Job('lasting', ['sh', '-c', 'sleep 60 & wait'], tmp_path / 'lasts.log').start()
    with pytest.raises(SetupError, match=r'(?s)\| broken.*failing failed'), progress.stopping(fails, lasts):
        shown.wait(fails, lasts)
    assert lasts.process.poll() is not None


def test_ninja_tells_how_far_it_is(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    assert progress.ninja_status(log, 5) == ''
    log.write_text('  [1/97] c++ -c a.cpp\nwarning\n  [41/97] c++ -c b.cpp\n')
    assert progress.ninja_status(log, 41) == '41 of 97 files, about 0:56 left'


def test_pip_tells_what_it_is_busy_with(tmp_path: Path) -> None:
    log = tmp_path / 'log'
    log.write_text('Collecting numba==0.68.1 (from -r x)\n  Downloading numba-0.68.1.whl (3 MB)\nnoise\n')
    assert progress.pip_status(log) == 'Downloading numba-0.68.1.whl'


# -- the commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('python', ['', 'false', 'no-such-python'])
def test_make_names_the_python_it_needs(python: str) -> None:
    command = ['make', '--no-print-directory', 'setup', f'PYTHON={python}']
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode != 0
    assert re.search(r'^set-up: .*Python 3\.11 or 3\.12.*PYTHON=', answer.stderr, re.MULTILINE)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('signal.signal', lambda *_: None)  # pytest keeps its own
    monkeypatch.setattr(Environment, 'set_up', lambda _: (tmp_path / 'taken').mkdir(parents=True))
    (tmp_path / 'taken').touch()
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        assert main() == 1
    assert re.fullmatch(r'\nset-up: .*taken.*\n', out.getvalue())


def test_a_question_sets_nothing_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, 'argv', ['tools.setup', '--help'])
    monkeypatch.setattr(Environment, 'set_up', lambda _: pytest.fail('it was asked for help'))
    with pytest.raises(SystemExit) as ended:
        runpy.run_module('tools.setup', run_name='__main__')
    assert ended.value.code == 0
    assert 'usage: python -m tools.setup' in capsys.readouterr().out


def test_set_up_runs_on_the_standard_library_alone() -> None:
    """On a fresh machine nothing is installed yet: -S leaves site-packages out."""
    code = 'import tools.setup.__main__, sys; assert not [m for m in sys.modules if "site-packages" in m]'
    answer = subprocess.run([sys.executable, '-S', '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_an_interruption_takes_the_children_along(tmp_path: Path) -> None:
    marker = tmp_path / 'still_here'
    job = progress.Job('waiting', ['sh', '-c', f'(sleep 1; touch {marker}) & wait'], tmp_path / 'log').start()
    with pytest.raises(KeyboardInterrupt), progress.stopping(job):
        raise KeyboardInterrupt
    time.sleep(1.3)
    assert not marker.exists()
