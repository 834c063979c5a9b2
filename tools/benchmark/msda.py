"""Time deformable attention on BEVFormer's real calls: python tools/benchmark/msda.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_msda

if __name__ == '__main__':
    launch(parse_msda, 'measure.msda', 'tools.benchmark')
