"""Measure where a student's BEV feature is close to its teacher's: python tools/measure_closeness.py --help."""

from projects.mmdet3d_plugin.studies.closeness import main

if __name__ == '__main__':
    main()
