#!/usr/bin/env bash
# Make .venv and install kwela into it from the lock file. Nothing is done where that has been done already.
#
#   scripts/install.sh [dev] [--coreml]      dev: what the tests and checks need too
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements.lock
[ "${1:-}" = dev ] && lock=requirements-dev.lock

if [ ! -x .venv/bin/python ]; then
    python=
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "scripts/install.sh: kwela needs Python 3.11 or newer with the venv module (set PYTHON=/path/to/python)" >&2
        exit 2
    fi
    "$python" -m venv .venv
fi

# The stamp is the hash of what was installed and where from, so an edited lock or a moved checkout installs anew.
stamp=$({ pwd; cat requirements.lock "$lock" pyproject.toml; } | cksum)
if [ "$(cat ".venv/.installed-$lock" 2>/dev/null)" != "$stamp" ]; then
    echo "Installing $lock into .venv ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
    echo "$stamp" > ".venv/.installed-$lock"
fi
