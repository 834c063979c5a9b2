"""Milliseconds per frame of one or several configs: python tools/analysis_tools/benchmark.py --help."""

from projects.mmdet3d_plugin.studies.latency import main

if __name__ == '__main__':
    main()
