"""What an exported detector costs and finds: python tools/benchmark/deploy.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_deploy

if __name__ == '__main__':
    launch(parse_deploy, 'deploy')
