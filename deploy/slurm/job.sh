#!/bin/sh
# One allocation: a trainer on its first node, and a supervisor of worker processes on each of its nodes.
# usage: DATA=/mnt/photos sbatch [OPTION OF SBATCH...] deploy/slurm/job.sh [OPTION OF stoker-train...]
#
# The job's exit code is the trainer's. Submitted again with the same options, or requeued, it goes on from the last
# checkpoint. docs/SLURM.md explains more.
#SBATCH --job-name=stoker
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2
#SBATCH --requeue --open-mode=append --output=stoker-%j.log
#SBATCH --time=1-00:00:00 --signal=B:USR1@60
##SBATCH --gres=gpu:1        a GPU for the trainer, on each node: with one node, no more are reserved than needed
set -eu

# -------------------------------------------- settings: change them here, or set them in front of sbatch: DATA=... sbatch
: "${DATA:?DATA must be the folder of pictures, or the file of rows, at the same path on all nodes}"
[ -d "$DATA" ] && root=$DATA || root=$(dirname "$DATA")
WORKER_DATA=${WORKER_DATA:-$root}                # the folder that workers may read: that of the pictures, or one above it
WORKERS=${WORKERS:-yes}                          # no: no workers in this allocation, only those of workers.sh
WORKER_OPTIONS=${WORKER_OPTIONS:-}               # further options of stoker-worker, such as --allow-generator module:function
SCALE=${SCALE:-}                                 # options of sbatch, such as --partition=preemptible: scale.sh submits and cancels tasks of
                                                 # workers.sh with them, as many as the trainer wants (--max-workers). Empty: it does not
REQUEUE=${REQUEUE:-no}                           # yes: when the time is over before the run is, the job is requeued and goes on
TRAINER_HOST=${TRAINER_HOST:-$SLURMD_NODENAME}   # the trainer's name or address, as the other nodes know it
PORT=${PORT:-$((20000 + SLURM_JOB_ID % 5000 * 2))}  # the trainer's port, others for each job, as jobs may share a node; SCALE uses the next one
JOBS=${JOBS:-$HOME/.stoker-slurm}                # on all nodes the same folder: the keys and the address of each job, while it runs
if [ -x .venv/trainer/bin/python ] && [ -x .venv/workers/bin/python ]; then      # in a checkout, after `make setup`
    TRAIN=${TRAIN:-.venv/trainer/bin/python -m trainer}      # the command of the trainer, and
    WORK=${WORK:-.venv/workers/bin/python -m workers}        # of the workers, with options that are always wanted
    MAKE_KEYS=${MAKE_KEYS:-.venv/trainer/bin/python -m stoker.pipeline.transport.keys}
fi
TRAIN=${TRAIN:-stoker-train} WORK=${WORK:-stoker-worker} MAKE_KEYS=${MAKE_KEYS:-stoker-keys}

# ------------------------------------------------------------------------------------------ keys: for this job alone
job=$JOBS/$SLURM_JOB_ID
(umask 077 && mkdir -p "$job" && $MAKE_KEYS "$job/keys" worker >/dev/null)

# ------------------------------------------------------------------------------------------------------------ trainer
[ -z "$SCALE" ] || set -- --status "127.0.0.1:$((PORT + 1))" "$@"
time_is_over=no
# Before the time limit, Slurm signals this shell alone. With `scancel` and preemption, it signals all processes, so the
# trainer needs no second signal.
trainer=
trap 'time_is_over=yes; [ -z "$trainer" ] || kill -TERM $trainer 2>/dev/null || :' USR1
trap : TERM
$TRAIN "$DATA" --workers 0 --bind "tcp://0.0.0.0:$PORT" --keys "$job/keys" "$@" &
trainer=$!
echo "tcp://$TRAINER_HOST:$PORT" >"$job/address.new"
mv "$job/address.new" "$job/address"

# ------------------------------------------------------------------------------------------------------------ workers
if [ "$WORKERS" != no ]; then
    # SLURM_CPUS_ON_NODE is known on each node. `exec`: a signal reaches the supervisor itself.
    srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        --kill-on-bad-exit=0 --wait=0 sh -c 'exec "$@" --processes "$SLURM_CPUS_ON_NODE"' sh \
        $WORK --connect "tcp://$TRAINER_HOST:$PORT" --keys "$job/keys/workers/worker" --allow-data "$WORKER_DATA" \
        --once $WORKER_OPTIONS &
    workers=$!
fi

if [ -n "$SCALE" ]; then
    export DATA WORKER_DATA WORKER_OPTIONS WORK JOBS
    TRAINER_JOB=$SLURM_JOB_ID sh deploy/slurm/scale.sh "http://127.0.0.1:$((PORT + 1))/status.json" $SCALE &
    scaler=$!
fi

# ---------------------------------------------------------------------------------------------------------------- end
code=running
until [ $code != running ] && ! kill -0 $trainer 2>/dev/null; do # a signal ends `wait` as well
    code=0
    wait $trainer || code=$?
done
[ -z "${scaler:-}" ] || kill "$scaler" 2>/dev/null || : # where Slurm does not track processes by cgroup, it may outlive the job
[ $code = 143 ] || rm -rf "$job" # stopped by a signal: it may be requeued, and workers.sh waits for it
if [ $time_is_over = yes ] && [ $code = 143 ] && [ "$REQUEUE" = yes ]; then
    echo "the time limit is near: the job is requeued, and goes on from its checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
for _ in 1 2 3 4 5 6 7 8 9 10; do # the workers end with the run. Slurm ends those that do not
    [ $code = 0 ] && kill -0 "${workers:-$trainer}" 2>/dev/null || break
    sleep 1
done
exit $code
