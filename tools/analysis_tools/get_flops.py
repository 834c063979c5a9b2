"""Parameters, multiply-accumulates and memory of a config's model: python tools/analysis_tools/get_flops.py --help."""

from projects.mmdet3d_plugin.studies.complexity import main

if __name__ == '__main__':
    main()
