"""Time lift-splat pooling and its geometry against the original's way: python tools/benchmark/lift_splat.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_lift_splat

if __name__ == '__main__':
    launch(parse_lift_splat, 'lift_splat')
