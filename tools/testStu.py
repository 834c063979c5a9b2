"""Evaluate the student of a recipe; no teacher is needed: python tools/testStu.py --help."""

from projects.mmdet3d_plugin.engine.test import main

if __name__ == '__main__':
    main()
