"""Time the stages of making synthetic scenes: python tools/benchmark/synthetic.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_synthetic

if __name__ == '__main__':
    launch(parse_synthetic, 'synthetic')
