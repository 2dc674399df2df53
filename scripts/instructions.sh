#!/usr/bin/env bash
# Counts the instructions that an echo of 64 bytes takes in this program, the
# kernel's not counted: the same number each time, however busy the machine is.
# Exits with 1 where it is over the bound. Needs valgrind.
set -euo pipefail

# Measured: 1,216. The bound leaves room for another compiler.
readonly BOUND=1350 FEW=1000 MANY=11000

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
command -v valgrind >/dev/null || {
    echo 'SKIPPED: valgrind is not installed' >&2
    exit 0
}

program=$(cargo bench --quiet --locked --package reactor --bench instructions --no-run \
    --message-format json | sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' | tail -n 1)

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}

# The difference leaves out how the program starts and ends.
few=$(count "$FEW") many=$(count "$MANY")
each=$(((many - few) / (MANY - FEW)))
printf '%d instructions for an echo of 64 bytes (at most %d are allowed)\n' "$each" "$BOUND"
((each <= BOUND))
