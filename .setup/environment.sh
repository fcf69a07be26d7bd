# Makes one of the environments under .venv/, or does nothing when it is there and its pins have not changed.
# usage: sh .setup/environment.sh NAME [storage] [tests] [lint] [metrics]      from the repository's root
# NAME: trainer, workers, build, same-pillow, workers-simd, ray, horovod, kube, stores, or a bench-*; its pins are in NAME.txt
# beside this file
#
# The stamp of an environment is .installed/, a copy of every pin file that is installed. It is written last, and moved
# away while something is added. So an installation that failed or was interrupted is made again from the start.
set -eu

name=$1
shift
env=.venv/$name
log=.venv/$name.log
case $name in # the environment whose pins it shares
    workers-simd | ray) base=workers ;;
    bench-tensorpack | horovod) base=trainer ;;
    *) base=$name ;;
esac
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0

say() { echo "stoker: $*" >&2; }

die() {
    say "$@"
    exit 1
}

installed() { cmp -s ".setup/$1.txt" "$env/.installed/$1.txt" && [ -x "$env/bin/python" ]; }

# Once more where a download was cut: pip itself repeats only what brings no answer. A file that was cut without an error
# has another hash.
cut='IncompleteRead|Connection broken|ConnectionResetError|Connection aborted|[Tt]imed out|DO NOT MATCH THE HASHES'
pip() {
    for try in first last; do
        before=$(wc -l <"$log")
        ! "$env/bin/python" -I -m pip "$@" >>"$log" 2>&1 </dev/null || return 0
        [ $try = first ] && tail -n +$((before + 1)) "$log" | grep -qE "$cut" || return 1
        sleep 5
    done
}

# --no-deps and then `pip check`: a dependency that is not pinned is an error, never whatever is newest today.
install() { pip install --no-deps "$@" && pip check; }

# The pins of NAME, as arguments of pip: it takes no file with another hash. Those of the benchmarks have none.
pins() { # NAME
    if [ -f ".setup/hashes/$1.txt" ]; then
        echo "--require-hashes -r .setup/hashes/$1.txt"
    else
        echo "-r .setup/$1.txt"
    fi
}

create() { # VERSION PYTHON: makes the environment with its pins. If that fails, $log has the output of pip
    say "creating $env with CPython $1 ..."
    rm -rf "$env"
    "$2" -I -m venv "$env" >"$log" 2>&1 </dev/null || return 1
    case $name in
        trainer | bench-tensorpack)
            # Two of the trainer's dependencies exist only as sources: they need the build tools before them.
            pip install $(pins trainer-tools) && pip install --no-deps $(pins trainer) && install $(pins "$name") ||
                return 1
            sh .setup/libsodium.sh "$env/bin/python" >>"$log" 2>&1 || return 1
            ;;
        horovod)
            pip install $(pins trainer-tools) && install $(pins trainer) &&
                sh .setup/libsodium.sh "$env/bin/python" >>"$log" 2>&1 &&
                sh .setup/horovod.sh "$env/bin/python" >>"$log" 2>&1 && pip check || return 1
            ;;
        workers-simd)
            # without the pin of Pillow, and the hashes in the lines behind it
            sed '/^pillow==/,/[^\\]$/d' .setup/hashes/workers.txt >.venv/without-pillow.txt
            pip install --no-deps --only-binary :all: --require-hashes -r .venv/without-pillow.txt || return 1
            rm .venv/without-pillow.txt
            sh .setup/pillow-simd.sh "$env/bin/python" .setup/hashes >>"$log" 2>&1 && pip check || return 1
            ;;
        ray)
            pip install --no-deps --only-binary :all: $(pins workers) &&
                install --only-binary :all: $(pins "$name") || return 1
            ;;
        *) install --only-binary :all: $(pins "$name") || return 1 ;;
    esac
    stamp "$2"
}

stamp() {
    mkdir "$env/.installed.new"
    echo "$1" >"$env/.installed.new/python"
    cp ".setup/$base.txt" "$env/.installed.new/"
    [ "$base" = "$name" ] || cp ".setup/$name.txt" "$env/.installed.new/"
    mv "$env/.installed.new" "$env/.installed"
}

create_with_newest() { # reads lines of "VERSION PYTHON", makes the environment with the first that works; or fails
    while read -r version python; do
        if create "$version" "$python"; then
            return 0
        fi
        say "CPython $version ($python) cannot be used: $(grep -i error "$log" | tail -n 1)"
    done
    return 1
}

find_python36() { sh .setup/find-python.sh 6 6 "${PYTHON36:-}" | head -n 1; }

install_python36() { # with the first of these tools that is there and can do it; fails if none can
    for tool in pyenv micromamba mamba conda; do
        command -v $tool >/dev/null || continue
        case $tool in
            pyenv) set -- install -s 3.6.15 ;;
            *)
                rm -rf .venv/python36 # left by an interrupted installation
                set -- create --yes --prefix "$PWD/.venv/python36" --override-channels --channel conda-forge
                set -- "$@" python=3.6
                ;;
        esac
        say "found no CPython 3.6, which TensorFlow 1.9.0 needs: installing it with \`$tool $*\` (this takes" \
            "some minutes) ..."
        if "$tool" "$@" >"$log" 2>&1 </dev/null && [ -n "$(find_python36)" ]; then
            return
        fi
        say "$tool could not install CPython 3.6: $(tail -n 1 "$log")"
    done
    return 1
}

