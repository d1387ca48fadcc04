#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Random graphs through the fuzzer (docs/testing.md); with sanitizers fewer, as each costs more.
# GTC_FUZZ_COUNT graphs from seed GTC_FUZZ_SEED on.
set -uo pipefail
count=300
[ "${GTC_SANITIZE:-OFF}" = ON ] && count=40
count=${GTC_FUZZ_COUNT:-$count}

out=$("$GTC_BUILD_DIR/fuzz-graphs" --count "$count" --seed "${GTC_FUZZ_SEED:-1}")
rc=$?
printf '%s\n' "$out" | tail -40
last=$(printf '%s\n' "$out" | tail -1)
if ! [[ $last =~ ^([0-9]+)\ graphs,\ ([0-9]+)\ mismatches,\ ([0-9]+)\ refused$ ]]; then
    echo "the last line is not the summary"
    exit 1
fi
graphs=${BASH_REMATCH[1]} refused=${BASH_REMATCH[3]}
said=$(printf '%s\n' "$out" | grep -o '[0-9.]* % undecided, [0-9.]* % loose')
share=$(awk '{ print $1 + $4 }' <<< "$said")
fail() {
    echo "$1"
    exit 1
}
[ $rc -eq 0 ] || fail "exit $rc"
[ "$graphs" -eq "$count" ] || fail "$graphs of $count graphs ran"
[ $((refused * 50)) -le "$count" ] || fail "more than 2 % are refused"
awk -v s="${share:-100}" 'BEGIN { exit !(s <= 2) }' || fail "$share % of the elements say nothing"
