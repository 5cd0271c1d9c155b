#!/bin/bash
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --signal=TERM@120
set -eu
exec onnxseal batch rotate /project/sealed --out /project/rotated --resume --checksum \
    -i "$HOME/.config/onnxseal/id.txt" -r "$(cat /project/recipient.txt)" \
    --jobs "$SLURM_CPUS_PER_TASK" --memory 3G \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --report "/project/reports/rotate-$SLURM_ARRAY_TASK_ID.json"
