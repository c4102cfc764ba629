#!/bin/sh
# Installs the nvcc that the wheels are compiled with, from Python packages:
#
#   sh .github/install_nvcc.sh /opt/nvcc     then /opt/nvcc/nvidia/cu13/bin goes on PATH
set -eu
python3 -m pip install --quiet --target "$1" \
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
ln -s lib "$1/nvidia/cu13/lib64" # the packages call it lib, and nvcc looks for the runtime in lib64
