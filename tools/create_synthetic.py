#!/usr/bin/env python3
"""Make a synthetic nuScenes-layout dataset; see --help."""

import sys

from projects.mmdet3d_plugin.worlds.create import main

if __name__ == '__main__':
    sys.exit(main())
