# Prints the CPythons of this machine that are in a range of versions, newest first, as lines of "VERSION PATH".
# usage: sh .setup/find-python.sh LOWEST HIGHEST [PYTHON]     minor versions, such as 7 13; PYTHON: checks only this one
set -eu

lowest=$1 highest=$2 given=${3:-}
HOME=${HOME:-/nonexistent}

# The name is not enough: a pyenv shim called python3.6 may refuse to run, and `python` may be any version.
probe='
import os, platform, sys
v = sys.version_info
if platform.python_implementation() == "CPython" and v[0] == 3 and v[3] == "final" and sys.maxsize > 2 ** 32:
    if int(sys.argv[1]) <= v[1] <= int(sys.argv[2]):
        print("%d.%d.%d %s" % (v[0], v[1], v[2], os.path.realpath(sys.executable)))
'

folders() {
    echo "$PATH" | tr : '\n'
    echo .venv/python36/bin # where environment.sh lets conda install CPython 3.6
    echo /usr/bin
    echo /usr/local/bin
    for root in "${PYENV_ROOT:-}" "$(pyenv root 2>/dev/null || true)" "$HOME/.pyenv"; do
        [ -z "$root" ] || printf '%s\n' "$root"/versions/*/bin
    done
    conda env list 2>/dev/null | sed -n 's|^[^#]*[ *]\(/.*\)$|\1/bin|p' || true
    for root in "$HOME"/miniconda3 "$HOME"/anaconda3 "$HOME"/miniforge3 "$HOME"/mambaforge "$HOME"/.conda /opt/conda; do
        printf '%s\n' "$root"/bin "$root"/envs/*/bin "$root"/pkgs/python-3.*/bin
    done
    printf '%s\n' "$HOME"/.local/share/uv/python/*/bin
}

candidates() {
    if [ -n "$given" ]; then
        command -v "$given" || true
        return
    fi
    folders | awk '!seen[$0]++' | while read -r folder; do
        printf '%s\n' "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9] "$folder"/python3
    done
}

candidates | while read -r python; do
    [ ! -x "$python" ] || "$python" -I -c "$probe" "$lowest" "$highest" </dev/null 2>/dev/null || true
done | awk '!seen[$0]++' | sort -t . -k 2,2nr -k 3,3nr
