"""What a run notes beside its checkpoints: which are its own, what it evaluated, what was best."""

from pathlib import Path
from typing import Any

from projects.mmdet3d_plugin.common.checkpoint import RUN_RECORD, saved_by_run
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, write_json

_BEST = {'best_metric': str, 'best_score': float, 'best_epoch': int}


class RunRecord:
    """The file ``checkpoints.json`` of a run's folder.

    Attributes:
        saved: names of the run's checkpoints, oldest first, those that were removed again left out.
        evaluated: epochs after which it has evaluated.
        best: ``best_metric``, ``best_score`` and ``best_epoch`` of ``evaluation.save_best``, empty before there is one.
    """

    def __init__(self, work_dir: str | Path) -> None:
        self.path = Path(work_dir) / RUN_RECORD
        self.saved: list[str] = []
        self.evaluated: list[int] = []
        self.best: dict[str, Any] = {}

    def load(self) -> 'RunRecord':
        """Read the file, if there is a whole one."""
        self.saved = saved_by_run(self.path.parent) or []
        try:
            content = read_json(self.path)
            self.evaluated = [int(epoch) for epoch in content['evaluated']]
            self.best = {name: kind(content['best'][name]) for name, kind in _BEST.items() if content['best']}
        except (UserError, KeyError, TypeError, ValueError):
            self.evaluated, self.best = [], {}
        return self

    def go_on_from(self, checkpoint: Path | None, epoch: int) -> None:
        """Begin the record of a run: an empty one, or what is there up to a checkpoint of the same folder."""
        self.saved, self.evaluated, self.best = [], [], {}
        if checkpoint is not None and checkpoint.resolve().parent == self.path.parent.resolve():
            self.load()
            name = checkpoint.resolve().name
            self.saved = self.saved[: self.saved.index(name) + 1] if name in self.saved else [name]
            self.evaluated = [number for number in self.evaluated if number <= epoch]
            self.best = self.best if self.best.get('best_epoch', epoch + 1) <= epoch else {}
        self.write()

    def write(self) -> None:
        """Write the file."""
        write_json(self.path, dict(saved=self.saved, evaluated=self.evaluated, best=self.best))
