"""Time the whole transformer of BEVFormer: python tools/benchmark/transformer.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_transformer

if __name__ == '__main__':
    launch(parse_transformer, 'transformer')
