#!/usr/bin/env bash
# Day 1 of the playbook: everything that a fresh GPU machine needs before training. Safe to run again.
usage() {
    cat <<'USAGE'
usage: ./deploy_training.sh [options]

  --idle-hours N         stop the machine after N hours without use (default 2)
  --tensorboard-host H   where TensorBoard listens on port 6006 (default 127.0.0.1; 0.0.0.0: every address)
  --resume-at-boot       go on with a campaign by itself when the machine comes up again
  --dry-run              print the commands, run none

Without systemd or root, the services are left out, and it says so.
Exit status: 0 done, 1 failed, 2 bad usage or a machine that won't do.
USAGE
}
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
root=$(dirname "$here")

refuse() { echo "deploy_training.sh: $1" >&2; exit 2; }

hours=2 host=127.0.0.1 at_boot='' dry_run=''
while [ $# -gt 0 ]; do
    case "$1" in
        --idle-hours | --tensorboard-host)
            [ -n "${2:-}" ] || refuse "$1 needs a value"
            if [ "$1" = --idle-hours ]; then hours=$2; else host=$2; fi
            shift
            ;;
        --resume-at-boot) at_boot=1 ;;
        --dry-run) dry_run=1 ;;
        -h | --help) usage; exit 0 ;;
        *) refuse "$1: unknown option (see --help)" ;;
    esac
    shift
done
[[ $hours =~ ^[0-9]+(\.[0-9]+)?$ && ! $hours =~ ^0+(\.0*)?$ ]] || refuse "--idle-hours $hours: not a positive number"
[[ $host =~ ^[A-Za-z0-9.:-]+$ ]] || refuse "--tensorboard-host $host: not an address"
case "$root" in *[!A-Za-z0-9._/-]*) refuse "$root: systemd wants a path of letters, digits and ._- only" ;; esac

# Under sudo, what is made belongs to the one who called, whom the services run as. cloud-init sets no HOME.
user=()
if [ "$(id -u)" = 0 ] && [ "${SUDO_USER:-root}" != root ]; then
    HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    user=(sudo -u "$SUDO_USER" env "HOME=$HOME" "PATH=$HOME/.local/bin:$PATH")
fi
export HOME="${HOME:-/root}"

run() { # print the command when dry, else run it; what it says is no result of ours
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@" | sed 's/ $//'
        echo
    else
        "$@" >&2
    fi
}
achieved() { [ -n "$dry_run" ] || echo "✓ $1"; }

# 1. What can't be mended here.
[ "$(uname -s)" = Linux ] || refuse "$(uname -s): this sets up Linux machines"
[ -f "$root/pyproject.toml" ] && "${user[@]}" test -w "$root" || refuse "$root: not a checkout that ${SUDO_USER:-$(id -un)} can write"
free=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1000000) }')
[ "$free" -ge 8 ] || refuse "$root: $free GB free, and installing needs 8"
achieved "Prerequisites OK"

# 2. Folders.
run "${user[@]}" mkdir -p datasets/magnatagatune checkpoints/phase_2_5 runs training_logs
achieved "Directories created"

# 3. Python and packages. uv brings a Python without root, where the system's is too old.
new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
find_python() {
    for candidate in "$root/.venv/bin/python" "${PYTHON:-}" python3.12 python3.11 python3; do
        if [ -n "$candidate" ] && new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}
python=$(find_python)
if [ -z "$python" ]; then
    echo "No Python 3.11 or newer here: bringing one with uv ..." >&2
    PATH=$HOME/.local/bin:$PATH
    # One binary in the home folder: what Ubuntu guards its own packages against doesn't apply.
    command -v uv >/dev/null ||
        run "${user[@]}" env PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv ||
        run "${user[@]}" sh -c 'curl -LsSf https://astral.sh/uv/install.sh | sh'
    run "${user[@]}" uv python install 3.12 || refuse "uv brings no Python 3.12: install Python 3.11 or newer, or set PYTHON"
    python=python3.12
    [ -n "$dry_run" ] || python=$("${user[@]}" uv python find 3.12)
fi
run "${user[@]}" env PYTHON="$python" "$root/scripts/install.sh"
python=$root/.venv/bin/python
achieved "Dependencies installed"
if [ -z "$dry_run" ]; then # a driver too old for torch is named now, not on Day 8
    { "${user[@]}" "$python" -m kwela doctor --quick || true; } | grep -A1 '^✗ NVIDIA driver' >&2 || true
fi

# 4. Services.
units=${SYSTEMD_UNITS:-/etc/systemd/system}
left_out=''
sudo=()
if [ "$(id -u)" != 0 ] && [ ! -w "$units" ]; then
    sudo=(sudo -n)
    sudo -n true 2>/dev/null || left_out="no root and no sudo without a password"
fi
[ -d "${SYSTEMD_RUN:-/run/systemd/system}" ] || left_out="systemd doesn't run this machine"
install_unit() {
    local made
    made=$(sed -e "s#@ROOT@#$root#g" -e "s#@PYTHON@#$python#g" -e "s#@HOURS@#$hours#g" -e "s#@HOST@#$host#g" \
        -e "s#@USER@#${SUDO_USER:-$(id -un)}#g" "$root/deployment/systemd/$1")
    if [ -n "$dry_run" ]; then
        echo "write $units/$1"
    elif [ "$made" != "$(cat "$units/$1" 2>/dev/null)" ]; then
        "${sudo[@]}" tee "$units/$1" >/dev/null <<<"$made"
        changed=1
    fi
}
if [ -n "$left_out" ]; then
    echo "✗ Auto-shutdown left out: $left_out; run it by hand: $python -m kwela idle-watch --every 60"
    echo "✗ TensorBoard service left out: $python -m tensorboard.main --logdir $here/runs --port 6006"
else
    changed=''
    services=(kwela-idle-watch.timer kwela-tensorboard.service)
    [ -z "$at_boot" ] || services+=(kwela-campaign.service)
    install_unit kwela-idle-watch.service
    for service in "${services[@]}"; do install_unit "$service"; done
    run "${sudo[@]}" systemctl daemon-reload
    run "${sudo[@]}" systemctl enable --quiet "${services[@]}"
    run "${sudo[@]}" systemctl start kwela-idle-watch.timer
    # A restart only where its unit changed: a second run leaves an open browser alone.
    again=start
    [ -z "$changed$dry_run" ] || again=restart
    run "${sudo[@]}" systemctl "$again" kwela-tensorboard.service
    achieved "Auto-shutdown configured"
fi

# 5. The card.
if [ -n "$dry_run" ]; then
    run "$python" -c 'from kwela.machines import gpu; print("GPU:", gpu.describe())'
else
    "${user[@]}" "$python" -c 'from kwela.machines import gpu; print("GPU:", gpu.describe())'
fi
