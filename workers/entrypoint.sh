#!/bin/sh
# In a worker's container: waits for the keys that the trainer makes at its first start, and starts the workers.
# usage: entrypoint.sh [WORKER ARGUMENT...]
#        entrypoint.sh keys           reads the keys that the trainer's `keys NAME` wrote, from standard input
set -eu

say() { echo "stoker-worker: $*" >&2; }

keys=${KEYS:-/keys/worker}
case ${1:-} in
    -h | --help) exec python -m workers --help ;;
    keys)
        umask 077
        mkdir -p "$keys"
        exec tar -C "$keys" --no-same-owner -xf -
        ;;
esac

limit_s=300
until [ -r "$keys/worker.key_secret" ]; do
    if [ -d "$keys" ] && { [ ! -x "$keys" ] || [ -e "$keys/worker.key_secret" ]; }; then
        say "error: user $(id -u) cannot read the keys: set STOKER_USER as it was at the first start"
        exit 2
    fi
    [ $limit_s != 300 ] || say "waiting for the keys that the trainer makes at its first start"
    if [ $limit_s = 0 ]; then
        say "error: no keys in $keys after 300 s: does the trainer run, and on this host? If it is on another host," \
            "bring its keys here: docs/DOCKER.md, 'On several hosts'"
        exit 2
    fi
    limit_s=$((limit_s - 1))
    sleep 1
done
# what is mounted for reading; where the trainer's container has the pictures, this one has them too
folders="--allow-data /data --allow-data /sample"
case " $* ${STOKER_DATA:+--data}" in
    *" --data"*) folders= ;;
esac
exec python -m workers --connect "tcp://${TRAINER:-trainer:5555}" --keys "$keys" $folders --health-file /tmp/alive "$@"
