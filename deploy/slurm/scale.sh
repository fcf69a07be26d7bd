#!/bin/sh
# Submits and cancels tasks of workers.sh, so that there are as many workers as the trainer wants. job.sh starts it on the
# trainer's node if SCALE is set. It ends with the run.
# usage: TRAINER_JOB=1234 DATA=/mnt/photos sh deploy/slurm/scale.sh URL [OPTION OF SBATCH...]
# URL: the trainer's --status with /status.json. A token, if it has one: STATUS_TOKEN_FILE=FILE
set -eu

# ---------------------------------------------------------------------------------------------------------- settings
: "${TRAINER_JOB:?TRAINER_JOB must be the number of the job of job.sh, as sbatch --parsable prints it}"
WORKERS_SCRIPT=${WORKERS_SCRIPT:-deploy/slurm/workers.sh}       # the script of a task
PROCESSES=${PROCESSES:-1}                                       # worker processes of a task: its --cpus-per-task
EVERY_S=${EVERY_S:-3}                                           # seconds between two questions to the trainer
STATUS_TOKEN_FILE=${STATUS_TOKEN_FILE:-}

url=$1
shift
name=stoker-workers-$TRAINER_JOB
ask() { # curl reads the header from a file: all users of a host can read command lines
    if [ -n "$STATUS_TOKEN_FILE" ]; then
        printf 'header = "Authorization: Bearer %s"\n' "$(cat "$STATUS_TOKEN_FILE")" | curl -fsS --max-time 5 --config - "$url"
    else
        curl -fsS --max-time 5 "$url"
    fi
}
figure() { # NAME: its value in the status, which is JSON
    printf '%s' "$status" | tr -d '\n' | sed -n 's/.*"'"$1"'": *\([a-z0-9]*\).*/\1/p'
}
failed=0 unanswered=0
while sleep "$EVERY_S"; do
    # without an answer, the trainer is starting, or gone: then its tasks find that out
    if ! status=$(ask 2>/dev/null); then
        [ $((unanswered += 1)) -lt 200 ] || { echo "scale.sh: no answer from $url, 200 times in a row" >&2; exit 1; }
        continue
    fi
    unanswered=0
    [ "$(figure over)" != true ] || exit 0
    wanted=$(figure wanted)
    case $wanted in '' | *[!0-9]*) echo "scale.sh: $url is no status of Stoker" >&2 && exit 1 ;; esac
    wanted=$(((wanted + PROCESSES - 1) / PROCESSES))
    tasks=$(squeue -h -r -n "$name" -t PENDING,RUNNING -o '%t %i' | sort) || continue # PD before R
    have=$(printf '%s' "$tasks" | grep -c . || :)
    if [ "$have" -lt "$wanted" ]; then
        if sbatch --job-name="$name" --array="1-$((wanted - have))" --cpus-per-task="$PROCESSES" "$@" "$WORKERS_SCRIPT"; then
            failed=0
        elif [ $((failed += 1)) = 5 ]; then
            echo "scale.sh: Slurm refused tasks of workers 5 times in a row: see above" >&2
            exit 1
        fi
    elif [ "$have" -gt "$wanted" ]; then
        printf '%s\n' "$tasks" | head -n $((have - wanted)) | while read -r _ task; do scancel "$task" || :; done
    fi
done
