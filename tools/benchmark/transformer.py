"""Time the whole transformer of BEVFormer: python tools/benchmark/transformer.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_transformer

if __name__ == '__main__':
    launch(parse_transformer, 'measure.transformer', 'tools.benchmark')
