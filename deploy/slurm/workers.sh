#!/bin/sh
# An array of worker tasks for the trainer of a job of job.sh. Each may be preempted, cancelled or requeued at any time:
# it finishes its step, and the trainer gives the next ones to others.
# usage: TRAINER_JOB=1234 DATA=/mnt/photos sbatch --array=1-8 [OPTION OF SBATCH...] deploy/slurm/workers.sh
#SBATCH --job-name=stoker-workers
#SBATCH --array=1-4 --ntasks=1 --cpus-per-task=1
#SBATCH --requeue --open-mode=append --output=stoker-workers-%A_%a.log
#SBATCH --time=1-00:00:00 --signal=B:TERM@30
##SBATCH --partition=preemptible
set -eu

# -------------------------------------------- settings: change them here, or set them in front of sbatch: DATA=... sbatch
: "${TRAINER_JOB:?TRAINER_JOB must be the number of the job of job.sh, as sbatch --parsable prints it}"
: "${DATA:?DATA must be what the trainer has as DATA, at the same path on all nodes}"
[ -d "$DATA" ] && root=$DATA || root=$(dirname "$DATA")
WORKER_DATA=${WORKER_DATA:-$root}               # the folder that workers may read: that of the pictures, or one above it
WORKER_OPTIONS=${WORKER_OPTIONS:-}              # further options of stoker-worker, such as --allow-generator module:function
WAIT_S=${WAIT_S:-600}                           # seconds to wait for the trainer's address before the task fails
JOBS=${JOBS:-$HOME/.stoker-slurm}               # as for job.sh
[ ! -x .venv/workers/bin/python ] || WORK=${WORK:-.venv/workers/bin/python -m workers}      # in a checkout
WORK=${WORK:-stoker-worker}                     # the command of the workers

job=$JOBS/$TRAINER_JOB
over() { # the trainer's job is not in the queue any more. Without an answer of Slurm, it is not known
    state=$(squeue -h -j "$TRAINER_JOB" -o %T 2>&1) || case $state in *"Invalid job id"*) return 0 ;; *) return 1 ;; esac
    [ -z "$state" ]
}
waited=0
until address=$(cat "$job/address" 2>/dev/null); do
    ! over || { echo "the trainer's job $TRAINER_JOB is over"; exit 0; }
    [ $waited -lt "$WAIT_S" ] || { echo "no trainer wrote its address to $job/address within $WAIT_S s" >&2; exit 1; }
    sleep 5
    waited=$((waited + 5))
done

# The workers wait for the next trainer at their address. So this ends them when the run is over, and moves them when
# the trainer's job was requeued and is on another node now.
follow() {
    seconds=0
    while sleep 5 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 5))
        if [ ! -e "$job/address" ] || { [ $((seconds % 300)) = 0 ] && over; }; then
            kill -TERM $$
            return
        elif [ "$(cat "$job/address")" != "$address" ]; then
            scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" || kill -TERM $$
            return
        fi
    done
}
follow 2>/dev/null &
# `exec`: the signals of Slurm reach the supervisor, which lets each process finish its step
exec $WORK --connect "$address" --processes "${SLURM_CPUS_ON_NODE:-1}" --keys "$job/keys/workers/worker" \
    --allow-data "$WORKER_DATA" $WORKER_OPTIONS
