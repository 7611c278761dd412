#!/bin/bash
# Train on two machines with four ranks each: sbatch slurm.sh. Submit it again to resume.
#
# The environment (VENV), the text and --out must be on a file system that all machines share.
#SBATCH --job-name=d2l-deeprnn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue

VENV=$HOME/d2l-venv

# The MPICH wheel's mpiexec starts the ranks with Slurm's srun, and passes signals on to them. With
# `exec`, Slurm's signal reaches mpiexec.
exec "$VENV/bin/mpiexec" -bootstrap slurm -n "$SLURM_NTASKS" \
    "$VENV/bin/d2l-deeprnn" train --resume \
    --corpus "$HOME/texts/my_novel.txt" --num-hiddens 1024 --batch-size 256 \
    --optimizer adam --lr 0.002 --dropout 0.5 --checkpoint-minutes 10 \
    --out "$HOME/runs/novel"