make_trainer() {
    [ -z "${PYTHON36:-}" ] || [ -n "$(find_python36)" ] || die "PYTHON36=$PYTHON36 is not a CPython 3.6 that runs."
    [ -n "$(find_python36)" ] || install_python36 ||
        die "CPython 3.6 is needed, and none was found: TensorFlow 1.9.0 has no wheels for newer ones. Install it" \
            "with \`pyenv install 3.6.15\` or \`conda create -n py36 python=3.6\`, or use Docker's python:3.6-slim." \
            "If make does not find it then, set PYTHON36=/path/to/python3.6."
    found=$(find_python36)
    create "${found%% *}" "${found#* }" || { cat "$log" >&2; die "creating $env failed: see pip's output above."; }
}

make_workers() {
    found=$(sh .setup/find-python.sh 6 99 "${WORKER_PYTHON:-}")
    [ -n "$found" ] || [ -z "${WORKER_PYTHON:-}" ] ||
        die "WORKER_PYTHON=$WORKER_PYTHON is not a CPython >= 3.6 that runs."
    newer=$(echo "$found" | grep -v '^3\.6\.' || true)
    if [ -n "$newer" ] && echo "$newer" | create_with_newest; then
        return
    fi
    if [ -n "${WORKER_PYTHON:-}" ] && [ -n "$newer" ]; then
        cat "$log" >&2
        die "creating $env with WORKER_PYTHON=$WORKER_PYTHON failed: see pip's output above."
    fi
    say "found no usable CPython newer than 3.6, which would decode 2 to 3 times faster: the workers use the" \
        "trainer's environment (after installing one: rm .venv/workers)"
    rm -rf "$env"
    ln -s trainer "$env"
    cp .setup/workers.txt "$env/.installed/"
}

make_build() { # with the trainer's Python, whose own environment needs a setuptools that is too old to build Stoker
    create 3.6 .venv/trainer/bin/python || { cat "$log" >&2; die "creating $env failed: see pip's output above."; }
}

make_same_pillow() {
    none=.venv/no-same-pillow # so that not every `make test` searches for such a Python again
    ! cmp -s .setup/same-pillow.txt $none || exit 0
    if ! sh .setup/find-python.sh 7 10 | create_with_newest; then
        say "no usable CPython 3.7 to 3.10: tests that need two Pythons with the same Pillow are skipped"
        rm -rf "$env"
        cp .setup/same-pillow.txt $none
    fi
}

make_workers_simd() {
    why=$(sh .setup/pillow-simd.sh --possible 2>&1) || missing "$(echo "$why" | sed -n '$s/^stoker: //p')"
    found=$(sh .setup/find-python.sh 10 99 "${WORKER_PYTHON:-}")
    [ -n "$found" ] ||
        missing "pillow-simd needs CPython 3.10 or newer, and none was found${WORKER_PYTHON:+ as $WORKER_PYTHON}"
    echo "$found" | create_with_newest || missing "pillow-simd could not be built: see $log"
}

make_horovod() { # with the trainer's Python
    say "building Horovod, unless it was built before (a minute on two cores) ..."
    create 3.6 .venv/trainer/bin/python || missing "Horovod cannot be installed: $(tail -n 1 "$log")"
}

make_other() { # tensorpack's with CPython 3.6, the others with the newest CPython for which their pins have wheels
    case $name in
        bench-tensorpack) range="6 6" ;;
        *) range="11 99" ;;
    esac
    sh .setup/find-python.sh $range | create_with_newest ||
        missing "cannot make $env: .setup/$name.txt cannot be installed for any CPython 3.${range% *} to" \
            "3.${range#* } of this machine"
}

missing() { # fails with this sentence, which benchmarks and tests that need this environment print again
    rm -rf "$env"
    echo "$*" >"$env.missing"
    die "$@"
}

other_python_asked() { # WORKER_PYTHON or PYTHON36 names another interpreter than the one of this environment
    case $name in
        trainer) asked=${PYTHON36:-} range="6 6" ;;
        workers) asked=${WORKER_PYTHON:-} range="6 99" ;;
        workers-simd) asked=${WORKER_PYTHON:-} range="10 99" ;;
        *) return 1 ;;
    esac
    [ -n "$asked" ] || return 1
    [ "$(sh .setup/find-python.sh $range "$asked" | cut -d ' ' -f 2-)" != "$(cat "$env/.installed/python")" ]
}

mkdir -p .venv
if command -v flock >/dev/null; then # a second `make` would remove what the first one is making
    exec 9<.venv
    flock -n 9 || { say "waiting for another make in this folder ..." && flock 9; }
fi
rm -f "$env.missing"
if ! installed "$name" || ! installed "$base" || other_python_asked; then
    case $name in
        trainer) make_trainer ;;
        build) make_build ;;
        workers) make_workers ;;
        same-pillow) make_same_pillow ;;
        workers-simd) make_workers_simd ;;
        horovod) make_horovod ;;
        ray | kube | stores | bench-*) make_other ;;
        *) die "there is no environment $name" ;;
    esac
fi

case " $* " in
    *" tests "*) set -- storage "$@" ;; # the Keras of the tests needs its h5py
esac
for tools in "$@"; do
    if ! installed "$tools"; then
        say "adding the tools of .setup/$tools.txt to $env ..."
        : >"$log"
        rm -rf "$env/.installed.new"
        mv "$env/.installed" "$env/.installed.new"
        install --only-binary :all: -c ".setup/$base.txt" $(pins "$tools") ||
            { cat "$log" >&2; die "adding $tools to $env failed: see pip's output above."; }
        cp ".setup/$tools.txt" "$env/.installed.new/"
        mv "$env/.installed.new" "$env/.installed"
    fi
done
