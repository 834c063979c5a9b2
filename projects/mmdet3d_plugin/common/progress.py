"""Progress with an estimate of the time left: a bar on a terminal, a line now and then in a file."""

import datetime
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from projects.mmdet3d_plugin.common.logs import get_logger

T = TypeVar('T')
SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Counts steps of something long.

    Args:
        total: how many steps there are.
        description: what is being done, a few words.
        done: steps that were done in an earlier run.
        enabled: False for processes that should keep quiet.
        seconds: least time between two lines where there is no terminal.
    """

    def __init__(
        self,
        total: int,
        description: str,
        done: int = 0,
        enabled: bool = True,
        seconds: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self.total, self.description, self.enabled, self.seconds = total, description, enabled, seconds
        self.done = self.first = done
        self.start = self.last_line = time.monotonic()
        show_bar = enabled and sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=description, initial=done, dynamic_ncols=True) if show_bar else None

    def step(self, note: str = '') -> None:
        """Count one step.

        Args:
            note: a few words to show beside it, for instance the loss.
        """
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update()
        elif self.enabled and time.monotonic() - self.last_line >= self.seconds:
            self.last_line = time.monotonic()
            get_logger().info(
                '%s %d/%d, ETA %s %s', self.description, self.done, self.total, self.eta(), note
            )

    def eta(self) -> str:
        """Time left at the pace so far, as h:mm:ss."""
        pace = (time.monotonic() - self.start) / max(self.done - self.first, 1)
        return str(datetime.timedelta(seconds=round(pace * (self.total - self.done))))

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


def track(iterable: Iterable[T], total: int, description: str, enabled: bool = True) -> Iterator[T]:
    """Iterate with progress.

    Args:
        iterable: what to go through.
        total: how many items it has.
        description: what is being done, a few words.
        enabled: False for processes that should keep quiet.
    """
    progress = Progress(total, description, enabled=enabled)
    try:
        for item in iterable:
            yield item
            progress.step()
    finally:
        progress.close()
