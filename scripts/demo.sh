#!/usr/bin/env bash
# Starts echo-server on a free port, lets echo-client talk to it, and stops it.
# Shows what both print; exits with 1 where anything is other than it should be.
#
# Works from any directory. Leaves nothing running and no files but the build.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
if (($#)); then
    printf 'demo: unknown argument %s; see %s --help\n' "$1" "$0" >&2
    exit 2
fi

# How long each step may take, in seconds.
readonly DEADLINE=20

server='' client=''

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

# Whatever is still running goes with this script, however it ends.
clean_up() {
    local pid
    for pid in $client $server; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Reads the next line of descriptor $1 into `line`; $2 says what is expected.
next_line() {
    local status=0
    read -r -t "$DEADLINE" -u "$1" line || status=$?
    if ((status > 128)); then
        fail "no $2 within $DEADLINE seconds"
    elif ((status > 0)); then
        fail "the output ended; $2 is missing"
    fi
}

# Waits for the end of descriptor $1, which belongs to $2.
end_of() {
    local status=0
    read -r -t "$DEADLINE" -u "$1" line || status=$?
    if ((status == 0)); then
        fail "$2 printed a line too many: $line"
    elif ((status > 128)); then
        fail "$2 did not end within $DEADLINE seconds"
    fi
}

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Builds both programs with one command, so that no dependency is compiled twice,
# and before anything starts. Cargo shows its progress on standard error; the
# compiler has no deadline. A debug build takes seconds, an optimised one minutes.
# --locked: a demonstration changes no versions.
#
# The messages on standard output contain the path of each program.
messages=$(cargo build --locked --package echo-server --package echo-client \
    --message-format json-render-diagnostics)

# Prints the path of program $1.
program() {
    local path
    path=$(sed -n "s|.*\"executable\":\"\([^\"]*/$1\)\".*|\1|p" <<<"$messages")
    [[ -x $path ]] || fail "cargo reports no path for $1"
    printf '%s\n' "$path"
}

echo_server=$(program echo-server)
echo_client=$(program echo-client)

coproc SERVER { exec "$echo_server" --port 0; }
server=$SERVER_PID
# bash forgets the coprocess's own descriptor when that ends.
exec {server_output}<&"${SERVER[0]}"

next_line "$server_output" "'Listening on' line from echo-server"
[[ $line =~ ^Listening\ on\ 127\.0\.0\.1:([0-9]+)$ ]] ||
    fail "not a 'Listening on' line: $line"
port=${BASH_REMATCH[1]}
printf '%s\n' "$line"

exec {client_output}< <(exec "$echo_client" --port "$port")
client=$!

next_line "$server_output" "'Incoming connection' line from echo-server"
[[ $line =~ ^Incoming\ connection\ from\ 127\.0\.0\.1:[0-9]+$ ]] ||
    fail "not an 'Incoming connection' line: $line"
printf '%s\n' "$line"

for expected in {1..10}; do
    next_line "$client_output" "echo of $expected"
    [[ $line == "$expected" ]] || fail "'$line' in place of '$expected'"
    printf '%s\n' "$line"
done
end_of "$client_output" echo-client
status=0
wait "$client" || status=$?
client=''
((status == 0)) || fail "echo-client ended with exit code $status"

kill -TERM "$server" || fail "echo-server has ended"
end_of "$server_output" echo-server
status=0
wait "$server" || status=$?
server=''
((status == 0)) || fail "echo-server ended with exit code $status"
