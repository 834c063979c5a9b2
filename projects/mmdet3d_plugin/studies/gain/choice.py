"""Which rows were asked for, and whether comparing them is fair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.views import named_teachers
from projects.mmdet3d_plugin.studies.gain.families import Family, Pair, Row
from projects.mmdet3d_plugin.studies.training_run import DISTIL, ROOT, cached_config


@dataclass(frozen=True)
class Choice:
    """What of a pair is to be run.

    Attributes:
        pair: of teacher and student.
        rows: the student alone first, then recipes in the order they were asked for.
    """

    pair: Pair
    rows: tuple[Row, ...]


def choose_rows(family: Family, names: Sequence[str] = ()) -> list[Choice]:
    """Find rows by name; the student alone is always among them, because gains are counted over it.

    Args:
        family: whose rows.
        names: of rows of the family's table, of recipes beside them, or paths of recipes; the whole table by default.

    Raises:
        UserError: a name means nothing, or stands for something that cannot be compared with the others.
    """
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    if doubled:
        raise UserError(f'--rows names {doubled[0]} twice')
    wanted = names or [row.name for pair in family.pairs for row in pair.known]
    chosen: dict[str, list[Row]] = {}
    for name in wanted:
        pair, row = find_row(family, name)
        rows = chosen.setdefault(pair.teacher.name, [pair.student])
        if row is not pair.student:
            require_fairness(pair, row)
            rows.append(row)
    return [Choice(p, tuple(chosen[p.teacher.name])) for p in family.pairs if p.teacher.name in chosen]


def find_row(family: Family, name: str) -> tuple[Pair, Row]:
    """A row and its pair; a recipe that is in no table belongs to the pair whose teacher it names.

    Raises:
        UserError: there is no such row, its config is missing, or its teacher is not of this family.
    """
    for pair in family.pairs:
        for row in pair.known:
            if row.name == name:
                if not (ROOT / row.config).is_file():
                    raise UserError(f'the row {name} needs {row.config}, which is not there')
                return pair, row
    row = _row_of_recipe(family, name)
    taught_by = set(teachers_of(row).values())
    for pair in family.pairs:
        if taught_by and taught_by <= {teacher.config for teacher in pair.teachers}:
            return pair, row
    known = ' or '.join(teacher.config for pair in family.pairs for teacher in pair.teachers)
    names = ' and '.join(sorted(taught_by)) or None
    raise UserError(f'{row.config} is taught by {names}; in the family {family.name} that must be {known}')


def teachers_of(row: Row) -> dict[str, str]:
    """Configs of the teachers of a row's recipe by their names, of an only one under ''; none of a student alone."""
    if row.tool != DISTIL:
        return {}
    teachers = named_teachers(cached_config(row.config).get('distiller', {}).get('teacher', {}))
    return {name: teacher['config'] for name, teacher in teachers.items() if teacher.get('config')}


def _row_of_recipe(family: Family, name: str) -> Row:
    """A row for a recipe that is in no table."""
    path = name if name.endswith('.py') else family.recipe.format(name)
    if not (ROOT / path).is_file():  # else it may be relative to here
        path = str(Path(path).resolve())
    if not (ROOT / path).is_file():
        known = ', '.join(row.name for pair in family.pairs for row in pair.known)
        raise UserError(
            f'there is no row {name}: rows of the family {family.name} are {known}, '
            f'the name of any {family.recipe.format("<name>")}, or the path of a recipe'
        )
    prefix = Path(family.recipe).name.split('{')[0]
    short = Path(path).stem.removeprefix(prefix)
    return Row(short, short.replace('_', ' '), path)


def require_fairness(pair: Pair, row: Row) -> None:
    """Refuse a recipe that trains another student than the pair's, or for another number of steps.

    Raises:
        UserError: what differs.
    """
    alone, taught = cached_config(pair.student.config), cached_config(row.config)
    differences = {
        'model': (alone.model, taught.model),
        'data.samples_per_gpu': (alone.data.samples_per_gpu, taught.data.samples_per_gpu),
        'optimizer': (alone.optimizer, taught.optimizer),
        'lr_config': (alone.lr_config, taught.lr_config),
    }
    unequal = [name for name, (one, other) in differences.items() if one != other]
    if unequal:
        raise UserError(
            f'{row.config} cannot be compared with {pair.student.config}: {" and ".join(unequal)} differ'
        )
