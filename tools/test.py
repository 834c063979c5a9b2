"""Evaluate a checkpoint: python tools/test.py --help."""

from projects.mmdet3d_plugin.engine.test import main

if __name__ == '__main__':
    main()
