#!/usr/bin/env bash
# The test suite: at most 10 minutes on 2 cores. --full adds the long runs (every kill-and-resume cell, eight kills each).
#
#   scripts/test.sh [--full] [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install.sh dev

marks=(-m "not full")
if [ "${1:-}" = --full ]; then
    marks=()
    shift
fi
exec .venv/bin/python -m pytest -n 2 --dist worksteal "${marks[@]}" "$@"
