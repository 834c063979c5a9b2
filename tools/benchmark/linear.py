"""Time linear layers of BEVFormer's shapes: python tools/benchmark/linear.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_linear

if __name__ == '__main__':
    launch(parse_linear, 'linear')
