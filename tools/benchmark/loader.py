"""Time what loads a training sample: python tools/benchmark/loader.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_loader

if __name__ == '__main__':
    launch(parse_loader, 'measure.loader', 'tools.benchmark')
