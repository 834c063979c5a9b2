"""Time what loads a training sample: python tools/benchmark/loader.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_loader

if __name__ == '__main__':
    launch(parse_loader, 'loader')
