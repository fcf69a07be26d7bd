# Runs a command with a temporary Docker engine of its own, from Debian's packages. Afterwards it removes everything of
# the engine (socket, data, networks, firewall rules) except the packages. Only where no other engine runs.
# usage: sh .setup/docker-engine.sh COMMAND...      as root on Debian; in COMMAND, DOCKER_HOST names the engine
#        sh .setup/docker-engine.sh --possible      exit code 0: it can be started on this machine
set -eu

say() { echo "stoker: $*" >&2; }

possible() { # checks what the engine needs, not whether it then starts
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ -w /sys/fs/cgroup ] &&
        ! pidof dockerd >/dev/null && ! ip link show docker0 >/dev/null 2>&1 &&
        unshare --mount --net sh -c "ip link add stoker0 type bridge && ip link add stoker1 type veth" 2>/dev/null
}

if [ "$1" = --possible ]; then
    possible || exit 1
    exit 0
fi
possible || {
    say "a temporary engine needs root, Debian's apt-get, the right to make namespaces, and no other engine"
    exit 1
}

work=$(mktemp -d)

install_packages() {
    set --
    command -v dockerd >/dev/null || set -- "$@" docker.io
    command -v docker-compose >/dev/null || set -- "$@" docker-compose
    command -v debootstrap >/dev/null || set -- "$@" debootstrap
    command -v iptables >/dev/null || set -- "$@" iptables
    [ $# != 0 ] || return 0
    say "installing $* ..."
    policy=/usr/sbin/policy-rc.d # Debian runs it to ask whether a service that it has just installed may start
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    else
        policy=
    fi
    export DEBIAN_FRONTEND=noninteractive
    for _ in 1 2; do # a download may be cut
        installed=0
        { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } >"$work/apt.log" 2>&1 </dev/null ||
            installed=1
        [ $installed = 1 ] || break
    done
    [ -z "$policy" ] || rm -f $policy
    [ $installed = 0 ] || { cat "$work/apt.log" >&2; say "installing $* failed: see above"; return 1; }
}

install_packages || { rm -rf "$work"; exit 1; }
forward=$(cat /proc/sys/net/ipv4/ip_forward)
policy=$(iptables -S FORWARD | sed -n 's/^-P FORWARD //p')
export DOCKER_HOST="unix://$work/docker.sock" STOKER_THROW_AWAY_ENGINE=1

clean() { # where one step fails, the others are still done
    set +e
    trap '' HUP INT TERM
    docker swarm leave --force >/dev/null 2>&1
    docker ps --all --quiet 2>/dev/null | xargs -r docker rm --force >/dev/null 2>&1
    docker network prune --force >/dev/null 2>&1
    pid=$(cat "$work/dockerd.pid" 2>/dev/null)
    [ -z "$pid" ] || kill "$pid"
    for _ in $(seq 100); do
        [ -e "$work/dockerd.pid" ] || break
        sleep 0.2
    done
    [ ! -e "$work/dockerd.pid" ] || kill -9 "$pid"
    iptables -P FORWARD "${policy:-ACCEPT}"
    for table in filter nat; do # rules with Docker's names; all others stay
        iptables -t $table -S | grep -E '^-A .*(DOCKER|docker|br-)' | sed 's/^-A/-D/' |
            while read -r rule; do eval "iptables -t $table $rule"; done
        chains=$(iptables -t $table -S | sed -n 's/^-N \(DOCKER.*\)/\1/p')
        for chain in $chains; do iptables -t $table -F "$chain"; done
        for chain in $chains; do iptables -t $table -X "$chain"; done
    done 2>/dev/null
    ip link delete docker0 2>/dev/null
    ip link delete docker_gwbridge 2>/dev/null
    echo "$forward" >/proc/sys/net/ipv4/ip_forward
    awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r | xargs -r -n 1 umount
    if grep -q " $work/" /proc/self/mounts; then
        say "cannot remove $work: something in it is still mounted"
    else
        rm -rf "$work"
    fi
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# in a session of its own: Ctrl-C must reach the command and then `clean`, not the engine
setsid dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 </dev/null &
for attempt in $(seq 360); do
    ! docker version >/dev/null 2>&1 || break
    [ "$attempt" != 360 ] || { tail -n 20 "$work/dockerd.log" >&2; say "the engine did not start in 180 s"; exit 1; }
    sleep 0.5
done
say "a temporary Docker engine runs: $(docker version --format '{{.Server.Version}}')"
status=0
"$@" || status=$?
exit $status
