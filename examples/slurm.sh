#!/bin/bash
# Trains on 4 machines with 8 GPUs each: sbatch examples/slurm.sh path/to/faces runs/faces
#
# srun starts a process for each GPU. Slurm sends SIGTERM before it takes the machines away; the run
# then saves a checkpoint, and the job, queued again, goes on from it with the same command.
#SBATCH --job-name=facenet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

data=${1:?the folder of images, as for --data}
output=${2:?the folder of the run, which all machines see}

srun --kill-on-bad-exit=1 python -m facenet_ext.train --data "$data" --output "$output" --evaluations 50
