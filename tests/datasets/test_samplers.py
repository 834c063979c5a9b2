import pickle

import pytest

from projects.mmdet3d_plugin.datasets.samplers import SceneSampler, SeededIndex, TrainSampler


def test_processes_share_each_epoch_without_overlap() -> None:
    samplers = [TrainSampler(range(10), seed=1, rank=r, world_size=2) for r in range(2)]
    shares = [list(sampler) for sampler in samplers]
    assert sorted(shares[0] + shares[1]) == list(range(10))
    assert len(shares[0]) == len(samplers[0]) == 5


def test_uneven_shares_are_filled_up_from_the_front() -> None:
    shares = [list(TrainSampler(range(5), rank=r, world_size=3)) for r in range(3)]
    assert [len(share) for share in shares] == [2, 2, 2]
    assert {i for share in shares for i in share} == set(range(5))


def test_epochs_differ_and_repeat() -> None:
    sampler = TrainSampler(range(50), seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    again = list(sampler)
    assert first == again != second
    assert [i.seed for i in first] == [i.seed for i in again]
    assert not {i.seed for i in first} & {i.seed for i in second}
    assert list(TrainSampler(range(50), seed=4)) != first


def test_resuming_within_an_epoch_goes_on_where_it_stopped() -> None:
    sampler = TrainSampler(range(20), seed=3, rank=1, world_size=2)
    sampler.set_epoch(4)
    whole = [(int(i), i.seed) for i in sampler]
    sampler.set_epoch(4, start=6)
    assert [(int(i), i.seed) for i in sampler] == whole[6:]
    sampler.set_epoch(5)
    assert len(list(sampler)) == len(whole)


def test_seeds_do_not_depend_on_how_many_processes_share() -> None:
    alone = {int(i): i.seed for i in TrainSampler(range(8), seed=2)}
    shared = {int(i): i.seed for r in range(2) for i in TrainSampler(range(8), seed=2, rank=r, world_size=2)}
    assert alone == shared


def test_seeded_index_travels_to_workers() -> None:
    index = pickle.loads(pickle.dumps(SeededIndex(4, seed=9)))
    assert (index, index.seed) == (4, 9)
    assert [10, 11, 12, 13, 14][index] == 14


def test_an_empty_training_set_is_an_error() -> None:
    with pytest.raises(ValueError, match='training set is empty'):
        TrainSampler([])


@pytest.mark.parametrize('world_size', [1, 2, 3, 4, 7])
def test_scenes_stay_whole_and_in_order(world_size: int) -> None:
    scenes = list('aaaabbbcddddddddee')
    shares = [SceneSampler(scenes, rank, world_size).rank_indices(rank) for rank in range(world_size)]
    assert [i for share in shares for i in share] == list(range(len(scenes)))
    owners = [{rank for rank, share in enumerate(shares) for i in share if scenes[i] == s} for s in 'abcde']
    assert all(len(owner) == 1 for owner in owners)
    assert list(SceneSampler(scenes, 0, world_size)) == shares[0]


def test_scenes_are_shared_evenly() -> None:
    scenes = [f'{i // 10}' for i in range(160)]
    assert [len(SceneSampler(scenes, r, 8)) for r in range(8)] == [20] * 8


def test_an_index_keeps_its_seed_within_a_repeated_dataset() -> None:
    index = SeededIndex(13, 5) % 10
    assert (int(index), index.seed) == (3, 5)
