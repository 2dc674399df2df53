#!/usr/bin/env bash
# Runs the README's server and its clients in 10,000 simulated worlds with all faults, each
# fault of scripts/faults.sh that can be simulated in 1,000, and random programs in 2,000.
# Checks that a seed decides everything: the worlds of 1,000 seeds are the same when they
# run twice, in debug and release builds, and on both polling backends. Last, checks that
# the simulation finds the defects of scripts/defects.sh.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
if (($#)); then
    printf 'simulation: unknown argument %s; see %s --help\n' "$1" "$0" >&2
    exit 2
fi

fail() {
    printf 'simulation: %s\n' "$*" >&2
    exit 1
}

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Runs example $1 in the worlds of seeds $2, as built by `cargo run $3...`, and sets `hash`.
# A program that ends with an error has printed why.
run() {
    local output
    output=$(cargo run --quiet --locked --package sim "${@:3}" --example "$1" -- --seeds "$2") || {
        tail -n 12 <<<"$output"
        fail "$1 --seeds $2: a world failed"
    }
    # The server prints its peers.
    output=$(grep -v '^Incoming connection from ' <<<"$output")
    hash=$(sed -n 's/.*; hash \([0-9a-f]*\)$/\1/p' <<<"$output")
    [[ -n $hash ]] || fail "$1 printed no hash"
    summary=$output
}

run ten_messages 0..10000 --release
printf '%s\n' "$summary"

cargo run --quiet --locked --package sim --release --example fault_rows ||
    fail 'fault_rows: a row failed'

poll_backend() {
    RUSTFLAGS='--cfg polling_test_poll_backend' run "$@" --target-dir target/poll
}

# Compares example $1 in the worlds of seeds $2.
compare() {
    local first
    run "$1" "$2" --release
    first=$hash
    run "$1" "$2" --release
    [[ $hash == "$first" ]] || fail "$1: two runs differ: $first and $hash"
    run "$1" "$2"
    [[ $hash == "$first" ]] || fail "$1: the debug build differs: $first and $hash"
    run "$1" "$2"
    [[ $hash == "$first" ]] || fail "$1: two runs of the debug build differ: $first and $hash"
    poll_backend "$1" "$2"
    [[ $hash == "$first" ]] || fail "$1: the poll(2) backend differs: $first and $hash"
    printf '%s --seeds %s: %s in all builds\n' "$1" "$2" "$hash"
}

run swarm 0..2000 --release
printf '%s\n' "$summary"
compare ten_messages 0..1000
compare conversations 0..50
scripts/defects.sh
