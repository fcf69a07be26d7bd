# Installs Horovod 0.19.5 with gloo, and what it needs, into an environment with TensorFlow 1.9 on CPython 3.6. Then
# `horovodrun` lies beside the environment's python.
# usage: sh .setup/horovod.sh PYTHON      PYTHON: the environment's
#
# There is no wheel: this builds one from the sources, in a minute on two cores, and keeps it in the user's cache folder
# for the next environment. One line of gloo does not compile with Linux headers of 2022 and later: it is changed.
set -eu

python=$1
pins=$(dirname "$0")/hashes/horovod.txt
version=$(sed -n 's/^horovod==\([0-9.]*\).*/\1/p' "$pins")
cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/stoker
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "stoker: $*" >&2; }

die() {
    say "$@"
    exit 1
}

pip() { "$python" -I -m pip --disable-pip-version-check "$@" </dev/null; }

needed_tools() { # prints those that are missing
    for tool in cmake make gcc g++; do
        command -v $tool >/dev/null || printf ' %s' $tool
    done
}

build() { # writes the wheel to $work/wheel
    missing=$(needed_tools)
    if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing$missing ..."
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >&2 </dev/null || true
        missing=$(needed_tools)
    fi
    [ -z "$missing" ] ||
        die "Horovod is built from its sources, and this machine lacks$missing: apt-get install cmake make gcc g++"
    say "building Horovod $version with gloo (this takes a minute) ..."
    sed -n '/^horovod==/,/[^\\]$/p' "$pins" >"$work/pin.txt"
    pip download -q --no-deps --no-binary :all: --no-build-isolation --require-hashes -r "$work/pin.txt" -d "$work"
    tar -xzf "$work/horovod-$version.tar.gz" -C "$work"
    # the query of a network interface's speed, which only log lines of gloo show: left out on every kernel
    linux=$work/horovod-$version/third_party/gloo/gloo/common/linux.cc
    sed -i '/^static int getInterfaceSpeedGLinkSettings/{n;s/KERNEL_VERSION(4,6,0)/KERNEL_VERSION(99,0,0)/;}' "$linux"
    grep -q 'KERNEL_VERSION(99,0,0)' "$linux" || die "the sources of Horovod $version have no line to be changed"
    # CC, CXX: the compiler's name that CPython was built with may be another one, which this machine lacks
    CC=gcc CXX=g++ MAKEFLAGS="-j$(nproc)" HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_TENSORFLOW=1 \
        HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
        "$python" -I -m pip --disable-pip-version-check wheel --no-deps --no-build-isolation -w "$work/wheel" \
        "$work/horovod-$version" >"$work/build.log" 2>&1 </dev/null ||
        { cat "$work/build.log" >&2; die "building Horovod $version failed: see above"; }
}

works() { # it is installed, in this version, and can be loaded
    "$python" -I -c 'import sys, horovod, horovod.tensorflow as hvd
assert horovod.__version__ == sys.argv[1] and hvd.gloo_built(), horovod.__version__' "$version" 2>"$work/import.log"
}

! works || exit 0

built_for=$("$python" -I -c 'import os, tensorflow as tf
libc = os.confstr("CS_GNU_LIBC_VERSION").replace(" ", "-")
print("tensorflow-%s-%s-%s" % (tf.__version__, os.uname().machine, libc))' 2>"$work/import.log") ||
    die "$python has no TensorFlow, for which Horovod is built: $(tail -n 1 "$work/import.log")"
sed '/^horovod==/,/[^\\]$/d' "$pins" >"$work/others.txt"
pip install -q --no-deps --only-binary :all: --require-hashes -r "$work/others.txt" ||
    die "the packages that Horovod needs cannot be installed: see above. An old pip does not find them:" \
        "$python -m pip install pip==21.3.1"
kept=$cache/horovod-$version-gloo-$built_for
if [ -d "$kept" ]; then
    pip install -q --no-deps --force-reinstall "$kept"/*.whl && works && exit 0
    say "the wheel in $kept cannot be used: $(tail -n 1 "$work/import.log")"
fi
build
pip install -q --no-deps --force-reinstall "$work"/wheel/*.whl
works || { cat "$work/import.log" >&2; die "Horovod $version was built, and cannot be imported: see above"; }
# moved there when it is complete; a folder that cannot be written to is no error
if mkdir -p "$cache" 2>/dev/null && new=$(mktemp -d "$cache/new.XXXXXX" 2>/dev/null); then
    cp "$work"/wheel/*.whl "$new"
    chmod 755 "$new"
    rm -rf "$kept"
    mv -T "$new" "$kept" || rm -rf "$new"
fi
