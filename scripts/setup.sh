#!/usr/bin/env bash
# Sets up development in .venv: system libraries (apt, when root), the package with all extras and
# the development tools, at the versions of constraints.txt. Does nothing, and needs no network,
# when all of it is there already.
#
#   PYTHON=python3.12     interpreter to build .venv with (3.11 or newer)
#   SYSTEM_LIBS=no        leave system libraries alone; enough for everything without a window
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
STAMP=$VENV/.napari-ood-setup

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    local install=(apt-get install -y -q --no-install-recommends -o Acquire::Retries=3)
    export DEBIAN_FRONTEND=noninteractive
    say "installing with apt: $*"
    # The package lists of a fresh machine are empty or old: get them once, then try again.
    { "${install[@]}" "$@" >/dev/null 2>&1 ||
        { apt-get update -q && "${install[@]}" "$@"; }; } </dev/null >&2
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or newer (looked for ${PYTHON:-python3, python3.11 … python3.14})"
}

install_system_libraries() {
    local missing
    missing=$("$1" src/napari_ood/doctor/libraries.py)
    [ -z "$missing" ] && return
    # shellcheck disable=SC2086  # one word per package
    if can_apt; then
        apt_install $missing
        missing=$("$1" src/napari_ood/doctor/libraries.py)
    fi
    # shellcheck disable=SC2086
    [ -z "$missing" ] || die "system libraries are missing. Install these Debian packages (or what" \
        "your distribution calls them), or set SYSTEM_LIBS=no to do without windows:" \
        "sudo apt install" $missing
}

make_venv() {
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$1" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
        can_apt || die "$1 cannot make virtual environments: sudo apt install $package"
        apt_install "$package"
    fi
    "$1" -m venv --clear "$VENV"
}

# What the set-up depends on. The folder counts: a virtual environment does not survive a move.
fingerprint() { { cat pyproject.toml constraints.txt; pwd -P; } | cksum; }

is_set_up() { "$VENV/bin/python" -c '' 2>/dev/null && [ "$(cat "$STAMP" 2>/dev/null)" = "$(fingerprint)" ]; }

python=$(find_python)
[ "${SYSTEM_LIBS:-}" = no ] || install_system_libraries "$python"
is_set_up && exit 0

# A broken or foreign .venv is rebuilt, a good one (e.g. before a change of pyproject.toml) kept.
"$VENV/bin/python" -m pip --version >/dev/null 2>&1 || make_venv "$python"
say "installing the package and its dependencies into $VENV (a few minutes the first time)"
pip=("$VENV/bin/python" -m pip --disable-pip-version-check --no-input install --quiet)
"${pip[@]}" --upgrade "pip>=25.1" </dev/null # the first to know --group
"${pip[@]}" -c constraints.txt -e ".[all]" --group dev </dev/null
fingerprint >"$STAMP"
say "done: $VENV/bin/napari-ood"
