"""The frozen teacher, which no checkpoint, optimizer or ``train()`` ever sees."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import as_config, config_classes
from projects.mmdet3d_plugin.common.files import hash_file
from projects.mmdet3d_plugin.common.models import build_model, init_model, without_pretrained
from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter, adapter_for
from projects.mmdet3d_plugin.distill.registry import TEACHERS, DistillError
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.distill.teachers.observation_cache import ObservationCache
from projects.mmdet3d_plugin.distill.teachers.teacher import Observation, Teacher
from projects.mmdet3d_plugin.distill.views import VIEWS, split_views

logger = logging.getLogger('focaldistiller')


@TEACHERS.register_module()
class FrozenTeacher(Teacher):
    """A trained detector from a config and a checkpoint, always in ``eval()`` and without gradient.

    It is not an ``nn.Module``, so that it cannot become part of one: a distiller that holds it has neither its
    weights in ``state_dict()`` nor its parameters in ``parameters()``, and ``train()`` does not reach it.

    Args:
        config: file of the teacher's config, or the config itself.
        checkpoint: file of its weights. None is an error unless ``random_weights`` says that this is meant.
        view: what it sees: 'native' (its own resize of the original image), 'upsampled' (the student's image
            enlarged, as published), or 'same' (the student's ``img`` (B, T, num_cams, 3, H, W)).
        allow: beginnings of weight names that may be missing, unexpected or of another shape in the checkpoint.
        random_weights: build without weights, for measuring speed and memory.
        guard_every: compare weights and buffers with what was loaded every so many steps; 0 for never.
        cache_dir: folder of an :class:`ObservationCache`, for several runs under one teacher; None keeps nothing.

    Raises:
        DistillError: there is no such config or checkpoint, or they do not fit.
    """

    def __init__(
        self,
        config: str | Mapping,
        checkpoint: str | None = None,
        view: str = 'native',
        allow: Sequence[str] = (),
        random_weights: bool = False,
        guard_every: int = 100,
        cache_dir: str | None = None,
    ) -> None:
        if view not in VIEWS:
            raise DistillError(f"the teacher's view must be one of {VIEWS}, got {view!r}")
        if not isinstance(config, str | Mapping):
            raise DistillError(f"the teacher's config is {config!r}: name a file")
        if isinstance(allow, str):
            raise DistillError(
                f"the teacher's 'allow' must be a list of prefixes, got {allow!r}: say [{allow!r}]"
            )
        if (checkpoint is None) != random_weights:
            raise DistillError("a teacher needs either a 'checkpoint' or random_weights=True")
        if checkpoint is not None and not Path(checkpoint).is_file():
            raise DistillError(
                f"the teacher's checkpoint {str(checkpoint)!r} does not exist; train it or download it first"
            )
        cfg = as_config(config)
        self.checkpoint = checkpoint
        self.sha256 = None if checkpoint is None else hash_file(checkpoint)
        model, trained = _load_model(cfg, checkpoint, allow)
        classes = config_classes(cfg)
        if None not in (classes, trained) and classes != trained:
            raise DistillError(
                f"the teacher's checkpoint {checkpoint} was trained for classes {trained}, its config names {classes}"
            )
        self._hold(model, adapter_for(model), cfg, classes or trained, view, guard_every)
        self._cache = None if cache_dir is None else ObservationCache(cache_dir, model, cfg.model)

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        classes: Sequence[str] | None = None,
        view: str = 'same',
        adapter: HostAdapter | None = None,
        guard_every: int = 100,
    ) -> 'FrozenTeacher':
        """A teacher from a detector that is there already. It is put into ``eval()`` and frozen.

        Args:
            model: the detector, with its weights.
            classes: its class names in label order, where they are to be compared with the student's.
            view: see the class; 'same' unless batches hold the teacher's own view.
            adapter: what knows its host; the one that is registered for its class by default.
            guard_every: see the class.
        """
        teacher = cls.__new__(cls)
        teacher.checkpoint = teacher.sha256 = None
        teacher._hold(model, adapter or adapter_for(model), None, classes, view, guard_every)
        return teacher

    def _hold(
        self,
        model: nn.Module,
        adapter: HostAdapter,
        cfg: Config | None,
        classes: Sequence[str] | None,
        view: str,
        guard_every: int,
    ) -> None:
        """Freeze a detector and remember what it is like."""
        if guard_every < 0:
            raise DistillError(f"the teacher's guard_every must be 0 or more, got {guard_every}")
        self.model, self.adapter, self.cfg, self.view = model.eval().requires_grad_(False), adapter, cfg, view
        self.classes = None if classes is None else list(classes)
        self._guard_every, self._steps = guard_every, 0
        self._cache: ObservationCache | None = None
        self._loaded = _snapshot(self.model)

    @torch.no_grad()
    def observe(self, batch: Mapping[str, Any], taps: Sequence[Tap], device: torch.device) -> Observation:
        """Run on a batch.

        Args:
            batch: a collated batch with the teacher's view, see :func:`split_views`.
            taps: what to record.
            device: where the student lives; the teacher follows it.

        Raises:
            DistillError: the teacher is in training mode, or has changed.
        """
        self._follow(device)
        _, own = split_views(batch, self.view)
        path = self._cache.path(own, taps) if self._cache else None
        if path is not None and (kept := self._cache.read(path, device)) is not None:
            return Observation(*kept, self.adapter.present(self.model, own))
        seen = self._run(own, taps)
        if self._guard_every and self._steps % self._guard_every == 0:
            self.require_unchanged()
        self._steps += 1
        if path is not None:
            self._cache.write(path, seen.features, seen.predictions)
        return seen

    def require_unchanged(self) -> None:
        """Raise when a weight or a buffer differs from what was loaded."""
        now = _snapshot(self.model)
        moved = [name for name, value in self._loaded.items() if not _same(value, now.get(name))]
        moved += [name for name in now if name not in self._loaded]
        if moved:
            raise DistillError(
                f"the teacher's {moved[0]!r} ({len(moved)} in all) changed; a frozen teacher never does"
            )

    def _follow(self, device: torch.device) -> None:
        first = next(self.model.parameters(), None)
        if first is not None and first.device != device:
            self.model.to(device)
            self._loaded = _snapshot(self.model)


def _load_model(
    cfg: Config, checkpoint: str | None, allow: Sequence[str]
) -> tuple[nn.Module, list[str] | None]:
    """Build the detector of a config and load its weights, strictly but for what is allowed by name.

    Returns:
        the detector, and the classes that the checkpoint says it was trained for.
    """
    model = build_model(cfg.get('model') if checkpoint else without_pretrained(cfg.get('model')))
    if checkpoint is None:
        init_model(model, cfg.get('model'))
        return model, None
    content = read_checkpoint(checkpoint)
    logger.info('teacher %s: %s', checkpoint, load_weights(model, content, allow=allow, source=checkpoint))
    trained = content['meta'].get('CLASSES')
    return model, None if trained is None else [trained] if isinstance(trained, str) else list(trained)


def _snapshot(model: nn.Module) -> dict[str, Tensor | tuple[int, int]]:
    """Buffers by value (they are small), parameters by address and edit counter (they are large)."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return buffers | {name: (p.data_ptr(), p._version) for name, p in model.named_parameters()}


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape == new.shape and torch.equal(old, new)
    return type(old) is type(new) and old == new
