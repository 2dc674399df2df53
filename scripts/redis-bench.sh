#!/usr/bin/env bash
# Compares the example resp with redis-server, by redis-benchmark with 16 pipelined
# requests, in interleaved rounds, and prints the ratio of the medians. redis-server
# runs without persistence. Needs redis-server and redis-benchmark; without them,
# says so.
#
#   scripts/redis-bench.sh [ROUNDS [REQUESTS]]
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi

readonly ROUNDS=${1:-5} REQUESTS=${2:-200000}

scratch=$(mktemp -d)
pids=()

fail() {
    printf 'redis-bench: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    local pid
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

for tool in redis-server redis-benchmark; do
    command -v "$tool" >/dev/null || {
        printf 'SKIPPED: %s is not installed\n' "$tool"
        exit 0
    }
done

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# In this folder, wherever the user's own builds go.
cargo build --quiet --release --locked --target-dir target --package reactor --example resp

# Waits until file $1, the output of process $2, has a line that matches $3.
await_line() {
    local tries
    for ((tries = 0; tries < 400; tries++)); do
        ! grep -q -- "$3" "$1" || return 0
        kill -0 "$2" 2>/dev/null || break
        sleep 0.05
    done
    fail "no server: $(tail -n 3 "$1")"
}

target/release/examples/resp 127.0.0.1:0 >"$scratch/resp" 2>&1 &
pids+=("$!")
await_line "$scratch/resp" "$!" '^Listening on '
declare -A port=([resp]=$(sed -n 's/^Listening on .*://p' "$scratch/resp"))

# redis-server cannot take a free port by itself: this one was free a moment ago.
target/release/examples/resp 127.0.0.1:0 >"$scratch/free" 2>&1 &
free=$!
await_line "$scratch/free" "$free" '^Listening on '
port[redis-server]=$(sed -n 's/^Listening on .*://p' "$scratch/free")
kill -TERM "$free"
wait "$free" || true
redis-server --bind 127.0.0.1 --port "${port[redis-server]}" --save '' --appendonly no \
    --dir "$scratch" >"$scratch/redis" 2>&1 &
pids+=("$!")
await_line "$scratch/redis" "$!" 'Ready to accept connections'

for ((round = 0; round < ROUNDS; round++)); do
    for server in redis-server resp; do
        redis-benchmark -h 127.0.0.1 -p "${port[$server]}" -P 16 -t set,get -n "$REQUESTS" --csv \
            2>/dev/null | sed -n 's/^"\([SG]ET\)","\([0-9]*\)[."].*/\1 \2/p' >"$scratch/round"
        (($(wc -l <"$scratch/round") == 2)) || fail "no figures of $server"
        while read -r test rate; do
            printf '%d\n' "$rate" >>"$scratch/$server.$test"
        done <"$scratch/round"
    done
done

median() {
    sort -n "$1" | sed -n "$(((ROUNDS + 1) / 2))p"
}

printf 'Requests a second, 16 pipelined, median of %d rounds:\n' "$ROUNDS"
printf '%-4s  %12s  %12s  %5s\n' '' redis-server resp ratio
for test in SET GET; do
    theirs=$(median "$scratch/redis-server.$test") ours=$(median "$scratch/resp.$test")
    printf '%-4s  %12d  %12d  %2d.%02d\n' "$test" "$theirs" "$ours" \
        $((ours / theirs)) $((100 * ours / theirs % 100))
done
