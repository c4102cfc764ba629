#!/bin/sh
# Checks the package under PyTorch's CUDA build, on a machine without a GPU: both libraries load, with
# every symbol; the CUDA operators are registered; CPU tensors are served, and others refused.
#
#     tests/cuda_torch.sh [WHEEL]    TORCH=torch==2.14.1 by default, PYTHON=python3
#
# By hand: it downloads 5.6 GB, into a folder that it removes at its end. Without a wheel it builds one
# for one architecture, with nvcc.
set -eu
cd "$(dirname "$0")/.."
wheel=${1:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
if [ "$(df -Pk "$folder" | awk 'NR == 2 {print $4}')" -lt 25000000 ]; then
  echo "$folder: 25 GB must be free; TMPDIR names another place" >&2
  exit 1
fi

"${PYTHON:-python3}" -m venv "$folder/venv"
python="$folder/venv/bin/python"
pip() { "$python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }
# From PyPI alone: a CPU build in another index would be taken for a newer version.
PIP_EXTRA_INDEX_URL='' PIP_FIND_LINKS='' PIP_CONSTRAINT='' \
  pip install --quiet "${TORCH:-torch==2.14.1}" numpy
if [ -z "$wheel" ]; then
  pip install --quiet -c constraints.txt scikit-build-core pybind11 cmake ninja
  PATH="$folder/venv/bin:$PATH" FACENET_EXT_CUDA=ON \
    FACENET_EXT_CUDA_ARCHITECTURES="${FACENET_EXT_CUDA_ARCHITECTURES:-90a-real}" \
    pip wheel --quiet --no-build-isolation --no-deps --wheel-dir "$folder" .
  wheel=$(echo "$folder"/*.whl)
fi
pip install --quiet --no-deps "$wheel"

cd "$folder" # away from the source
"$python" - <<'PYTHON'
import sysconfig
from pathlib import Path

import torch

assert torch.version.cuda is not None, f"torch {torch.__version__} is no CUDA build"
package = Path(sysconfig.get_path("purelib")) / "facenet_ext"
for device, backend in (("cpu", "CPU"), ("cuda", "CUDA")):
    # ctypes resolves every symbol at once.
    torch.ops.load_library(package / f"libfacenet_ext_{device}.so")
    names = {n for n in torch._C._dispatch_get_all_op_names() if n.startswith("facenet_ext::")}
    without = [n for n in names if not torch._C._dispatch_has_kernel_for_dispatch_key(n, backend)]
    assert names and not without, f"no {backend} kernel: {without}"
    print(f"{len(names)} operators for {backend}, torch {torch.__version__}")
PYTHON
"$python" -W error - <<'PYTHON'
import torch

import facenet_ext

info = facenet_ext.build_info()
assert info["cuda"], "the wheel has no CUDA library"
if not torch.cuda.is_available():
    assert not info["cuda_loaded"] and "driver" in info["cuda_problem"], info
x = torch.randn(60, 16, requires_grad=True)
facenet_ext.TripletSemiHardLoss()(x, torch.arange(60) % 7).backward()
assert x.grad.isfinite().all() and x.grad.any()
print(info)
PYTHON
