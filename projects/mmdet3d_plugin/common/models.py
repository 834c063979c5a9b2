"""Build detectors from their configs, and switch them to evaluation temporarily."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from projects.mmdet3d_plugin.common.blame import blamed_on, typed_nodes
from projects.mmdet3d_plugin.common.errors import DAMAGED, UserError
from projects.mmdet3d_plugin.common.suggest import nearest


def build_model(cfg: dict[str, Any], caches: bool = True) -> nn.Module:
    """Build a detector from its config; hosts live in mmdet's registry, mmdet3d's own detectors in mmdet3d's.

    Args:
        cfg: of the detector.
        caches: whether parts with a ``cache_dir`` may read what they computed before. What counts, times or traces a
            detector wants it computed.

    Raises:
        UserError: there is no such detector, or one of its parts cannot be built as the config says.
    """
    from mmdet.models.builder import DETECTORS
    from mmdet3d.models.builder import DETECTORS as DETECTORS_3D

    if not cfg:
        raise UserError('the config has no "model"')
    if 'type' not in cfg:
        raise UserError("model has no 'type': it must name a detector")
    for registry in (DETECTORS, DETECTORS_3D):
        if registry.get(cfg['type']) is not None:
            with blamed_on('model', cfg):
                model = registry.build(cfg)
            for module in model.modules() if not caches else ():
                if hasattr(module, 'cache_dir'):
                    module.cache_dir = None
            return model
    known = {*DETECTORS.module_dict, *DETECTORS_3D.module_dict}
    raise UserError(f'model.type: there is no detector {cfg["type"]!r}; {nearest(cfg["type"], known)}')


def init_model(model: nn.Module, cfg: dict[str, Any]) -> None:
    """Give a detector its initial weights.

    Args:
        model: of ``cfg``.
        cfg: its config, for messages: it names the files of pretrained parts.

    Raises:
        UserError: such a file cannot be read.
    """
    if not hasattr(model, 'init_weights'):
        return
    try:
        model.init_weights()
    except (OSError, RuntimeError, *DAMAGED) as error:
        files = [
            f'{place}.checkpoint={node.get("checkpoint")!r}'
            for place, node in typed_nodes('model', cfg)
            if node['type'] == 'Pretrained'
        ]
        if not files:
            raise
        reason = (
            str(error).partition('\n')[0] if isinstance(error, OSError) else 'damaged, or more than weights'
        )
        raise UserError(
            f'initial weights cannot be loaded ({reason}): look at {", ".join(files)}, or put the file there'
        ) from error


def without_pretrained(model: Any) -> Any:
    """A copy of a model's config in which no part starts from pretrained weights, which would be downloaded.

    Beside ``init_cfg`` these are what a backbone's class names in ``PRETRAINED``. Dicts and tuples keep their kind: mmdet3d
    reads some by attribute and insists on tuples elsewhere.
    """
    from mmdet.models.builder import BACKBONES

    if isinstance(model, Mapping):
        kept = {key: without_pretrained(value) for key, value in model.items()}
        init, kind = kept.get('init_cfg'), kept.get('type')
        if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
            del kept['init_cfg']
        for key in getattr(BACKBONES.get(kind) if isinstance(kind, str) else kind, 'PRETRAINED', ()):
            kept.pop(key, None)
        return type(model)(kept)
    return type(model)(map(without_pretrained, model)) if isinstance(model, list | tuple) else model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a block, and afterwards every module back into the mode it had.

    Example:
        >>> model = nn.Dropout().train()
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
