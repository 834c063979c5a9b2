"""The end of every report: the commands that made it, the time they took, and the machine."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from projects.mmdet3d_plugin.common.logs import versions
from projects.mmdet3d_plugin.studies.stages import StageRunner, clock
from projects.mmdet3d_plugin.visualization.report import Report


def add_provenance(report: Report, runner: StageRunner, facts: Mapping[str, str]) -> None:
    """How it was made, and on what.

    Args:
        report: that is made.
        runner: of the stages; those that are not finished are left out.
        facts: what else one should know.
    """
    stamps = [(stage, stamp) for stage in runner.stages if (stamp := runner.read_stamp(stage.name))]
    report.heading('How this was made')
    report.commands([stage.shown for stage, _ in stamps])
    times = [[stage.title, clock(stamp['seconds'])] for stage, stamp in stamps]
    report.table(['stage', 'time'], [*times, ['total', clock(sum(stamp['seconds'] for _, stamp in stamps))]])
    report.heading('On what')
    packages = {f'{name} version': version for name, version in versions().items()}
    report.facts({'machine': machine(), **packages, **facts})


def machine() -> str:
    """Processor, usable cores, memory and GPUs in a few words."""
    import torch

    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next(
        (line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine()
    )
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    words = [model, f'{len(os.sched_getaffinity(0))} cores', f'{memory:.0f} GiB', platform.platform()]
    return ', '.join(words + gpus)
