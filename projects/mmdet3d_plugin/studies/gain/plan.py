"""Everything that has to be run for a comparison, as stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, read_json
from projects.mmdet3d_plugin.studies.gain.choice import Choice, teachers_of
from projects.mmdet3d_plugin.studies.gain.families import Family, Pair, Row, Scale
from projects.mmdet3d_plugin.studies.stages import Stage
from projects.mmdet3d_plugin.studies.training_run import DISTIL, TrainingRun, as_text, cached_config
from projects.mmdet3d_plugin.worlds.worlds import STAMP

GENERATOR = ('generation', 'version')
"""What a world's stamp says of the tool that made it."""


@dataclass(frozen=True)
class GainOptions:
    """What may be chosen.

    Attributes:
        family: what is compared.
        choices: which rows, by pair.
        scale: how much of everything.
        world_seed: of the world, and of the teacher's training.
        out: folder of everything that is made.
        world: a finished world to use instead of making one.
        teacher: a trained teacher to use instead of training one.
        overrides: settings of all trainings to override, ``key=value``.
    """

    family: Family
    choices: Sequence[Choice]
    scale: Scale
    world_seed: int
    out: Path
    world: Path | None = None
    teacher: Path | None = None
    overrides: tuple[str, ...] = ()

    @property
    def world_folder(self) -> Path:
        """Folder of the dataset."""
        return self.world or self.out / 'world'

    def in_words(self, text: str) -> str:
        """A text with the properties of the world filled in."""
        scale = self.scale
        return text.format(
            world=self.world_folder,
            scenes=scale.scenes,
            frames=scale.frames,
            size=scale.size,
            seed=self.world_seed,
        )

    @property
    def world_in_words(self) -> str:
        """What the world is; one that was made before by the settings that are written in it, or by its folder."""
        if self.world is None:
            return self.in_words(self.family.world.shown)
        if not (self.world / STAMP).is_file():
            return self.world.name
        made = read_json(self.world / STAMP)
        return ', '.join(f'{name} {value}' for name, value in made.items() if name not in GENERATOR)

    def share_of_work(self, epochs: int | None = None) -> float:
        """How much longer something takes than at ``--scale cpu``: its data, times its epochs as a student's there."""
        scale, base = self.scale, self.family.scales['cpu']
        data = scale.scenes * scale.frames / (base.scenes * base.frames)
        return data if epochs is None else data * epochs / base.epochs


@dataclass(frozen=True)
class PlannedPair:
    """The trainings of one pair.

    Attributes:
        choice: the pair and its rows.
        teacher: its training, or the checkpoint that makes it unnecessary.
        students: (row name, seed) -> training.
        others: trainings of further teachers that rows are taught by.
    """

    choice: Choice
    teacher: TrainingRun
    students: dict[tuple[str, int], TrainingRun]
    others: tuple[TrainingRun, ...] = ()

    @property
    def runs(self) -> list[TrainingRun]:
        """The teachers and all students."""
        return [self.teacher, *self.others, *self.students.values()]


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        options: what was chosen.
        pairs: trainings by pair.
    """

    options: GainOptions
    pairs: list[PlannedPair]

    def stages(self) -> list[Stage]:
        """All commands: those that others wait for come first, then each training with what is done with it."""
        stages = self._world_stages()
        for run in (run for pair in self.pairs for run in pair.runs):
            if run.trained is None:
                stages.append(run.train())
            minutes = 0.3 * self.options.share_of_work()
            stages.append(run.evaluate(self.evaluation(run).parent, minutes))
            if run in self._drawn:
                stages.append(run.draw(self.pictures(run), 1, self.options.family.pictures))
            if self.is_measured(run):
                stages.append(run.measure(self.closeness(run)))
        return stages

    def evaluation(self, run: TrainingRun) -> Path:
        """The file that the evaluation of a run leaves."""
        return self.options.out / 'evaluation' / run.name / 'metrics.json'

    def pictures(self, run: TrainingRun) -> Path:
        """The folder of a run's pictures; only the teacher and the first seed have some."""
        return self.options.out / 'pictures' / run.name

    def closeness(self, run: TrainingRun) -> Path:
        """The file that says how close a run's student came to the teacher."""
        return self.options.out / 'closeness' / f'{run.name}.json'

    def is_measured(self, run: TrainingRun) -> bool:
        """Whether it is asked how close a run's student came: recipes of the first seed."""
        first = f'_seed_{self.options.scale.seeds[0]}'
        return self.options.family.closeness and run.tool == DISTIL and run.name.endswith(first)

    @property
    def _drawn(self) -> list[TrainingRun]:
        """Runs that have pictures: the teachers, and the students of the first seed."""
        if not self.options.family.pictures:
            return []
        first = self.options.scale.seeds[0]
        students = [run for pair in self.pairs for (_, seed), run in pair.students.items() if seed == first]
        return [*(run for pair in self.pairs for run in (pair.teacher, *pair.others)), *students]

    def _world_stages(self) -> list[Stage]:
        options, recipe = self.options, self.options.family.world
        if options.world is not None:
            return []
        folder, minutes = options.world_folder, options.share_of_work()
        # filled in word by word: a folder may have spaces in its name
        make, convert = (
            tuple(options.in_words(word) for word in command.split())
            for command in (recipe.make, recipe.convert)
        )
        # the tool itself goes on where it stopped
        made = (folder / recipe.made,)
        world = Stage('world', 'Make a synthetic world', make, made, folder=folder, minutes=minutes)
        if not convert:
            return [world]
        infos = tuple(folder / name for name in recipe.infos)
        return [
            world,
            Stage('infos', 'Make info files', convert, infos, after=('world',), minutes=minutes / 2),
        ]


