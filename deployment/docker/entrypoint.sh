#!/usr/bin/env bash
# Run the command as whoever owns /workspace, so that what training writes there belongs to them and not to root.
# A container started with --user keeps that user. Under rootless Docker the owner shows as root, and root is right.
set -euo pipefail

workspace=${KWELA_WORKSPACE:-/workspace}
[ $# -gt 0 ] || set -- python -m kwela --help

uid=$(stat -c %u "$workspace")
gid=$(stat -c %g "$workspace")
if [ "$(id -u)" != 0 ] || [ "$uid" = 0 ]; then
    exec "$@"
fi

# The owner has no entry in this image's passwd: torch.compile and matplotlib ask for a name and a home all the same.
export USER=kwela LOGNAME=kwela HOME=${TMPDIR:-/tmp}/kwela-home-$uid
mkdir -p "$HOME"
chown "$uid:$gid" "$HOME"
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups -- "$@"
