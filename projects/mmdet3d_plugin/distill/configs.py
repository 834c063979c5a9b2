"""Read what the distiller needs to know from the configs of teacher and student."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.distill.registry import DistillError


def read_config(config: str | Mapping) -> Config:
    """Read a config file (relative to the working directory), or take a config as it is."""
    if not isinstance(config, str):
        return config if isinstance(config, Config) else Config(dict(config))
    if not Path(config).is_file():
        raise DistillError(f"the config {config!r} does not exist; paths count from the repository's root")
    return Config.fromfile(config)


def classes_of(cfg: Config) -> list[str] | None:
    """The class names of a config, in the order of its labels; None when it does not say."""
    names = cfg.get('class_names')
    if names is None and cfg.get('data') is not None and cfg.data.get('train') is not None:
        names = innermost_dataset(cfg.data.train).get('classes')
    return None if names is None else list(names)


def innermost_dataset(dataset: Any) -> Any:
    """The dataset config inside wrappers such as ``RepeatDataset``."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
