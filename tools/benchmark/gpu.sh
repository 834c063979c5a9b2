#!/usr/bin/env bash
# Everything that has a CUDA side, timed on the GPU at hand, within ten minutes: tools/benchmark/gpu.sh
# Writes benchmarks/{msda,kd_losses,lift_splat,transformer,distill_step}_CARD.json, where CARD is h100, h200, ... by the
# GPU's name. mmcv's operator, and whole steps with it as the original takes them, stand beside ours where mmcv was compiled
# with CUDA. What does not end in its share of the time is left out, and named at the end.
set -uo pipefail
usage='usage: tools/benchmark/gpu.sh, without options: it takes ten minutes and writes benchmarks/*_CARD.json'
case "${1-}" in
    '') ;;
    -h | --help) echo "$usage" && exit 0 ;;
    *) echo "$usage" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON=${PYTHON:-python}
[ -x .venv/bin/python ] && PYTHON=.venv/bin/python

CARD=$("$PYTHON" - <<'EOF'
import re

import torch

if not torch.cuda.is_available():
    raise SystemExit('error: there is no GPU that torch sees')
name = torch.cuda.get_device_name()
found = re.search(r'\b[A-Z]+\d+', name)
print((found[0] if found else name.split()[-1]).lower())
EOF
) || exit 2

missing=()
measure() { # NAME SECONDS [OPTIONS]
    local name=$1 seconds=$2
    shift 2
    timeout "$seconds" "$PYTHON" "tools/benchmark/$name.py" --device cuda "$@" \
        --json "benchmarks/${name}_$CARD.json" || missing+=("$name")
}

timeout 240 "$PYTHON" -m projects.mmdet3d_plugin.ops.build || { echo 'the operators cannot be compiled' >&2; exit 1; }
measure msda 90
measure kd_losses 40
measure lift_splat 40
measure transformer 80
measure distill_step 110
if ((${#missing[@]})); then
    echo "not measured: ${missing[*]}" >&2
    exit 1
fi
