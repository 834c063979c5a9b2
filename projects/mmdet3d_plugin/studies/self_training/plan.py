"""Pretrain, then mine, derive, train and test, as stages that resume."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config import config_text, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, write_text
from projects.mmdet3d_plugin.datasets.sparse.derived_set import RECORD
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit
from projects.mmdet3d_plugin.engine.self_training.iteration_config import iteration_config, labelled_config
from projects.mmdet3d_plugin.engine.self_training.labeller import load_labeller
from projects.mmdet3d_plugin.engine.self_training.settings import PLACE, SelfTraining
from projects.mmdet3d_plugin.studies.stages import Stage
from projects.mmdet3d_plugin.studies.training_run import DISTIL, ROOT, TRAIN, TrainingRun, as_text

TORCHRUN = ('tools/torchrun.py', '--standalone', '--nproc-per-node')


@dataclass(frozen=True)
class SelfTrainOptions:
    """What may be chosen.

    Attributes:
        config: a detector's config or a recipe, with ``self_training``.
        world: folder of the data and of the files of the sparse split.
        out: folder of everything that is made.
        seed: of all trainings and of the second views.
        processes: of every training, mining and test.
        overrides: settings of the config to override, dotted key -> value.
        flags: more arguments of all commands: where to compute.
        training_flags: more arguments of the trainings.
    """

    config: str
    world: Path
    out: Path
    seed: int = 0
    processes: int = 1
    overrides: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()
    training_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Iteration:
    """One training and what it was made from.

    Attributes:
        number: 0 for the first training, on the labels alone.
        run: the training.
        bank: file of the bank, None for the first.
        labeller: the training of the detector that mines the next bank in place of this one, if there is one.
    """

    number: int
    run: TrainingRun
    bank: Path | None = None
    labeller: TrainingRun | None = None

    @property
    def runs(self) -> tuple[TrainingRun, ...]:
        """All trainings."""
        return (self.run,) if self.labeller is None else (self.run, self.labeller)

    @property
    def miner(self) -> TrainingRun:
        """The training whose detector mines the next bank."""
        return self.labeller or self.run


class SelfTrainPlan:
    """All stages of a self-training. The configs of the trainings are written when it is made.

    Args:
        options: what was chosen.

    Raises:
        UserError: the config has no ``self_training``, the sparse split is not there, or the labeller does not
            fit.
    """

    def __init__(self, options: SelfTrainOptions) -> None:
        if options.processes < 1:
            raise UserError(f'--processes is {options.processes}: ask for at least 1')
        self.options = options
        self.cfg = load_config(options.config, dict(options.overrides or {}), None)
        self.settings = SelfTraining.from_config(self.cfg)
        record = options.world / self.settings.split
        self.split = SparseSplit.read(record)
        self.inputs = (hash_file(record), hash_file(options.world / self.split.frames_file))
        self.cfg = labelled_config(self.cfg, self.split)
        self.config = self._write('self_training', self.cfg)
        self.labeller = load_labeller(self.cfg, self.settings, self.split)
        self.mining_config = self._write('labeller', self.labeller) if self.labeller else self.config
        self.iterations = self._plan_iterations()

    def stages(self) -> list[Stage]:
        """In the order in which they run."""
        stages = []
        for iteration in self.iterations:
            if iteration.bank is not None:
                stages += [self._mine(iteration), self._derive(iteration)]
            for run in iteration.runs:
                if run.trained is None:
                    stages.append(self._many(run.train()))
                stages.append(self._many(run.evaluate(self.evaluation(run).parent)))
        return stages

    def evaluation(self, run: TrainingRun) -> Path:
        """The file that the test of a training leaves."""
        return self.options.out / 'evaluation' / run.name / 'metrics.json'

    def _plan_iterations(self) -> list[Iteration]:
        first = self._run('pretrain', 'first detector', self.cfg, (), self.settings.pretrained)
        labeller = self.labeller and self._run('label_00', 'first labeller', self.labeller, ())
        iterations = [Iteration(0, first, labeller=labeller)]
        for number in range(1, self.settings.iterations + 1):
            before = iterations[-1]
            title = f'detector on bank {number}'
            run = self._train(self.cfg, self.settings, f'train_{number:02d}', title, number, before.run)
            labeller = None
            if self.labeller and number < self.settings.iterations:
                title = f'labeller on bank {number}'
                own = replace(self.settings, epochs=None)  # it trains as long as its own config says
                labeller = self._train(self.labeller, own, f'label_{number:02d}', title, number, before.miner)
            iterations.append(Iteration(number, run, self.bank_folder(number) / 'bank.npz', labeller))
        return iterations

    def _train(
        self,
        cfg: Config,
        settings: SelfTraining,
        name: str,
        title: str,
        number: int,
        before: TrainingRun,
    ) -> TrainingRun:
        """A training on the bank of an iteration."""
        cfg = iteration_config(cfg, settings, self._derived(number), before.checkpoint)
        after, inputs = (f'derive_{number:02d}',), ()
        if settings.start == 'previous':
            # where another detector mines, the bank does not depend on the training before
            after, inputs = _follow(before, after)
        return self._run(name, title, cfg, after, inputs=inputs)

    def bank_folder(self, number: int) -> Path:
        """Where the bank of an iteration lies."""
        return self.options.out / 'banks' / f'{number:02d}'

    def _derived(self, number: int) -> Path:
        return self.options.out / 'derived' / f'{number:02d}'

    def _run(
        self,
        name: str,
        title: str,
        cfg: Config,
        after: tuple[str, ...],
        trained: str | None = None,
        inputs: tuple[str, ...] = (),
    ) -> TrainingRun:
        """A training with a config of its own, as a person could start it; how objects are mined is not its business."""
        own = copy.deepcopy(cfg)
        own.pop(PLACE)
        return TrainingRun(
            name,
            title,
            str(self._write(name, own)),
            DISTIL if cfg.get('distiller') else TRAIN,  # a recipe's student is distilled in every stage
            folder=self.options.out / 'runs' / name,
            world=self.options.world,
            seed=self.options.seed,
            flags=self.options.flags,
            training_flags=self.options.training_flags,
            after=after,
            inputs=(*self.inputs, *inputs),
            trained=None if trained is None else shown_path(Path(trained)),
        )

    def _write(self, name: str, cfg: Config) -> Path:
        """Write a config without bases; it is left alone where it is there already."""
        path = self.options.out / 'configs' / f'{name}.py'
        text = config_text(cfg)
        if not path.is_file() or path.read_text() != text:
            write_text(path, text)
        return path

    def _mine(self, iteration: Iteration) -> Stage:
        """Mining with the detector of the iteration before."""
        before = self.iterations[iteration.number - 1]
        miner, cfg = before.miner, self.labeller or self.cfg
        command = (
            'tools/mine.py',
            str(self.mining_config),
            str(miner.checkpoint),
            '--out',
            str(iteration.bank),
        )
        command += ('--data-root', str(self.options.world), '--iteration', str(iteration.number))
        command += ('--seed', str(self.options.seed), *self.options.flags)
        seen = dict(model=cfg.model, data=cfg.data.test, mine=self.settings.mine.as_plain())
        after, inputs = _follow(miner)
        inputs += (as_text(Config(seen)), *self.inputs)
        if before.bank is not None:
            command += ('--parent', str(before.bank))
            after += (f'mine_{before.number:02d}',)
        stage = Stage(
            f'mine_{iteration.number:02d}',
            f'Mine bank {iteration.number}',
            command,
            (iteration.bank,),
            after=after,
            inputs=inputs,
            folder=iteration.bank.parent,
            minutes=0.4,
        )
        return self._many(stage)

    def _derive(self, iteration: Iteration) -> Stage:
        """The training set of the iteration."""
        folder = self._derived(iteration.number)
        command = ('tools/derive_training_set.py', str(self.config), str(iteration.bank))
        command += ('--out', str(folder), '--data-root', str(self.options.world))
        return Stage(
            f'derive_{iteration.number:02d}',
            f'Derive training set {iteration.number}',
            command,
            (folder / RECORD,),
            after=(f'mine_{iteration.number:02d}',),
            inputs=(str(self.settings.own_scene), *self.inputs),
            folder=folder,
            minutes=0.1,
        )

    def _many(self, stage: Stage) -> Stage:
        """A stage in as many processes as were asked for."""
        if self.options.processes == 1:
            return stage
        return replace(stage, command=(*TORCHRUN, str(self.options.processes), *stage.command))


def _follow(run: TrainingRun, after: tuple[str, ...] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stages and inputs of a stage that takes the weights of a training, which may come from elsewhere."""
    if run.trained is not None:
        return after, (hash_file(run.trained),)
    return (*after, run.name), ()


def shown_path(path: Path) -> Path:
    """A path that commands find too: they run in the root of the project."""
    return path if Path.cwd() == ROOT else path.resolve()
