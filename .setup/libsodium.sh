# Replaces the libsodium of an environment with pyzmq before 27.3 by that of the 27.3 wheel: in older wheels it is
# compiled without optimization, and encryption takes ten times as long. If the newer one cannot be downloaded or
# loaded, nothing changes.
# usage: sh .setup/libsodium.sh PYTHON
set -eu

python=$1
from=pyzmq==27.3.0 platform=manylinux_2_28_$(uname -m)
site=$("$python" -I -c 'import os, zmq; print(os.path.dirname(os.path.dirname(os.path.abspath(zmq.__file__))))')
old=$(echo "$site"/pyzmq.libs/libsodium-*.so.*)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

works() { "$python" -I -c 'import zmq; zmq.curve_keypair()' 2>/dev/null; }

if [ -f "$old" ] && [ ! -L "$old" ] &&
    "$python" -I -m pip download -q --no-deps --only-binary :all: --dest "$work" --python-version 312 \
        --implementation cp --abi cp312 --platform "$platform" $from &&
    "$python" -I -m zipfile -e "$work"/*.whl "$work"; then
    mkdir -p "$site/libsodium"
    cp "$work"/pyzmq.libs/libsodium-*.so.* "$site/libsodium/"
    cp "$old" "$site/libsodium/slow"
    ln -s ../libsodium/"$(basename "$work"/pyzmq.libs/libsodium-*.so.*)" "$work/link"
    mv -f "$work/link" "$old"
    works || mv -f "$site/libsodium/slow" "$old"
fi
