"""In which order, and by which process, samples are visited."""

from collections.abc import Iterator, Sequence, Sized

import numpy as np
from torch.utils.data import Sampler

from projects.mmdet3d_plugin.common.errors import UserError


class SeededIndex(int):
    """An index that carries the seed of all chance in its sample.

    Jitter and queue drawn from it depend neither on the number of workers nor on what was loaded before.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SeededIndex':
        """Make the int ``index`` with an attribute ``seed``."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __mod__(self, count: int) -> 'SeededIndex':
        """Keep the seed where a RepeatDataset finds its place in the dataset it repeats."""
        return SeededIndex(int(self) % count, self.seed)

    def __sub__(self, count: int) -> 'SeededIndex':
        """Keep the seed where a ConcatDataset finds its place in one of its parts."""
        return SeededIndex(int(self) - int(count), self.seed)

    def __reduce__(self) -> tuple[type, tuple[int, int]]:
        return SeededIndex, (int(self), self.seed)


def info_files(dataset: object) -> list[str]:
    """The info files of a dataset, through the wrappers around it."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    nested = [name for part in inner if part is not None for name in info_files(part)]
    own = getattr(dataset, 'ann_file', None)
    return [*nested, *([str(own)] if own else [])]


class TrainSampler(Sampler):
    """A new seeded shuffle per epoch, dealt out to the processes; every one gets as many samples.

    Everything follows from (seed, epoch, position), so resuming needs ``set_epoch`` and nothing else.

    Args:
        dataset: anything with a length.
        seed: equal in all processes.
        rank: of this process.
        world_size: number of processes.
        shuffle: False keeps the order of the dataset.
    """

    def __init__(
        self, dataset: Sized, seed: int = 0, rank: int = 0, world_size: int = 1, shuffle: bool = True
    ) -> None:
        if not len(dataset):
            files = ', '.join(info_files(dataset)) or 'its info file'
            raise UserError(f'the training set is empty: {files} holds no samples')
        self.size = len(dataset)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch; ``start`` samples of this process are skipped, to resume within it."""
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[SeededIndex]:
        order = np.arange(self.size)
        if self.shuffle:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.size)
        for position in range(self.start, len(self)):
            place = position * self.world_size + self.rank
            # The last round is filled up from the front, so that no process waits for another.
            seeds = np.random.SeedSequence((self.seed, self.epoch, place))
            yield SeededIndex(int(order[place % self.size]), int(seeds.generate_state(1)[0]))

    def __len__(self) -> int:
        return -(-self.size // self.world_size)


class SceneSampler(Sampler):
    """Whole scenes in order, contiguous per process: no process starts within a scene.

    Temporal detectors carry memory from frame to frame, so a score must not depend on where a scene was cut.

    Args:
        scene_tokens: scene of every sample, scenes contiguous.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, scene_tokens: Sequence[str], rank: int = 0, world_size: int = 1) -> None:
        self.scene_tokens = list(scene_tokens)
        self.rank = rank
        self.world_size = world_size

    def rank_indices(self, rank: int) -> list[int]:
        """Samples of process ``rank``: to put gathered results back in order. Empty when scenes are too few."""
        total, world = len(self.scene_tokens), self.world_size
        starts = [
            i for i, token in enumerate(self.scene_tokens) if not i or token != self.scene_tokens[i - 1]
        ]
        bounds = [*starts, total]
        # The cut nearest to an even share; the same rule on both sides of a cut leaves no gap.
        cuts = [min(bounds, key=lambda b: abs(b - total * r / world)) if r else 0 for r in range(world)] + [
            total
        ]
        return list(range(cuts[rank], cuts[rank + 1]))

    def __iter__(self) -> Iterator[int]:
        return iter(self.rank_indices(self.rank))

    def __len__(self) -> int:
        return len(self.rank_indices(self.rank))
