"""What distillation gains: python tools/benchmark/kd_gain.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_kd_gain

if __name__ == '__main__':
    launch(parse_kd_gain, 'measure.kd_gain', 'tools.benchmark')
