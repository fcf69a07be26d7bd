# Fetches programs for tests from Debian's packages, and prints the folder in which they are. They are unpacked, not
# installed, into the user's cache folder: the machine does not change, and no service starts.
# usage: sh .setup/debian-programs.sh slurm|kubernetes-node|chromium|prometheus|tmux|nginx      on Debian, as root
# kubernetes-node: what a node needs beside kubelet and kube-proxy: containerd, runc, network plugins, iptables
# chromium: with two fonts, so that pages look alike on every machine; prometheus: with promtool
set -eu

name=$1

say() { echo "stoker: $*" >&2; }

command -v apt-get >/dev/null && [ -r /etc/os-release ] && [ "$(id -u)" = 0 ] || {
    say "$name for the tests comes from Debian's packages, which need root and apt-get"
    exit 1
}

with_libraries() { # PACKAGE...: prints their names, and those of the libraries that are not installed here
    apt-get install -q --simulate --no-install-recommends --reinstall "$@" | sed -n 's/^Inst \([^ ]*\) .*/\1/p'
}

packages() { # prints their names
    case $name in
        slurm) with_libraries slurmctld slurmd slurm-client slurm-wlm-basic-plugins ;;
        chromium) with_libraries chromium fonts-dejavu-core fonts-inter ;;
        kubernetes-node)
            echo containerd runc containernetworking-plugins iptables libip4tc2 libip6tc2 libnetfilter-conntrack3 \
                libnfnetlink0 libnftnl11 libxtables12 conntrack
            ;;
        tmux) with_libraries tmux ;;
        nginx) with_libraries nginx libnginx-mod-http-echo ;; # echo delays answers
        prometheus) echo prometheus ;; # without what its own pages need
    esac
}

add_links() { # those that installing them makes
    case $name in
        slurm)
            for program in slurmctld slurmd slurmstepd; do
                [ -e usr/sbin/$program ] || ln -s $program-wlm usr/sbin/$program
            done
            ;;
        kubernetes-node)
            for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
                ln -sf xtables-nft-multi usr/sbin/$program
            done
            ;;
    esac
}

fetch() { # into the current folder
    apt-get update -q
    apt-get download -q $(packages)
    for package in *.deb; do dpkg -x "$package" .; done
    rm ./*.deb
    add_links
}

. /etc/os-release
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stoker
made=$cache/$name-$ID-${VERSION_ID:-testing}-$(dpkg --print-architecture)
if [ ! -d "$made" ]; then
    say "fetching the programs of $name into $made ..."
    mkdir -p "$cache"
    new=$(mktemp -d "$made.XXXXXX") # complete, or not there
    trap 'rm -rf "$new" "$new.log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    set +e # not `fetch || ...`, in which the shell would go on after a command that fails
    (
        set -e
        cd "$new"
        fetch
    ) >"$new.log" 2>&1 </dev/null
    status=$?
    set -e
    [ $status = 0 ] || { cat "$new.log" >&2; say "fetching the programs of $name failed: see above"; exit 1; }
    chmod 755 "$new"
    mv -T "$new" "$made" 2>/dev/null || [ -d "$made" ] # another run was quicker
fi
echo "$made"
