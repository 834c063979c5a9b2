"""One training and what is done with its result, as stages: train, evaluate, draw."""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmcv import Config

from projects.mmdet3d_plugin.command_line.override_action import parse_overrides
from projects.mmdet3d_plugin.common.config import find_config, load_config
from projects.mmdet3d_plugin.common.files import hash_file
from projects.mmdet3d_plugin.engine.config_check import check_train_config
from projects.mmdet3d_plugin.studies.stages import Stage

ROOT = Path(__file__).resolve().parents[3]
TRAIN, DISTIL, SELF_TRAIN = 'tools/train.py', 'tools/distillation.py', 'tools/self_train.py'


@dataclass(frozen=True)
class TrainingRun:
    """A model that is trained once.

    Attributes:
        name: names its stages.
        title: for people: 'Train the <title>'.
        config: what it is trained with.
        tool: script that trains it.
        folder: where its logs and checkpoints go.
        world: folder of the dataset.
        seed: of the training.
        overrides: settings of the config to override, ``key=value``.
        flags: more arguments of the training, of the evaluation and of the pictures: where to compute.
        training_flags: more arguments of the training.
        after: names of the stages whose results the training uses.
        inputs: texts or hashes of files that the training depends on beside the config.
        minutes: about how long the training takes.
        trained: a checkpoint from elsewhere that makes the training unnecessary.
    """

    name: str
    title: str
    config: str
    tool: str
    folder: Path
    world: Path
    seed: int
    overrides: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    training_flags: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    minutes: float = 1.0
    trained: Path | None = None

    @property
    def settings(self) -> Config:
        """The config with the overrides, to be read only."""
        return cached_config(self.config, self.overrides)

    @property
    def checkpoint(self) -> Path:
        """The file that the finished training leaves."""
        if self.trained is not None:
            return self.trained
        return self.folder / f'epoch_{self.settings.runner.max_epochs}.pth'

    @property
    def logs(self) -> Path:
        """The folder of the training's log; a self-training has one for each of its trainings, of which the last counts."""
        own = sorted(self.folder.glob('runs/train_*')) if self.tool == SELF_TRAIN else []
        return own[-1] if own else self.folder

    def train(self) -> Stage:
        """The training."""
        command = [self.tool, self.config, '--data-root', str(self.world)]
        command += ['--work-dir', str(self.folder), '--seed', str(self.seed), '--resume', 'auto']
        command += [*self.flags, *self.training_flags]
        if self.overrides:
            command += ['--cfg-options', *self.overrides]
        return Stage(
            self.name,
            f'Train the {self.title}',
            tuple(command),
            (self.checkpoint,),
            after=self.after,
            inputs=(as_text(self.settings), *self.inputs),
            folder=self.folder,
            minutes=self.minutes,
        )

    def evaluate(self, target: Path, minutes: float = 0.2) -> Stage:
        """The evaluation of the last checkpoint.

        Args:
            target: folder that gets ``metrics.json``.
            minutes: about how long it takes.
        """
        command = ('tools/test.py', self.config, str(self.checkpoint), '--eval', 'bbox')
        command += ('--data-root', str(self.world), '--out-dir', str(target), *self.flags)
        return Stage(
            f'evaluate_{self.name}',
            f'Evaluate the {self.title}',
            command,
            (target / 'metrics.json',),
            minutes=minutes,
            **self._needs_checkpoint(),
        )

    def draw(self, target: Path, samples: int, kinds: Sequence[str], minutes: float = 0.15) -> Stage:
        """Pictures of what the trained model sees.

        Args:
            target: their folder.
            samples: how many samples of the validation split.
            kinds: as ``tools/visualize.py`` takes them.
            minutes: about how long it takes.
        """
        command = ('tools/visualize.py', self.config, str(self.checkpoint))
        command += ('--data-root', str(self.world), '--out', str(target), '--samples', str(samples))
        command += ('--kinds', *kinds, '--score-thr', '0.25', *self.flags)
        return Stage(
            f'pictures_{self.name}',
            f'Draw what the {self.title} sees',
            command,
            (target,),
            folder=target,
            minutes=minutes,
            **self._needs_checkpoint(),
        )

    def measure(self, target: Path, minutes: float = 0.5) -> Stage:
        """How close the student's BEV feature came to its teacher's, for a recipe.

        Args:
            target: JSON file that it gets, see :class:`Closeness`.
            minutes: about how long it takes.
        """
        command = ('tools/measure_closeness.py', self.config, str(self.checkpoint), '--out', str(target))
        command += ('--data-root', str(self.world), *self.flags, '--cfg-options', *self.overrides)
        return Stage(
            f'closeness_{self.name}',
            f'Measure how close the {self.title}, came to the teacher',
            command,
            (target,),
            minutes=minutes,
            **self._needs_checkpoint(),
        )

    def _needs_checkpoint(self) -> dict[str, tuple[str, ...]]:
        """``after`` and ``inputs`` of a stage that reads the checkpoint."""
        if self.trained is None:
            return {'after': (self.name,)}
        return {'after': self.after, 'inputs': (hash_file(self.trained), *self.inputs)}


def check_trainings(runs: Iterable[TrainingRun]) -> None:
    """Refuse before the first stage what the config of a later one would be refused for.

    Args:
        runs: trainings; of those with one config the first is looked at.

    Raises:
        UserError: names the key and the mend.
    """
    by_config: dict[str, TrainingRun] = {}
    for run in runs:
        by_config.setdefault(run.config, run)
    for run in by_config.values():
        check_train_config(run.settings, '--no-validate' not in run.training_flags)


@functools.cache
def cached_config(config: str, options: tuple[str, ...] = ()) -> Config:
    """A config with overrides, to be read only.

    Args:
        config: a path from the root of the project or from here, or a bare name.
        options: ``key=value``.
    """
    path = ROOT / config
    return load_config(path if path.is_file() else find_config(config), parse_overrides(options))


def as_text(config: Config) -> str:
    """A config as one text, all its bases included."""
    return json.dumps(config._cfg_dict.to_dict(), sort_keys=True)
