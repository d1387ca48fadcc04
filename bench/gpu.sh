#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that wants a GPU, in one command:
#     bench/gpu.sh [--out DIR] [PART ..]
# Parts, the most telling first; a part that has passed is not run again, so a run that was cut off
# goes on where it was (delete DIR/PART.done to run it again):
#     build      configure and build, with the Debian packages in .debs/*.deb if headers are missing
#     smoke      what the machine is; doctor --test-gpu; five steps of the demo on CUDA and CPU
#     zoo        every zoo model's step against the evaluator; fusion bodies; random graphs
#     recurrent  steps of the recurrent nets beside PyTorch, a hand-captured CUDA graph of it, and JAX
#     others     the same of the other nets
#     libraries  steps with calls of cuBLASLt and cuDNN beside own kernels, in both modes
#     sanitizer  compute-sanitizer memcheck, racecheck, initcheck, synccheck over training steps
#     compiled   steps of all nets beside torch.compile
# Each part leaves DIR/PART.log, and the figures lie beside it; the table of parts is printed last.
# GTC_GPU_DEVICE=simt tries the script out on a machine without a GPU.
# Exit status: 0 all parts passed, 1 one failed, 2 usage.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
device=${GTC_GPU_DEVICE:-cuda}
out=""
parts=()
while [ $# -gt 0 ]; do
    case "$1" in
    --out)
        out=${2-}
        shift 2 || { echo "--out wants a folder" >&2; exit 2; }
        ;;
    build | smoke | zoo | sanitizer | recurrent | others | libraries | compiled)
        parts+=("$1")
        shift
        ;;
    *)
        sed -n '3,4p' "$0" >&2
        exit 2
        ;;
    esac
done
[ ${#parts[@]} -gt 0 ] || parts=(build smoke zoo recurrent others libraries sanitizer compiled)

gpu_name() {
    if [ "$device" = simt ]; then
        echo simt
    else
        nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr -c 'A-Za-z0-9\n' '-' |
            grep -oE 'H100|H200|A100|L40S?|B200|[A-Za-z0-9-]+' | head -1
    fi
}

name=$(gpu_name)
out=${out:-bench/results/$(date -u +%Y-%m-%d)-${name:-gpu}}
mkdir -p "$out"
steps=(--set train.epochs=1 --set train.max_steps=5)

build() {
    local missing=0 header
    for header in cjson/cJSON.h zlib.h xxhash.h cmocka.h; do
        [ -e "/usr/include/$header" ] || missing=1
    done
    if [ $missing = 1 ]; then
        for package in .debs/*.deb; do
            [ -e "$package" ] || { echo "no headers of cJSON, zlib, xxhash or cmocka, and no .debs"; return 1; }
            dpkg -x "$package" / || return 1
        done
        ldconfig
    fi
    local compiler=gcc
    command -v gcc >/dev/null || compiler=clang
    cmake --preset default -DCMAKE_C_COMPILER="$compiler" &&
        cmake --build build -j "$(nproc)" --target gtc bench-step fuzz_graphs test_simt_zoo test_simt_calls test_dev_cuda test_emit
}

smoke() {
    nvidia-smi || [ "$device" = simt ] || return 1
    build/gtc devices && build/gtc doctor --test-gpu --device "$device" || return 1
    local on loss first=""
    for on in cpu "$device"; do
        loss=$(build/gtc train models/demo.json --device "$on" "${steps[@]}" --json | tail -1 |
            python3 -c 'import json,sys; print("%.4f" % json.load(sys.stdin)["train_loss"])') || return 1
        echo "demo, 5 steps on $on: loss $loss"
        first=${first:-$loss}
    done
    [ "$loss" = "$first" ]
}

zoo() {
    GTC_GPU_DEVICE=$device build/tests/test_simt_zoo &&
        GTC=$PWD/build/gtc GTC_BUILD_DIR=$PWD/build build/tests/test_emit &&
        build/fuzz-graphs --device "$device" --count "${GTC_GPU_GRAPHS:-100}" --seed 1 --seconds 300
}

sanitizer() {
    local tool failed=0
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return 1; }
    for tool in memcheck racecheck initcheck synccheck; do
        for model in models/demo.json bench/nets/cnnlstm.json; do
            echo "== $tool $model"
            timeout 240 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
                build/gtc train "$model" --device "$device" "${steps[@]}" || failed=1
        done
    done
    return $failed
}

compare() { # PEERS NETS ROUNDS
    local python=${GTC_PYTHON:-python3} peers=$1
    if ! "$python" -c 'import jax' 2>/dev/null; then
        echo "no JAX for $python: it is left out"
        peers=${peers%,jax}
    fi
    "$python" bench/compare.py --gtc build/bench/bench-step --python "$(command -v "$python")" \
        --device "$device" --peers "$peers" --nets "$2" --rounds "$3" --seconds 1 --out "$out/$part"
}

recurrent() {
    compare eager,graph,jax cnnlstm,lstmattn,anc,gru 3
}

others() {
    compare eager,graph,jax mlp,cnn2d,behcnn,xfmr 3
}

libraries() {
    GTC_GPU_DEVICE=$device build/tests/test_simt_calls &&
        python3 bench/libraries.py --gtc build/bench/bench-step --device "$device" --out "$out/$part" \
            --nets "${GTC_GPU_NETS:-mlp,cnnlstm,cnn2d,behcnn,xfmr}"
}

compiled() {
    compare default cnnlstm,lstmattn,anc,gru,mlp,cnn2d,behcnn,xfmr 1
}

status=0
for part in "${parts[@]}"; do
    [ -e "$out/$part.done" ] && continue
    start=$(date +%s)
    if (set -o pipefail; "$part" 2>&1 | tee "$out/$part.log"); then
        echo "$(($(date +%s) - start)) s" >"$out/$part.done"
    else
        status=1
    fi
done
echo
for part in "${parts[@]}"; do
    if [ -e "$out/$part.done" ]; then
        echo "pass $part ($(cat "$out/$part.done"))"
    else
        echo "FAIL $part: $out/$part.log"
    fi
done
exit $status
