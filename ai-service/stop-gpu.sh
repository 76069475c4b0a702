#!/usr/bin/env bash
# Front door: `kwela aws stop`.
python=$(dirname "$0")/../.venv/bin/python
[ -x "$python" ] || { echo "stop-gpu.sh: $python is missing: run scripts/install.sh first" >&2; exit 2; }
exec "$python" -m kwela aws stop "$@"
