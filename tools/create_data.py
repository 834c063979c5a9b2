"""Turn a folder of a public dataset into info files: python tools/create_data.py --help."""

import sys

from projects.mmdet3d_plugin.datasets.converters.create_data import main

if __name__ == '__main__':
    sys.exit(main())
