"""A detector that stops a process of a run in the ways that real ones stop; its steps say when.

Environment: ``STOP_RANK`` which process, ``STOP_HOW`` 'word' (UserError), 'kill' or 'bug'.
"""

import os
import signal
from typing import Any

from mmdet.models.builder import DETECTORS

from projects.mmdet3d_plugin.common.errors import UserError
from tests.engine.toy import ToyDetector


@DETECTORS.register_module()
class StoppingDetector(ToyDetector):
    """Stops in its third step."""

    steps = 0

    def train_step(self, data: dict[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """One step."""
        self.steps += 1
        if self.steps == 3 and os.environ.get('RANK', '0') in os.environ['STOP_RANK'].split(','):
            how = os.environ['STOP_HOW']
            if how == 'word':
                raise UserError('the image a.jpg is gone: copy it again')
            if how == 'bug':
                raise KeyError('a bug')
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train_step(data, optimizer)
