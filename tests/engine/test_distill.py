"""The entry point of distillation; the distiller itself is tested in tests/distill."""

from pathlib import Path

import pytest

from projects.mmdet3d_plugin.engine.distill import distill
from projects.mmdet3d_plugin.engine.errors import UserError
from tests.engine.toy import ONE_PROCESS, toy_config


def test_a_config_without_distiller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has no distiller: recipes are in projects/configs/distiller'):
        distill(toy_config(tmp_path), None, ONE_PROCESS)
