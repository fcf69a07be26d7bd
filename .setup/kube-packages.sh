# Fetches what a node of Kubernetes needs beside kubelet and kube-proxy (containerd, runc, network plugins, iptables) from
# Debian's packages, and prints the folder in which it is. It is unpacked, not installed, into the user's cache folder.
# usage: sh .setup/kube-packages.sh      on Debian, as root
set -eu

packages="containerd runc containernetworking-plugins iptables libip4tc2 libip6tc2 libnetfilter-conntrack3 libnfnetlink0
    libnftnl11 libxtables12 conntrack"

say() { echo "stoker: $*" >&2; }

command -v apt-get >/dev/null && [ -r /etc/os-release ] && [ "$(id -u)" = 0 ] || {
    say "a node for the tests comes from Debian's packages, which need root and apt-get"
    exit 1
}
. /etc/os-release
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stoker
node=$cache/kubernetes-node-$ID-${VERSION_ID:-testing}-$(dpkg --print-architecture)
if [ ! -d "$node" ]; then
    say "fetching containerd and network plugins into $node ..."
    mkdir -p "$cache"
    new=$(mktemp -d "$node.XXXXXX") # complete, or not there
    trap 'rm -rf "$new" "$new.log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    {
        apt-get update -q && cd "$new" && apt-get download -q $packages &&
            for package in *.deb; do dpkg -x "$package" . || exit 1; done && rm ./*.deb &&
            for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
                ln -sf xtables-nft-multi usr/sbin/$name || exit 1 # which installing them does
            done
    } >"$new.log" 2>&1 </dev/null || { cat "$new.log" >&2; say "fetching a node's packages failed: see above"; exit 1; }
    chmod 755 "$new"
    mv -T "$new" "$node" 2>/dev/null || [ -d "$node" ] # another run was quicker
fi
echo "$node"
