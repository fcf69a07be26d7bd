# Prints the name of the base image for a build: the given image, if the engine has it or can pull it. Otherwise, as
# root on Debian, it is a replacement for tests: a minimal Debian with a CPython of this machine, made if necessary.
# usage: sh .setup/base-image.sh IMAGE      such as python:3.6-slim-bullseye
set -eu

image=$1
minor=$(echo "$image" | sed -n 's/.*:3\.\([0-9]*\).*/\1/p')
name=stoker-replacement:3.$minor
authorities=/etc/ssl/certs/ca-certificates.crt # of this machine, which may have one for its own mirror of PyPI

say() { echo "stoker: $*" >&2; }

if docker image inspect "$image" >/dev/null 2>&1 || refused=$(docker pull --quiet "$image" 2>&1); then
    echo "$image"
    exit
fi
if docker image inspect "$name" >/dev/null 2>&1; then
    echo "$name"
    exit
fi
say "no $image ($(echo "$refused" | tail -n 1)): making a replacement for it ..."
python=$(sh .setup/find-python.sh "$minor" "$minor" | head -n 1 | cut -d ' ' -f 2-)
if [ "$(id -u)" != 0 ] || [ -z "$python" ] || ! command -v debootstrap >/dev/null; then
    say "the replacement needs root, debootstrap, and CPython 3.$minor on this machine"
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root prefix=$(dirname "$(dirname "$python")")
. /etc/os-release
debootstrap --variant=minbase --include=ca-certificates,libssl3,libffi8,libsqlite3-0,libreadline8,libbz2-1.0,liblzma5,libexpat1,zlib1g,libncursesw6,libnsl2,libtirpc3,libuuid1,netbase,tzdata \
    "$VERSION_CODENAME" "$root" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man \
    "$root"/usr/share/locale
cp "$authorities" "$root$authorities"
tar -C "$prefix" --exclude='*/test' --exclude=__pycache__ --exclude='*.a' --exclude="lib/python3.$minor/config-*" \
    --exclude='*/site-packages/*' --exclude='*/idlelib' --exclude='*/tkinter' \
    -cf - "bin/python3.$minor" lib include | tar -C "$root/usr/local" -xf -
ln -sf "python3.$minor" "$root/usr/local/bin/python3"
ln -sf python3 "$root/usr/local/bin/python"
chroot "$root" /sbin/ldconfig
chroot "$root" /usr/local/bin/python3 -c 'import ssl, venv, zlib, lzma, bz2, ctypes'
tar -C "$root" --exclude=./etc/resolv.conf -cf - . | docker import \
    --change "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PIP_CERT=$authorities SSL_CERT_FILE=$authorities REQUESTS_CA_BUNDLE=$authorities" \
    --change 'CMD ["python3"]' - "$name" >/dev/null
echo "$name"
