"""Time the dense distillation losses: python tools/benchmark/kd_losses.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_kd_losses

if __name__ == '__main__':
    launch(parse_kd_losses, 'measure.kd_losses', 'tools.benchmark')
