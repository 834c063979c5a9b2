"""Nearest rows: against brute force, the row itself first, and within its bound of memory."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from projects.mmdet3d_plugin.ops.knn import nearest_rows


def peak_bytes(events: list) -> int:
    """Most bytes alive at once, from the allocator's own events; releases have negative sizes."""
    alive = peak = 0
    for event in sorted(
        (event for event in events if event.name() == '[memory]'), key=lambda e: e.start_ns()
    ):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


@pytest.mark.parametrize('chunk_bytes', [1, 5000, 2**20])
def test_equals_brute_force_whatever_the_chunk(chunk_bytes: int) -> None:
    torch.manual_seed(0)
    features, query = torch.randn(90, 7, dtype=torch.float64) + 100, torch.randperm(90)[:40]
    found = nearest_rows(features, query, 9, chunk_bytes)
    for row, index in zip(query.tolist(), found.tolist(), strict=True):
        distance = [(sum((a - b) ** 2 for a, b in zip(features[row].tolist(), other, strict=True)), i)
                    for i, other in enumerate(features.tolist())]  # fmt: skip
        assert index == [i for _, i in sorted(distance)[:9]]


def test_the_row_itself_comes_first_among_equals() -> None:
    found = nearest_rows(torch.zeros(50, 3), torch.tensor([49, 7]), 2)
    assert found[:, 0].tolist() == [49, 7]
    assert all(len(set(index)) == 2 for index in found.tolist())


def test_k_is_clamped_to_what_is_there() -> None:
    assert nearest_rows(torch.randn(4, 2), torch.tensor([1]), 128).shape == (1, 4)
    assert nearest_rows(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 128).shape == (0, 0)
    assert nearest_rows(torch.randn(4, 2), torch.zeros(0, dtype=torch.long), 3).shape == (0, 3)


def test_k_of_zero_is_clear() -> None:
    with pytest.raises(ValueError, match='k must be at least 1, got 0'):
        nearest_rows(torch.zeros(4, 2), torch.tensor([1]), 0)


def test_half_precision_does_not_overflow() -> None:
    features = torch.tensor([[300.0], [-300.0], [290.0]], dtype=torch.float16)
    assert nearest_rows(features, torch.tensor([0]), 2).tolist() == [[0, 2]]


def test_no_gradient_is_recorded() -> None:
    features = torch.randn(5, 2, requires_grad=True)
    assert not nearest_rows(features, torch.tensor([0]), 2).requires_grad


def test_six_thousand_among_sixteen_thousand_need_at_most_200_mb() -> None:
    """Every allocation of torch's allocator counts, those inside operators too."""
    torch.manual_seed(0)
    features, query = torch.randn(16000, 64), torch.arange(0, 12000, 2)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        found = nearest_rows(features, query, 128)
    peak = peak_bytes(prof.profiler.kineto_results.events())
    assert found.shape == (6000, 128)
    # The least it can be: what is returned and one chunk, so a meter that reads nothing would be noticed.
    assert 6000 * 128 * 8 + 48 * 2**20 <= peak <= 200e6