def make_plan(options: GainOptions) -> Plan:
    """Plan all trainings.

    Raises:
        UserError: the world or the teacher that was named is not there, or the teacher fits several pairs.
    """
    if options.teacher is not None and len(options.choices) > 1:
        names = ' and '.join(choice.pair.teacher.title for choice in options.choices)
        raise UserError(f'--teacher is one file, but the rows need {names}: choose the rows of one of them')
    return Plan(options, [_plan_pair(choice, options) for choice in options.choices])


def _plan_pair(choice: Choice, options: GainOptions) -> PlannedPair:
    """The teacher's training and all students', seed by seed."""
    wanted = {config for row in choice.rows for config in teachers_of(row).values()}
    main, *others = choice.pair.teachers
    teacher = _plan_teacher(main, options, options.teacher)
    more = tuple(_plan_teacher(other, options) for other in others if other.config in wanted)
    students = {
        (row.name, seed): _plan_student(row, seed, choice.pair, (teacher, *more), options)
        for seed in options.scale.seeds
        for row in choice.rows
    }
    return PlannedPair(choice, teacher, students, more)


def _plan_teacher(row: Row, options: GainOptions, trained: Path | None = None) -> TrainingRun:
    scale = options.scale
    return TrainingRun(
        row.name,
        row.title,
        row.config,
        row.tool,
        folder=options.out / 'runs' / row.name,
        world=options.world_folder,
        seed=options.world_seed,
        overrides=_overrides(options, scale.teacher_epochs),
        flags=('--device', scale.device),
        training_flags=('--no-validate',),
        after=_after_world(options),
        inputs=_world_inputs(options),
        minutes=row.minutes * options.share_of_work(scale.teacher_epochs),
        trained=trained,
    )


def _plan_student(
    row: Row, seed: int, pair: Pair, teachers: Sequence[TrainingRun], options: GainOptions
) -> TrainingRun:
    overrides, after, inputs = (
        _overrides(options, options.scale.epochs),
        _after_world(options),
        _world_inputs(options),
    )
    by_config = {teacher.config: teacher for teacher in teachers}
    for name, config in teachers_of(row).items():
        teacher, place = by_config[config], f'teacher.{name}' if name else 'teacher'
        overrides += (f'distiller.{place}.checkpoint={teacher.checkpoint}',)
        inputs += (as_text(teacher.settings),)
        if teacher.trained is None:
            after += (teacher.name,)
        else:
            inputs += (hash_file(teacher.trained),)
    labeller = (cached_config(row.config, overrides).get('self_training') or {}).get('labeller')
    if labeller is not None:
        inputs += (as_text(cached_config(labeller)),)
    if row.goes_on is not None:
        alone = _plan_student(pair.student, seed, pair, teachers, options)
        overrides += (f'{row.goes_on}={alone.checkpoint}',)
        inputs += (as_text(alone.settings),)
        after += (alone.name,)
    return TrainingRun(
        f'{row.name}_seed_{seed}',
        f'{row.title}, seed {seed}',
        row.config,
        row.tool,
        folder=options.out / 'runs' / f'{row.name}_seed_{seed}',
        world=options.world_folder,
        seed=seed,
        overrides=overrides,
        flags=('--device', options.scale.device),
        training_flags=('--no-validate',),
        after=after,
        inputs=inputs,
        minutes=row.minutes * options.share_of_work(options.scale.epochs),
    )


def _overrides(options: GainOptions, epochs: int) -> tuple[str, ...]:
    return (f'runner.max_epochs={epochs}', *options.scale.overrides, *options.overrides)


def _after_world(options: GainOptions) -> tuple[str, ...]:
    if options.world is not None:
        return ()
    return ('infos',) if options.family.world.convert else ('world',)


def _world_inputs(options: GainOptions) -> tuple[str, ...]:
    """Hashes of the info files of a world that was there before."""
    if options.world is None:
        return ()
    files = [options.world / name for name in options.family.world.infos]
    absent = [str(file) for file in files if not file.is_file()]
    if absent:
        raise UserError(
            f'--world {options.world} is no finished world: there is no {" and no ".join(absent)} '
            '(tools/create_data.py makes them)'
        )
    return tuple(hash_file(file) for file in files)
