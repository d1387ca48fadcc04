#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that wants a GPU, in one command:
#     bench/gpu.sh [--out DIR] [PART ..]
# Parts, the most telling first; a part that has passed is not run again, so a run that was cut off
# goes on where it was, in the middle of a part too (delete DIR/PART.* to run it again):
#     build      configure and build, with the Debian packages in .debs/*.deb, unpacked in build/, if
#                headers are missing
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
    local line
    [ "$device" = simt ] && { echo simt; return; }
    line=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
    grep -oE 'H100|H200|A100|L40S?|B200' <<<"$line" | head -1 | grep . || tr -cs 'A-Za-z0-9\n' '-' <<<"$line"
}

name=$(gpu_name)
out=${out:-bench/results/$(date -u +%Y-%m-%d)-${name:-gpu}}
mkdir -p "$out"
steps=(--set train.epochs=1 --set train.max_steps=5)
python=${GTC_PYTHON:-python3}
packages=$PWD/build/packages

# cuBLAS, cuDNN and NVRTC may be there as packages of that Python alone.
[ -n "${VIRTUAL_ENV:-}" ] || VIRTUAL_ENV=$("$python" -c 'import sys; print(sys.prefix)') && export VIRTUAL_ENV

# once MARK COMMAND ..: what has passed in a part is not run again.
once() {
    local mark=$out/$part.$1.ok
    shift
    [ -e "$mark" ] && return
    "$@" && touch "$mark"
}

unpack() {
    local package
    for package in .debs/*.deb; do
        [ -e "$package" ] || { echo "no headers of cJSON, zlib, xxhash or cmocka, and no .debs"; return 1; }
        dpkg -x "$package" "$packages" || return 1
    done
}

build() {
    local missing=0 header compiler=gcc
    for header in cjson/cJSON.h zlib.h xxhash.h cmocka.h; do
        [ -e "/usr/include/$header" ] || missing=1
    done
    if [ $missing = 1 ]; then
        unpack || return 1
        export CPATH=$packages/usr/include CMAKE_PREFIX_PATH=$packages/usr
    fi
    command -v gcc >/dev/null || compiler=clang
    cmake --preset default -DCMAKE_C_COMPILER="$compiler" &&
        cmake --build build -j "$(nproc)" --target gtc bench-step fuzz_graphs test_simt_zoo test_simt_calls test_dev_cuda test_emit
}

loss_of() {
    build/gtc train models/demo.json --device "$1" "${steps[@]}" --json | tail -1 |
        "$python" -c 'import json,sys; print(json.load(sys.stdin)["train_loss"])'
}

smoke() {
    nvidia-smi || [ "$device" = simt ] || return 1
    build/gtc devices && build/gtc doctor --test-gpu --device "$device" || return 1
    local one other
    one=$(loss_of cpu) && other=$(loss_of "$device") || return 1
    echo "demo, 5 steps: loss $one on the CPU, $other on $device"
    "$python" -c "import sys; sys.exit(not abs($one - $other) <= 1e-4 * abs($one))"
}

apps() {
    command -v make >/dev/null || { echo "no make: apps are left out"; return; }
    GTC=$PWD/build/gtc GTC_BUILD_DIR=$PWD/build build/tests/test_emit
}

zoo() {
    local failed=0
    once models env GTC_GPU_DEVICE="$device" build/tests/test_simt_zoo || failed=1
    once apps apps || failed=1
    once graphs build/fuzz-graphs --device "$device" --count "${GTC_GPU_GRAPHS:-60}" --seed 1 || failed=1
    return $failed
}

sanitizer() {
    local tool model failed=0
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return 1; }
    for tool in memcheck racecheck initcheck synccheck; do
        for model in models/demo.json bench/nets/cnnlstm.json; do
            echo "== $tool $model"
            once "$tool-$(basename "$model" .json)" \
                timeout 240 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
                build/gtc train "$model" --device "$device" "${steps[@]}" || failed=1
        done
    done
    return $failed
}

# compare PEERS NETS ROUNDS; in a GPU's place it is tried out on the CPU.
compare() {
    local peers=$1 on=$device
    if ! "$python" -c 'import jax' 2>/dev/null; then
        echo "no JAX for $python: it is left out"
        peers=${peers%,jax}
    fi
    [ "$device" = simt ] && on=cpu peers=${peers/,graph/}
    "$python" bench/compare.py --gtc build/bench/bench-step --python "$(command -v "$python")" \
        --device "$on" --peers "$peers" --nets "$2" --rounds "$3" --seconds 1 --out "$out/$part" --go-on
}

recurrent() {
    compare eager,graph,jax "${GTC_GPU_NETS:-cnnlstm,lstmattn,anc,gru}" 2
}

others() {
    compare eager,graph,jax "${GTC_GPU_NETS:-mlp,cnn2d,behcnn,xfmr}" 2
}

libraries() {
    local failed=0
    once calls env GTC_GPU_DEVICE="$device" build/tests/test_simt_calls || failed=1
    "$python" bench/libraries.py --gtc build/bench/bench-step --device "$device" --out "$out/$part" \
        --nets "${GTC_GPU_NETS:-mlp,cnnlstm,cnn2d,behcnn,xfmr}" --rounds 2 --go-on || failed=1
    return $failed
}

compiled() {
    compare default "${GTC_GPU_NETS:-cnnlstm,lstmattn,anc,gru,mlp,cnn2d,behcnn,xfmr}" 1
}

status=0
for part in "${parts[@]}"; do
    [ -e "$out/$part.done" ] && continue
    start=$(date +%s)
    if (set -o pipefail; "$part" 2>&1 | tee -a "$out/$part.log"); then
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
