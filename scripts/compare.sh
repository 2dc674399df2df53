#!/usr/bin/env bash
# Compares an echo server on the reactor with echo servers on asyncore, libuv, mio,
# calloop and tokio, by figures that do not depend on how busy the machine is: lines of
# code, crates, size of the program, instructions for an echo of 64 bytes, memory of an
# idle connection. The servers are in scripts/bench/.
#
#   scripts/compare.sh          prints the table of README.md; also measures how much
#                               processor time it takes to compile each, from nothing
#   scripts/compare.sh --check  exits with 1 if a figure in README.md differs from what
#                               is measured by more than another compiler explains
#
# Needs Linux, valgrind, Python 3, and for libuv a C compiler and libuv's static library.
# A server whose tools are missing is skipped, with a line that says so.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
[[ $* =~ ^(|--check)$ ]] || {
    printf 'compare: unknown argument %s; see %s --help\n' "$1" "$0" >&2
    exit 2
}

fail() {
    printf 'compare: %s\n' "$*" >&2
    exit 1
}

[[ $(uname) == Linux ]] || fail 'this works on Linux only'
for tool in valgrind python3; do
    command -v "$tool" >/dev/null || {
        printf 'SKIPPED: %s is not installed\n' "$tool"
        exit 0
    }
done

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly built=scripts/bench/target
mkdir -p "$built"
cargo build --quiet --release --locked --manifest-path scripts/bench/Cargo.toml --target-dir "$built"

# Linked statically, as the Rust servers are but for the C library.
rm -f "$built/uv_static"
if command -v cc >/dev/null && pkg-config --exists libuv 2>/dev/null; then
    cc -O3 -s -o "$built/uv_static" scripts/bench/uv.c \
        "$(pkg-config --variable=libdir libuv)/libuv_a.a" -lpthread -ldl -lrt ||
        printf 'compare: no static libuv; install libuv1-dev\n' >&2
fi

# For all servers, and for the connections to them.
ulimit -Sn "$(ulimit -Hn)"
exec python3 -W ignore scripts/bench/compare.py "$@"
