#!/bin/sh
# Makes a Python environment for the peer programs of the benchmarks (scripts/peers).
#
#     scripts/python_env.sh FOLDER        afterwards: FOLDER/bin/python scripts/peers/pytorch_step.py --help
#
# Needs python3 (3.11 or later) with venv. On Linux x86-64, PyPI's PyTorch brings CUDA's libraries along (6 GB on disk), although only the processor is
# measured; PyTorch's own index has a small build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/python_env.sh FOLDER
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
folder=$1
here=$(cd "$(dirname "$0")" && pwd)

[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --disable-pip-version-check --quiet --requirement "$here/requirements.txt"
"$folder/bin/python" - <<'CHECK'
import onnxruntime
import torch

print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, {torch.backends.cpu.get_cpu_capability()}")
CHECK
