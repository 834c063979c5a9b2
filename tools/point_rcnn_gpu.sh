#!/usr/bin/env bash
# PointRCNN from a KITTI folder to scores, on a machine with N GPUs and `FORCE_CUDA=1 make setup` behind it: info files,
# the teacher, the 8x student alone and under PointDistiller, each evaluated. Its point operators exist for CUDA only.
#   tools/point_rcnn_gpu.sh DATA_ROOT N [WORK_DIR]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: tools/point_rcnn_gpu.sh DATA_ROOT N [WORK_DIR]" >&2
    exit 2
fi
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
data="$1" processes="$2" out="${3:-work_dirs/point_rcnn}"
python="${PYTHON:-python}"
[ -x "$root/.venv/bin/python" ] && python="$root/.venv/bin/python"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

[ -f "$data/kitti_infos_train.pkl" ] || "$python" "$root/tools/create_data.py" kitti --root-path "$data"

# run TOOL CONFIG NAME [OPTIONS...]: train into OUT/NAME, go on where an earlier run stopped, and evaluate
run() {
    local tool="$1" config="$2" name="$3"
    "$root/tools/$tool.sh" "$config" "$processes" --device cuda --data-root "$data" --work-dir "$out/$name" \
        --resume auto "${@:4}"
    "$root/tools/dist_test.sh" "$config" "$out/$name/latest.pth" "$processes" --device cuda --data-root "$data" \
        --eval bbox --out-dir "$out/$name/eval"
}

run dist_train point_rcnn_kitti.py teacher
run dist_train point_rcnn_kitti_8x.py student
run dist_distill pointdistiller_point_rcnn_kitti_8x.py distilled \
    --cfg-options distiller.teacher.checkpoint="$out/teacher/latest.pth"
