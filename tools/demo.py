"""From nothing to a distilled detector and a report: python tools/demo.py --help."""

from projects.mmdet3d_plugin.studies.demo import main

if __name__ == '__main__':
    main()
