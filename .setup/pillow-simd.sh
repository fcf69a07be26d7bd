# Builds pillow-simd, which takes Pillow's place, from its pinned sources into an environment: for AVX2 if the CPU of this
# machine has it, else for SSE4. It writes down the CPU's features that it needs, and a worker asks for them when it
# starts (pipeline/requirements.py): on another CPU it would end with "illegal instruction".
# usage: sh .setup/pillow-simd.sh PYTHON HASHES      HASHES: the folder with workers-simd.txt and workers-simd-tools.txt
#        sh .setup/pillow-simd.sh --possible         exit code 0: it can be built here; else, a sentence says why not
set -eu

packages="gcc libc6-dev libjpeg62-turbo-dev zlib1g-dev"
needed="ssse3 sse4_1 sse4_2 popcnt" # of the CPU, for -msse4

say() { echo "stoker: $*" >&2; }

has() { # FEATURE...: whether the CPU has all of them
    flags=$(grep -m 1 '^flags' /proc/cpuinfo)
    for feature in "$@"; do
        echo "$flags" | grep -qw "$feature" || return 1
    done
}

usable() { # whether this machine could run it
    machine=$(uname -m)
    [ "$machine" = x86_64 ] || {
        say "pillow-simd is made for x86-64 only, and this is $machine: use Pillow, without SIMD=1 or WORKER_PILLOW"
        return 1
    }
    has $needed || {
        say "pillow-simd needs a CPU with SSE4, which this one has not: use Pillow"
        return 1
    }
}

has_compiler() { printf '#include <stdio.h>\n#include <jpeglib.h>\n#include <zlib.h>\n' | cc -E - >/dev/null 2>&1; }

usable
if ! has_compiler && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing a compiler and the headers of libjpeg-turbo and zlib ..."
    export DEBIAN_FRONTEND=noninteractive
    for step in 1 2; do
        ! apt-get install -y --no-install-recommends $packages >/dev/null 2>&1 </dev/null || break
        [ $step = 2 ] || apt-get update >/dev/null 2>&1 </dev/null || break
    done
fi
has_compiler || {
    say "pillow-simd is built from its sources, for which this machine lacks a compiler or headers:" \
        "apt-get install -y $packages"
    exit 1
}
[ "$1" != --possible ] || exit 0

python=$1 hashes=$2 options=-msse4
! has avx avx2 || needed="$needed avx avx2" options=-mavx2
"$python" -I -m pip install --no-deps --only-binary :all: --require-hashes -r "$hashes/workers-simd-tools.txt"
export CC="cc $options" MAX_CONCURRENCY="${MAX_CONCURRENCY:-$(nproc)}"
"$python" -I -m pip install --no-deps --no-cache-dir --no-build-isolation --no-binary pillow-simd \
    --require-hashes -r "$hashes/workers-simd.txt"
echo "$needed" >"$("$python" -I -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/pillow_simd.cpu"
