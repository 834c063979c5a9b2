"""Time deformable attention on BEVFormer's real calls: python tools/benchmark/msda.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_msda

if __name__ == '__main__':
    launch(parse_msda, 'msda')
