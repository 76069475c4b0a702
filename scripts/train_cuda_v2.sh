#!/usr/bin/env bash
# The V2 pipeline in one command: manifests -> Spectocloud and the MIDI generator -> ONNX (and Core ML) in exports/.
usage() {
    cat <<'USAGE'
usage: scripts/train_cuda_v2.sh [options]

  --audio-root DIR     audio files; with --midi-root, manifests are built first
  --midi-root DIR      MIDI files, matched to the audio by name
  --data-mount DIR     a data folder to mount too (Docker), at its own path
  --epochs N           for both models
  --skip-build         use the image (Docker) or .venv (local) as it is
  --skip-manifests     use data/manifests as it is
  --skip-spectocloud   --skip-midi   --skip-export
  --docker | --local   default: Docker if its daemon and the NVIDIA runtime answer, else local
  --demo               about 120 real pieces, both models, pictures and a table, in minutes on two CPU cores
  --dry-run            print the commands, run none

examples:
  scripts/train_cuda_v2.sh --demo
  scripts/train_cuda_v2.sh --audio-root /data/audio --midi-root /data/midi
With no manifests in data/manifests it trains on a small synthetic set: a smoke test, not music.
Exit status: 0 done, 1 failed, 2 bad usage or input, 75 interrupted with a checkpoint (run it again).
USAGE
}
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

refuse() { echo "train_cuda_v2.sh: $1" >&2; exit 2; }

audio_root= midi_root= data_mount= epochs= place= dry_run= demo=
build=1 manifests=1 spectocloud=1 midi=1 export=1
while [ $# -gt 0 ]; do
    case "$1" in
        --audio-root | --midi-root | --data-mount | --epochs)
            [ -n "${2:-}" ] || refuse "$1 needs a value"
            name=${1#--} value=$2
            # A relative folder means the caller's, not the repository's.
            case "$1:$value" in --epochs:* | *:/*) ;; *) value=$here/$value ;; esac
            printf -v "${name//-/_}" %s "$value"
            shift
            ;;
        --skip-build) build= ;;
        --skip-manifests) manifests= ;;
        --skip-spectocloud) spectocloud= ;;
        --skip-midi) midi= ;;
        --skip-export) export= ;;
        --local | --docker) place=${1#--} ;;
        --dry-run) dry_run=1 ;;
        --demo) demo=1 ;;
        -h | --help) usage; exit 0 ;;
        *) refuse "$1: unknown option (see --help)" ;;
    esac
    shift
done

[ -n "$audio_root" ] && [ -z "$midi_root" ] && refuse "--audio-root needs --midi-root"
[ -n "$midi_root" ] && [ -z "$audio_root" ] && refuse "--midi-root needs --audio-root"
[ -n "$demo" ] && [ -n "$audio_root" ] && refuse "--demo brings its own music: leave out --audio-root and --midi-root"
[ -n "$epochs" ] && ! [[ $epochs =~ ^[1-9][0-9]*$ ]] && refuse "--epochs $epochs: not a positive whole number"
for folder in "$audio_root" "$midi_root" "$data_mount"; do
    [ -z "$folder" ] || [ -d "$folder" ] || [ -n "$dry_run" ] || refuse "$folder: no such folder"
done

if [ -z "$place" ]; then
    if docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q nvidia; then
        place=docker
        echo "Training in Docker (its daemon and the NVIDIA runtime answer; --local trains without it)"
    else
        place=local
        echo "Training on this machine, without Docker (no Docker daemon with the NVIDIA runtime answers)"
    fi
fi

set -m # each command has a process group of its own, so that Ctrl-C too reaches it once: from `run`
run() { # print the command when dry, else run it
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@" | sed 's/ $//'
        echo
        return
    fi
    # In the foreground, bash would hold a signal back until the command has ended; a training has to save and go.
    local child="" asked="" status=0
    trap 'asked=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT HUP
    "$@" &
    child=$!
    [ -z "$asked" ] || kill -TERM "$child" # asked before the child had a number
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do
        status=0
        wait "$child" || status=$?
    done
    trap - TERM INT HUP
    return "$status"
}

image=kmidi-cuda-train:v2
python=(.venv/bin/python)
if [ "$place" = docker ]; then
    # Data keeps its host path inside, so manifests hold on both sides.
    mounts=()
    for folder in "$audio_root" "$midi_root" "$data_mount"; do
        [ -z "$folder" ] || mounts+=(-v "$folder:$folder:ro")
    done
    python=(docker run --rm --gpus all ${CUDA_VISIBLE_DEVICES+-e CUDA_VISIBLE_DEVICES} --ipc=host --shm-size=8g -v "$PWD:/workspace" "${mounts[@]}" -w /workspace "$image" python)
    [ -z "$build" ] || run docker build -f deployment/docker/Dockerfile.cuda -t "$image" .
else
    before=$SECONDS
    [ -z "$build" ] || run scripts/install.sh
    install_seconds=$((SECONDS - before))
fi

kwela() { run "${python[@]}" -m kwela "$@"; }

if [ -n "$demo" ]; then
    kwela demo ${install_seconds:+--install-seconds "$install_seconds"} ${epochs:+--epochs "$epochs"}
    exit
fi

gpus=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU ' || true)
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then # of those, what CUDA shows the training; "" and -1 hide them all
    visible=$(tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -cv -e '^$' -e '^-1$' || true)
    [ "$visible" -ge "$gpus" ] || gpus=$visible
fi
train() { # family, checkpoint folder
    local status=0 note=checkpoints/$2/status.json
    if [ "$gpus" -gt 1 ]; then
        [ -n "$dry_run" ] || rm -f "$note" # what an earlier run left there is not this one's to relay
        run "${python[@]}" -m torch.distributed.run --standalone --nproc_per_node="$gpus" \
            -m kwela train "$1" ${epochs:+--epochs "$epochs"} || status=$?
        # torchrun turns every failure into 1; the run's own status stands beside its checkpoints.
        if [ "$status" = 1 ] && grep -q '"exit_status": 75' "$note" 2>/dev/null; then status=75; fi
    else
        kwela train "$1" ${epochs:+--epochs "$epochs"} || status=$?
    fi
    [ "$status" = 0 ] || exit "$status"
}

[ -z "$manifests" ] || [ -z "$audio_root" ] || kwela manifests --audio-root "$audio_root" --midi-root "$midi_root"
[ -z "$spectocloud" ] || train spectocloud spectocloud
[ -z "$midi" ] || train midi midi_generator
[ -z "$export" ] || [ -z "$spectocloud$midi" ] || kwela export ${spectocloud:+--spectocloud checkpoints/spectocloud/best.pt} \
    ${midi:+--midi-generator checkpoints/midi_generator/best.pt}
