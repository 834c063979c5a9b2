"""Milliseconds per frame of one or several configs: python tools/analysis_tools/benchmark.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_latency

if __name__ == '__main__':
    launch(parse_latency, 'studies.cost.latency')
