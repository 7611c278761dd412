#!/bin/bash
# Trains on two machines with four ranks each; submit it again to resume: sbatch slurm.sh
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

# mpiexec of the MPICH wheel starts the ranks with Slurm's srun, and passes signals on to them. `exec`
# makes sure that Slurm's signal reaches it.
exec "$VENV/bin/mpiexec" -bootstrap slurm -n "$SLURM_NTASKS" \
    "$VENV/bin/d2l-deeprnn" train --resume \
    --corpus "$HOME/texts/my_novel.txt" --num-hiddens 1024 --batch-size 256 \
    --optimizer adam --lr 0.002 --dropout 0.5 --checkpoint-minutes 10 \
    --out "$HOME/runs/novel"
