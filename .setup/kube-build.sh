# Builds a Kubernetes control plane and node from Debian's source package with Debian's Go, once: they stay in the user's
# cache folder. 10 minutes on two cores, and 3 GB of disk until it is done; 0.4 GB stay. apt checks what it downloads.
# usage: sh .setup/kube-build.sh      on Debian 12; prints the folder: bin/ has the programs
set -eu

version=1.20.2 # the newest that a Debian source package builds with what Debian 12 has
package=kubernetes=1.20.5+really1.20.2-1.1+deb12u1
programs="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stoker
made=$cache/kubernetes-$version

say() { echo "stoker: $*" >&2; }

die() {
    say "$@"
    exit 1
}

if [ -d "$made" ]; then
    echo "$made"
    exit
fi
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || die "Kubernetes $version is built from a source package of Debian 12, and this" \
    "is ${PRETTY_NAME:-another system}"
for tool in apt-get dpkg gcc make git; do
    command -v $tool >/dev/null || die "building Kubernetes needs $tool: apt-get install $tool"
done
mkdir -p "$cache"
[ "$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')" -gt 4000000 ] || die "building Kubernetes needs 4 GB in $cache"

work=$(mktemp -d "$cache/.kubernetes-$version-XXXXXX")
clean() {
    chmod -R u+w "$work" # Go's module cache is read-only
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' HUP INT TERM
log=$work/log

# apt with lists of its own, which have the sources, too: the machine's stay as they are
mkdir -p "$work/parts" "$work/lists/partial" "$work/archives/partial" "$work/tools" "$work/home" "$work/made/bin"
for list in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ ! -s $list ] || sed -E 's/^Types: *deb *$/Types: deb deb-src/; s/^deb (.*)/deb \1\ndeb-src \1/' $list \
        >"$work/parts/$(basename $list | sed 's/^sources.list$/sources.list.list/')"
done
apt() {
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache="$work" -o Dir::Cache::archives="$work/archives" -o APT::Sandbox::User=root "$@"
}

build() {
    cd "$work"
    apt update
    apt source --download-only "$package"
    # rsync and its libraries are only for Kubernetes' makefiles
    apt download golang-1.19-go golang-1.19-src rsync libpopt0 libxxhash0
    for deb in ./*.deb; do dpkg -x "$deb" tools; done
    sources=$work/gopath/src/k8s.io/kubernetes
    mkdir -p "$sources"
    tar -xzf kubernetes_*.orig.tar.gz -C "$sources" --strip-components=1
    rm -f ./*.deb ./*.tar.*
    printf '%s\n' "KUBE_GIT_COMMIT='debian'" "KUBE_GIT_TREE_STATE='clean'" "KUBE_GIT_VERSION='v$version'" \
        "KUBE_GIT_MAJOR='1'" "KUBE_GIT_MINOR='20'" >kube-version
    unset GOPATH
    export GOROOT="$work/tools/usr/lib/go-1.19" HOME="$work/home" TMPDIR="$work/home" CGO_ENABLED=0 GOFLAGS="" \
        KUBE_GIT_VERSION_FILE="$work/kube-version" LD_LIBRARY_PATH="$work/tools/usr/lib/x86_64-linux-gnu"
    export PATH="$GOROOT/bin:$work/tools/usr/bin:$PATH"
    cd "$sources"
    git init -q .
    make generated_files
    make WHAT="$(for program in $programs; do printf 'cmd/%s ' "$program"; done)" GOLDFLAGS="-s -w"
    for program in $programs; do cp "_output/bin/$program" "$work/made/bin/"; done
    gcc -static -O2 -o "$work/made/bin/pause" build/pause/linux/pause.c
    cp LICENSE "$work/made/"
}

say "building Kubernetes $version, once: about 10 minutes on two cores; the log is $log ..."
set +e # not `build || ...`, in which the shell would go on after a command that fails
(
    set -e
    build
) >"$log" 2>&1 </dev/null
status=$?
set -e
[ $status = 0 ] || { tail -n 30 "$log" >&2; die "building Kubernetes $version failed: see above"; }
[ -d "$made" ] || mv "$work/made" "$made"
echo "$made"
