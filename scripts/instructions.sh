#!/usr/bin/env bash
# Counts the user-space instructions that the servers take to echo 64 bytes, with
# 1 connection and with 64, by callgrind: the result does not depend on how busy
# the machine is. Compares echo-server with libuv and with a plain epoll loop
# (scripts/bench/uv.c, epoll.c).
#
# Exits with 1 if echo-server is over its bounds. Needs Linux, valgrind and
# Python 3; without them, and for a peer that cannot be built, says so.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
if (($#)); then
    printf 'instructions: unknown argument %s; see %s --help\n' "$1" "$0" >&2
    exit 2
fi

# For echo-server. Measured: 544 and 295; the bounds leave 5 % for another
# compiler.
readonly BOUND_1=571 BOUND_64=310
# Rounds of the short and the long run, with 1 connection and with 64.
readonly ROUNDS_1=(1000 11000) ROUNDS_64=(20 220)

fail() {
    printf 'instructions: %s\n' "$*" >&2
    exit 1
}

skip() {
    printf 'SKIPPED: %s\n' "$*"
}

[[ $(uname) == Linux ]] || fail 'this works on Linux only'
for tool in valgrind python3; do
    command -v "$tool" >/dev/null || {
        skip "$tool is not installed"
        exit 0
    }
done

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly built=scripts/bench/target
mkdir -p "$built"

# Builds scripts/bench/$1.c as $built/$1, with flags $2... of its libraries.
build() {
    cc -O3 -o "$built/$1" "scripts/bench/$1.c" "${@:2}"
}

# Prints how many instructions the server $3... executes in $2 rounds over $1
# connections, from start to end.
total() {
    local output
    output=$(python3 scripts/bench/echoes.py "$1" "$2" \
        valgrind --tool=callgrind --callgrind-out-file=/dev/null "${@:3}" 2>&1) ||
        fail "${*:3}: $output"
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p' <<<"$output"
}

# Sets `each` to the instructions per echo of server $4... with $1 connections:
# the difference between $2 rounds and $3, which leaves out its start and its end.
measure() {
    local few many
    few=$(total "$1" "$2" "${@:4}")
    many=$(total "$1" "$3" "${@:4}")
    each=$(((many - few) / ($1 * ($3 - $2))))
}

# Measures the server $2..., and prints its line of the table under the name $1.
row() {
    local each
    measure 1 "${ROUNDS_1[@]}" "${@:2}"
    one=$each
    measure 64 "${ROUNDS_64[@]}" "${@:2}"
    many=$each
    printf '%-12s  %12d  %14d\n' "$1" "$one" "$many"
}

# In this folder, wherever the user's own builds go.
cargo build --quiet --release --locked --target-dir target --package echo-server

printf 'Instructions for an echo of 64 bytes:\n'
printf '%-12s  %12s  %14s\n' server '1 connection' '64 connections'
if ! command -v cc >/dev/null; then
    skip 'epoll, libuv: no C compiler'
else
    build epoll
    row epoll "$built/epoll" '{port}'
    if pkg-config --exists libuv 2>/dev/null; then
        read -ra flags < <(pkg-config --cflags --libs libuv)
        build uv "${flags[@]}"
        row libuv "$built/uv" '{port}'
    else
        skip 'libuv: its headers or pkg-config are not installed'
    fi
fi
row echo-server target/release/echo-server -q --port '{port}'
printf '%-12s  %12d  %14d\n' '  at most' "$BOUND_1" "$BOUND_64"
((one <= BOUND_1 && many <= BOUND_64)) || fail 'echo-server is over its bounds'
