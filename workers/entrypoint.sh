#!/bin/sh
# In a worker's container: waits for the keys that the trainer makes when it is first started, and becomes the workers.
# usage: entrypoint.sh [WORKER ARGUMENT...]
#        entrypoint.sh keys           takes in the keys that the trainer's `keys NAME` wrote, from standard input
set -eu

keys=${KEYS:-/keys/worker}
if [ "${1:-}" = keys ]; then
    mkdir -p $keys
    exec tar -C $keys --no-same-owner -xf -
fi

limit_s=300
until [ -e $keys/worker.key_secret ]; do
    [ $limit_s != 300 ] || echo "stoker-worker: waiting for the keys that the trainer makes at its first start" >&2
    if [ $limit_s = 0 ]; then
        echo "stoker-worker: error: no keys in $keys after 300 s: is the trainer there, and on this host? If it is on" \
            "another one, bring its keys here: README, 'On several hosts'" >&2
        exit 2
    fi
    limit_s=$((limit_s - 1))
    sleep 1
done
exec python -m workers --connect "tcp://${TRAINER:-trainer:5555}" --keys $keys --health-file /tmp/alive "$@"
