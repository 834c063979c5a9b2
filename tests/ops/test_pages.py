"""Memory of the compiled operators: what a call takes beside its results, and pages that are used again."""

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.ops import library
from projects.mmdet3d_plugin.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_packed
from projects.mmdet3d_plugin.ops.pages import kept_pages
from tools.benchmark.measure.msda import allowed_megabytes
from tools.benchmark.timing import memory

pytestmark = pytest.mark.skipif(
    not library.serves(torch.empty(0)), reason='no compiler: the operators are not built'
)
ROOT = Path(__file__).resolve().parents[2]
SHAPES = {'direct': [(90, 90)], 'slices': [(70, 90), (35, 45), (18, 23)]}


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of threads, for the time of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def make_inputs(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Value (2, S, 8, 32), about 16 MB, and 4 points per level for each of 3000 queries."""
    torch.manual_seed(0)
    shapes = SHAPES[kind]
    value = torch.randn(2, sum(h * w for h, w in shapes), 8, 32)
    locations = torch.rand(2, 3000, 8, len(shapes), 4, 2)
    return value, locations, torch.rand(locations.shape[:-1])


@pytest.mark.parametrize('kind', SHAPES)
@pytest.mark.parametrize('threads', [1, 2], indirect=True)
def test_takes_little_beside_its_results(kind: str, threads: int) -> None:
    leaves = [x.requires_grad_() for x in make_inputs(kind)]

    def both() -> tuple[Tensor, ...]:
        out = ms_deform_attn(leaves[0], SHAPES[kind], *leaves[1:])
        return out.detach(), *torch.autograd.grad(out, leaves, torch.ones(()).expand_as(out))

    grad_copy = 2 * 3000 * 256 * 4 / 1e6  # an expanded gradient is made contiguous
    taken = memory(both, 'cpu')
    assert taken.results > 20
    assert taken.temporary - grad_copy < allowed_megabytes(leaves[0], threads)


def test_the_packed_door_takes_little_beside_its_results() -> None:
    value, locations, weights = make_inputs('slices')
    offsets, logits = locations[:1], weights[:1].flatten(-2)
    pair_value, pair_query = torch.ones(2, 3000).nonzero().unbind(1)

    @torch.no_grad()
    def forward() -> Tensor:
        references = torch.rand(6000, 4, 2)
        return ms_deform_attn_packed(
            value, SHAPES['slices'], offsets, logits, references, pair_value, pair_query
        )

    taken = memory(forward, 'cpu')
    assert taken.results == pytest.approx(3000 * 256 * 4 / 1e6)
    assert taken.temporary < allowed_megabytes(value, torch.get_num_threads())


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_the_process_grows_by_no_more_than_that() -> None:
    """The same, as the system sees it: whatever allocator was used."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'FOCALDISTILLER_KEPT_MB': '0'}
    script = 'from tests.ops.test_pages import growth\nprint(growth("direct"), growth("slices"))'
    done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole_pages = 2 * 4  # each of the results and slices may end in a huge page of its own
    assert all(float(beyond) < whole_pages for beyond in done.stdout.split())


def growth(kind: str) -> float:
    """Megabytes by which one call's peak exceeds its results and what is allowed beside them."""

    def resident(key: str) -> float:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))

    torch.set_num_threads(1)
    inputs = [x.requires_grad_() for x in make_inputs(kind)]
    grad = torch.randn(2, 3000, 256)
    few = [inputs[0], *(x.detach()[:, :20].requires_grad_() for x in inputs[1:])]
    torch.autograd.grad(
        ms_deform_attn(few[0], SHAPES[kind], *few[1:]), few, grad[:, :20]
    )  # what is loaded once
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')
    out = ms_deform_attn(inputs[0], SHAPES[kind], *inputs[1:])
    grads = torch.autograd.grad(out, inputs, grad)
    results = sum(x.nbytes / 1e6 for x in (out, *grads))
    return resident('VmHWM') - before - results - allowed_megabytes(inputs[0], 1)


