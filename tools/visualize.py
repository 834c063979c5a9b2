"""Draw what a detector sees: python tools/visualize.py --help."""

from projects.mmdet3d_plugin.studies.visualize import main

if __name__ == '__main__':
    main()
