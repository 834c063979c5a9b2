"""AP and APH by Waymo's protocol over plain boxes in JSON: python tools/analysis_tools/waymo_eval.py --help."""

import sys

from projects.mmdet3d_plugin.evaluation.waymo_boxes import main

if __name__ == '__main__':
    sys.exit(main())
