# Runs a command with a throw-away Docker engine, from Debian's packages: its own socket, data and interface rules, and
# none of it is there afterwards, but for the packages. Leaves an engine of this machine alone.
# usage: sh .setup/docker-engine.sh COMMAND...      as root on Debian; in COMMAND, DOCKER_HOST names the engine
#        sh .setup/docker-engine.sh --possible      exit code 0: it can be started on this machine
set -eu

say() { echo "stoker: $*" >&2; }

possible() { # not whether it works: that is for whoever requires it
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && unshare --mount --net true 2>/dev/null
}

if [ "$1" = --possible ]; then
    possible || exit 1
    exit 0
fi
possible || { say "a Docker engine of its own wants root, Debian's apt-get, and the right to make namespaces"; exit 1; }

work=$(mktemp -d)
packages=
command -v dockerd >/dev/null || packages="docker.io"
command -v docker-compose >/dev/null || packages="$packages docker-compose"
command -v debootstrap >/dev/null || packages="$packages debootstrap"
command -v iptables >/dev/null || packages="$packages iptables"
if [ -n "$packages" ]; then
    say "installing $packages ..."
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } >"$work/apt.log" 2>&1 </dev/null ||
        { cat "$work/apt.log" >&2; say "installing $packages failed: see above"; rm -rf "$work"; exit 1; }
fi

iptables-save >"$work/rules" 2>/dev/null || true
forward=$(cat /proc/sys/net/ipv4/ip_forward)
had_bridge=$(ip link show docker0 2>/dev/null || true)
export DOCKER_HOST="unix://$work/docker.sock"

clean() {
    trap '' INT TERM
    docker swarm leave --force >/dev/null 2>&1 || true
    docker ps --all --quiet 2>/dev/null | xargs -r docker rm --force >/dev/null 2>&1 || true
    docker network prune --force >/dev/null 2>&1 || true
    [ ! -e "$work/dockerd.pid" ] || kill "$(cat "$work/dockerd.pid")" 2>/dev/null || true
    for _ in $(seq 100); do
        [ -e "$work/dockerd.pid" ] || break
        sleep 0.2
    done
    awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r -n 1 umount
    echo "$forward" >/proc/sys/net/ipv4/ip_forward
    [ ! -s "$work/rules" ] || iptables-restore <"$work/rules" || true
    if [ -z "$had_bridge" ]; then
        iptables --policy FORWARD ACCEPT 2>/dev/null || true
        ip link delete docker0 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# a session of its own: Ctrl-C is for the command, then for `clean`
setsid dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 </dev/null &
for attempt in $(seq 120); do
    ! docker version >/dev/null 2>&1 || break
    [ "$attempt" != 120 ] || { tail -n 20 "$work/dockerd.log" >&2; say "the engine did not start in 60 s"; exit 1; }
    sleep 0.5
done
say "a Docker engine of its own runs: $(docker version --format '{{.Server.Version}}')"
status=0
"$@" || status=$?
exit $status