def test_pages_given_back_are_used_again_and_cleared() -> None:
    value, locations, weights = make_inputs('direct')
    leaf = value.requires_grad_()

    def gradient() -> Tensor:
        out = ms_deform_attn(leaf, SHAPES['direct'], locations[:, :10], weights[:, :10])
        return torch.autograd.grad(out, leaf, torch.ones_like(out))[0]

    first = gradient()
    expected, place = first.clone(), first.data_ptr()
    first.fill_(float('nan'))
    del first
    again = gradient()
    assert again.data_ptr() == place
    assert torch.equal(again, expected)


def test_results_are_ordinary_tensors() -> None:
    value, locations, weights = make_inputs('direct')
    out = ms_deform_attn(value, SHAPES['direct'], locations, weights)
    assert out.nbytes >= 4 << 20
    held, view = out.clone(), out[1]
    del out
    other = ms_deform_attn(value, SHAPES['direct'], locations.flip(1), weights)
    assert torch.equal(view, held[1])  # a view keeps the pages
    other.resize_(1).resize_(*held.shape)
    assert other.share_memory_().is_shared()


LARGE = 16 << 20


def keeps() -> bool:
    """Does this thread keep the pages of its tensors?"""
    before = torch.ops.focaldistiller.keep_pages(False)
    torch.ops.focaldistiller.keep_pages(before)
    return before


@pytest.mark.skipif(sys.platform != 'linux', reason='pages are kept on Linux only')
class TestKeptPages:
    """Large tensors within ``kept_pages``."""

    def test_come_again_and_the_system_has_not_cleared_them(self) -> None:
        with kept_pages():
            place = torch.full((LARGE,), 7.0).data_ptr()
            again = torch.empty(LARGE)
        assert again.data_ptr() == place
        assert torch.equal(again, torch.full((LARGE,), 7.0))

    def test_ends_with_the_context_whatever_happens_in_it(self) -> None:
        @kept_pages()
        def fail() -> None:
            assert keeps()
            raise KeyError

        with kept_pages():
            with pytest.raises(KeyError):
                fail()
            assert keeps()
        assert not keeps()

    def test_is_a_decorator(self) -> None:
        assert kept_pages()(keeps)()
        assert not keeps()

    def test_is_the_business_of_one_thread(self) -> None:
        with kept_pages(), ThreadPoolExecutor(1) as pool:
            assert not pool.submit(keeps).result()

    def test_ends_in_a_forked_process(self) -> None:
        with kept_pages():
            child = multiprocessing.get_context('fork').Process(target=lambda: os._exit(int(keeps())))
            child.start()
            child.join()
        assert child.exitcode == 0

    def test_plain_torch_keeps_nothing(self) -> None:
        with library.pure_torch(), kept_pages():
            assert not keeps()

    def test_tensors_are_ordinary_and_outlive_it(self) -> None:
        with kept_pages():
            large, small = torch.arange(LARGE), torch.arange(10)
            copied = pickle.loads(pickle.dumps(large[: LARGE // 4]))
        assert torch.equal(large[:10], small)
        assert torch.equal(copied, large[: LARGE // 4])
        large.resize_(2 * LARGE)[LARGE:] = 7
        assert large[10] == 10
        assert large.numpy()[-1] == 7
        assert large.share_memory_().is_shared()
        assert torch.zeros(LARGE).count_nonzero() == 0

    def test_gradients_are_those_of_plain_torch(self) -> None:
        x, layer = torch.randn(1 << 14, 128), torch.nn.Linear(128, 128)

        def gradient() -> Tensor:
            return torch.autograd.grad(layer(x).relu().square().sum(), layer.weight)[0]

        plain = gradient()
        with kept_pages():
            assert torch.equal(gradient(), plain)

    def test_convolutions_may_free_memory_by_its_address_alone(self) -> None:
        """As torch does for what oneDNN works in."""
        x, layer = torch.randn(1, 3, 512, 1024), torch.nn.Conv2d(3, 32, 7, stride=2, padding=3)

        def gradient() -> Tensor:
            return torch.autograd.grad(layer(x).relu().sum(), layer.weight)[0]

        plain = gradient()
        with kept_pages():
            assert torch.equal(gradient(), plain)
            assert torch.equal(gradient(), plain)
