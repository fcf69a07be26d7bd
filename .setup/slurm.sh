# Fetches Slurm from Debian's packages, for tests, and prints the folder in which its programs are. It is unpacked, not
# installed, into the user's cache folder: the machine does not change, and no service starts.
# usage: sh .setup/slurm.sh      on Debian, as root
set -eu

say() { echo "stoker: $*" >&2; }

command -v apt-get >/dev/null && [ -r /etc/os-release ] && [ "$(id -u)" = 0 ] || {
    say "Slurm for the tests comes from Debian's packages, which need root and apt-get"
    exit 1
}
. /etc/os-release
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stoker
slurm=$cache/slurm-$ID-${VERSION_ID:-testing}-$(dpkg --print-architecture)
if [ ! -d "$slurm" ]; then
    say "fetching Slurm into $slurm ..."
    mkdir -p "$cache"
    new=$(mktemp -d "$slurm.XXXXXX") # complete, or not there
    trap 'rm -rf "$new"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    { # with the libraries that are not installed here
        apt-get update -q && cd "$new" && packages=$(apt-get install -q --simulate --no-install-recommends --reinstall \
            slurmctld slurmd slurm-client slurm-wlm-basic-plugins | sed -n 's/^Inst \([^ ]*\) .*/\1/p') &&
            apt-get download -q $packages && for package in *.deb; do dpkg -x "$package" .; done && rm ./*.deb &&
            for program in slurmctld slurmd slurmstepd; do # the -wlm is made an alternative when they are installed
                [ -e usr/sbin/$program ] || ln -s $program-wlm usr/sbin/$program
            done
    } >"$new.log" 2>&1 </dev/null || { cat "$new.log" >&2; rm -f "$new.log"; say "fetching Slurm failed: see above"; exit 1; }
    rm -f "$new.log"
    chmod 755 "$new"
    mv -T "$new" "$slurm" 2>/dev/null || [ -d "$slurm" ] # another run was quicker
fi
echo "$slurm"
