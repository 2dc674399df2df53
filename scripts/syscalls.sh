#!/usr/bin/env bash
# Counts the system calls of echo-server, with 1,000 idle connections and for
# messages of 64 bytes on one of them, and those of the library's loop, for a
# post from another thread and for 16 lines that arrive at once.
#
# Exits with 1 if the idle server makes any system call, if a message changes
# what is registered for its connection, or if a count is over its bound. Needs
# Linux and strace.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
if (($#)); then
    printf 'syscalls: unknown argument %s; see %s --help\n' "$1" "$0" >&2
    exit 2
fi

readonly CONNECTIONS=1000 IDLE_SECONDS=5 MESSAGES=500
# Most system calls of the loop for one post; most recvfrom and sendto of a server
# for 16 lines in one write, each of which it answers.
readonly MAX_POST=1 MAX_RECVFROM=1 MAX_SENDTO=1
# Posts, or writes of 16 lines, in the short and in the long run.
readonly FEW=20 MANY=120

server='' tracer='' record=''

fail() {
    printf 'syscalls: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    local pid
    for pid in $tracer $server; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -f "$record"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until the server sleeps, which it does nowhere but in its wait.
come_to_rest() {
    local state='' tries=0
    while [[ $state != S ]]; do
        ((++tries < 10000)) || fail 'the server does not come to rest'
        read -r _ _ state _ <"/proc/$server/stat"
    done
}

# Traces the server until `end_trace`; `count` counts its calls in between.
begin_trace() {
    # strace says on standard error when it has attached.
    exec {attached}< <(exec strace -p "$server" -o "$record" 2>&1)
    tracer=$!
    local line
    read -r -t 20 -u "$attached" line || fail 'strace did not attach'
    [[ $line == *attached* ]] || fail "strace: $line"
    # That interrupted the wait, and the server begins it anew.
    echo_once "${peers[-1]}"
    come_to_rest
    skip=$(wc -l <"$record")
}

end_trace() {
    come_to_rest
    kill -INT "$tracer"
    wait "$tracer" || true
    tracer=''
    exec {attached}<&-
}

# How many calls match $1 and ran to their end.
count() {
    tail -n +"$((skip + 1))" "$record" | grep -v -e '<detached' -e '^strace: ' |
        grep -c -E -- "$1" || true
}

[[ $(uname) == Linux ]] || fail 'this works on Linux only'
command -v strace >/dev/null || fail 'strace is not installed'

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
cargo build --quiet --locked --package echo-server
record=$(mktemp)

coproc SERVER { exec cargo run --quiet --locked --package echo-server -- --port 0 -q; }
server=$SERVER_PID
exec {lines}<&"${SERVER[0]}"
read -r -t 20 -u "$lines" line || fail "no 'Listening on' line"
port=${line##*:}

peers=()
for ((i = 0; i < CONNECTIONS; i++)); do
    exec {peer}<>"/dev/tcp/127.0.0.1/$port"
    peers+=("$peer")
done

message=$(printf '%064d' 7)
echo_once() {
    local answer
    printf '%s' "$message" >&"$1"
    read -r -t 20 -N 64 -u "$1" answer || fail 'no echo'
    [[ $answer == "$message" ]] || fail "'$answer' is not what was sent"
}

# All are accepted once the last one is served.
echo_once "${peers[-1]}"

begin_trace
sleep "$IDLE_SECONDS" # not for an outcome: this is the measurement
end_trace
idle=$(count '.')
printf '%d idle connections for %d s: %d system calls\n' "$CONNECTIONS" "$IDLE_SECONDS" "$idle"
((idle == 0)) || fail "an idle server woke up: $(tail -n 3 "$record")"

begin_trace
for ((i = 0; i < MESSAGES; i++)); do
    echo_once "${peers[0]}"
done
end_trace
[[ $(grep -m 1 -o -E '^sendto\([0-9]+' "$record") =~ ([0-9]+) ]] || fail 'no message was seen'
connection=${BASH_REMATCH[1]}
calls=$(count '.')
changes=$(count "^epoll_ctl\([0-9]+, [A-Z_]+, $connection,")
printf '%d messages of 64 bytes: %d system calls (%d.%02d for each), ' \
    "$MESSAGES" "$calls" $((calls / MESSAGES)) $((100 * calls / MESSAGES % 100))
printf '%d epoll_ctl on the connection\n' "$changes"
((changes == 0)) || fail 'a message changed what is registered for its connection'

program=$(cargo build --quiet --locked --package reactor --bench system_calls \
    --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

# Prints how many calls that match $2 the main thread of `system_calls $1` makes
# for one post, or for one write: the difference between a long run and a short one.
calls_for_one() {
    local count counts=()
    for count in "$FEW" "$MANY"; do
        strace -o "$record" "$program" "$1" "$count"
        counts+=("$(grep -c -E -- "$2" "$record" || true)")
    done
    # To the nearest, as one call more or less at the end is by chance.
    printf '%d' $(((counts[1] - counts[0] + (MANY - FEW) / 2) / (MANY - FEW)))
}

at_most() {
    (($1 <= $2)) || fail "$3: $1 system calls, and $2 are allowed"
}

posts=$(calls_for_one posts '^[a-z0-9_]+\(')
printf '1 post from another thread to an idle loop: %d system calls of the loop\n' "$posts"
at_most "$posts" "$MAX_POST" 'a post'

received=$(calls_for_one lines '^recvfrom\(')
sent=$(calls_for_one lines '^sendto\(')
printf '16 lines in one write, each answered: %d recvfrom, %d sendto\n' "$received" "$sent"
at_most "$received" "$MAX_RECVFROM" 'recvfrom for 16 lines'
at_most "$sent" "$MAX_SENDTO" 'sendto for 16 lines'
