#!/usr/bin/env bash
# Runs Windows programs, or the tests in them, under wine. See --help.
set -euo pipefail

usage() {
    cat <<'END'
Usage: scripts/wine.sh run PROGRAM.exe [ARGUMENT]...
       scripts/wine.sh tests PROGRAM.exe...
       scripts/wine.sh demo FOLDER [FOLDER]

`run` runs a program. `tests` runs each test of the test programs in a process of its
own, since one that aborts ends its process, and two processes at a time for each
processor. A test that fails runs a second time. It prints a line for each test that
fails, runs again or skips itself, with the reason, and then how many passed, failed,
were skipped and are ignored.

`demo` starts echo-server.exe of the first folder, and stops it by Ctrl-C. Meanwhile
echo-client.exe exchanges ten messages and 10 MB with it. With a second folder, which
contains programs for this system, each client also talks to the server of the other.

scripts/ports.sh builds the programs: target/ports/x86_64-pc-windows-gnu/debug. This
needs wine, and x86_64-w64-mingw32-gcc once.

WINEPREFIX          wine's own folder [target/ports/wine/prefix]
WINE_TEST_SECONDS   the time limit for one test [120]

Exit codes: the program's; 1 a test failed; 2 the command line is wrong; 3 there is no
wine.
END
}

case ${1-} in
run | tests | demo) (($# > 1)) || {
    usage >&2
    exit 2
} ;;
-h | --help)
    usage
    exit
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
readonly OUT=$root/target/ports/wine
WINE=$(command -v wine64 || command -v /usr/lib/wine/wine64 || command -v wine) || {
    echo 'wine.sh: wine is not installed' >&2
    exit 3
}
export WINE WINEPREFIX=${WINEPREFIX:-$OUT/prefix} WINEDEBUG=${WINEDEBUG:--all}
mkdir -p "$OUT/dll"
if [[ ! -f $OUT/dll/bcryptprimitives.dll ]]; then
    x86_64-w64-mingw32-gcc -O2 -s -shared -o "$OUT/dll/bcryptprimitives.dll" \
        "$root/scripts/bcryptprimitives.c" -ladvapi32
fi
# Where programs find it, if wine has none.
WINEPATH=Z:${OUT//\//\\}\\dll
export WINEPATH
if [[ ! -d $WINEPREFIX ]]; then
    "$WINE" hostname >/dev/null 2>&1 || true
fi

fail() {
    printf 'wine.sh: %s\n' "$*" >&2
    exit 1
}

# Lets client $2... talk to a server that starts with command $1, both of them words.
exchange() {
    local server port='' scratch tries status=0
    scratch=$(mktemp -d)
    : >"$scratch/server"
    $1 --port 0 >"$scratch/server" 2>&1 &
    server=$!
    for ((tries = 0; tries < 300; tries++)); do
        port=$(tr -d '\r' <"$scratch/server" | sed -n 's/^Listening on .*:\([0-9]*\)$/\1/p')
        [[ -z $port ]] || break
        sleep 0.1
    done
    [[ -n $port ]] || fail "$1 does not listen: $(cat "$scratch/server")"
    [[ $($2 --port "$port" | tr -d '\r') == "$(seq 10)" ]] || fail "$2: not ten replies of $1"
    head -c 10000000 /dev/urandom >"$scratch/data"
    # shellcheck disable=SC2094 # both read it
    $2 --port "$port" --stdin <"$scratch/data" | cmp - "$scratch/data" ||
        fail "$2: other data than was sent to $1"
    # wine turns it into the console event.
    kill -INT "$server"
    wait "$server" || status=$?
    ((status == 0)) || fail "$1 ended with $status: $(cat "$scratch/server")"
    rm -rf "$scratch"
    printf '%s and %s: 10 messages and 10 MB exchanged, stopped by Ctrl-C\n' \
        "${1##*/}" "${2##*/}"
}

action=$1
shift
case $action in
run) exec "$WINE" "$@" ;;
demo)
    # Background processes of a script ignore SIGINT otherwise.
    set -m
    exchange "$WINE $1/echo-server.exe" "$WINE $1/echo-client.exe"
    if (($# > 1)); then
        exchange "$WINE $1/echo-server.exe" "$2/echo-client"
        exchange "$2/echo-server" "$WINE $1/echo-client.exe"
    fi
    exit
    ;;
esac

# Runs test $2 of program $1 once and prints its result: a word, its name, and the reason.
try_test() {
    local output status=0 why=''
    output=$(RUST_BACKTRACE=0 timeout "${WINE_TEST_SECONDS:-120}" "$WINE" "$1" --exact "$2" \
        --test-threads 1 </dev/null 2>&1 | tr -d '\r\0') || status=$?
    if ((status == 124)); then
        why="took more than ${WINE_TEST_SECONDS:-120} seconds"
    elif ((status != 0)); then
        why=$(grep -A 4 'panicked at' <<<"$output" | sed '1d; /^note: /d' | tr '\n' ' ' || true)
        why=${why:-exit code $status}
    fi
    if ((status != 0)); then
        printf 'failed %s: %.300s\n' "$2" "$why"
    elif grep -q '1 ignored' <<<"$output"; then
        printf 'ignored %s\n' "$2"
    elif grep -q 'SKIPPED: ' <<<"$output"; then
        printf 'skipped %s: %s\n' "$2" "$(sed -n 's/.*SKIPPED: //p' <<<"$output" | head -n 1)"
    else
        printf 'passed %s\n' "$2"
    fi
}

# The same, but one that fails runs again: under wine on a busy machine, a program may not
# run for seconds.
run_test() {
    local result
    result=$(try_test "$1" "$2")
    if [[ $result == failed\ * ]]; then
        printf 'again %s\n' "${result#failed }"
        result=$(try_test "$1" "$2")
    fi
    printf '%s\n' "$result"
}
export -f try_test run_test

results=$(
    for program; do
        "$WINE" "$program" --list 2>/dev/null | tr -d '\r' | sed -n "s|^\(.*\): test\$|$program\n\1|p"
    done | xargs -d '\n' -r -n 2 -P "$(($(nproc) * 2))" bash -c 'set -o pipefail; run_test "$@"' _
)
grep -E '^(failed|again|skipped) ' <<<"$results" || true
count() {
    grep -c "^$1 " <<<"$results" || true
}
printf '%s passed, %s failed, %s skipped, %s ignored\n' \
    "$(count passed)" "$(count failed)" "$(count skipped)" "$(count ignored)"
[[ $(count failed) == 0 && $(count passed) != 0 ]]
