# Makes sure that the images which Stoker's are built on are there: from the engine, from its registry, or, as root on
# Debian, as stand-ins for them: a minimal Debian with a CPython of this machine. Stand-ins are for tests.
# usage: sh .setup/base-images.sh IMAGE...      such as python:3.6-slim-bullseye
set -eu

say() { echo "stoker: $*" >&2; }

authorities=/etc/ssl/certs/ca-certificates.crt # of this machine: a mirror of PyPI may be known to it alone
root=
trap '[ -z "$root" ] || rm -rf "$root"' EXIT

debian() { # a root file system that runs this machine's CPythons
    [ -n "$root" ] && return
    root=$(mktemp -d)
    . /etc/os-release
    debootstrap --variant=minbase --include=ca-certificates,libssl3,libffi8,libsqlite3-0,libreadline8,libbz2-1.0,liblzma5,libexpat1,zlib1g,libncursesw6,libnsl2,libtirpc3,libuuid1,netbase,tzdata \
        "$VERSION_CODENAME" "$root/debian" >"$root/log" 2>&1 || { tail -n 20 "$root/log" >&2; return 1; }
    rm -rf "$root"/debian/var/cache/apt/archives/*.deb "$root"/debian/var/lib/apt/lists/* \
        "$root"/debian/usr/share/doc "$root"/debian/usr/share/man "$root"/debian/usr/share/locale
    cp "$authorities" "$root/debian$authorities"
}

stand_in() { # IMAGE
    minor=$(echo "$1" | sed -n 's/.*:3\.\([0-9]*\).*/\1/p')
    found=$(sh .setup/find-python.sh "$minor" "$minor" | head -n 1 | cut -d ' ' -f 2-)
    [ -n "$found" ] || { say "no CPython 3.$minor on this machine to make a stand-in for $1 of"; return 1; }
    prefix=$(dirname "$(dirname "$found")")
    debian
    rm -rf "$root/image"
    cp -a "$root/debian" "$root/image"
    tar -C "$prefix" --exclude='*/test' --exclude=__pycache__ --exclude='*.a' --exclude="lib/python3.$minor/config-*" \
        --exclude='*/site-packages/*' --exclude='*/idlelib' --exclude='*/tkinter' --exclude='lib/libpython*.so*.orig' \
        -cf - "bin/python3.$minor" lib include | tar -C "$root/image/usr/local" -xf -
    ln -sf "python3.$minor" "$root/image/usr/local/bin/python3"
    ln -sf python3 "$root/image/usr/local/bin/python"
    chroot "$root/image" /sbin/ldconfig
    chroot "$root/image" /usr/local/bin/python3 -m ensurepip >/dev/null 2>&1
    tar -C "$root/image" --exclude=./etc/resolv.conf -cf - . | docker import \
        --change "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PIP_CERT=$authorities SSL_CERT_FILE=$authorities REQUESTS_CA_BUNDLE=$authorities" \
        --change 'CMD ["python3"]' - "$1" >/dev/null
    say "made a stand-in for $1: Debian $VERSION_CODENAME, $(docker run --rm "$1" python3 -V)"
}

for image in "$@"; do
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 || stand_in "$image" ||
        { say "the image $image is neither here nor to be had, nor can a stand-in be made"; exit 1; }
done
