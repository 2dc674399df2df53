#!/usr/bin/env bash
# Restarts echo servers while clients come and go without a pause. Prints how
# many exchanges failed; exits with 1 where any did.
#
#   scripts/rolling-restart.sh FOLDER            two servers behind HAProxy, in turn
#   scripts/rolling-restart.sh --inherit FOLDER  one, whose listening socket this
#                                                script keeps open, as systemd does
#
# FOLDER has the built programs. The first form needs haproxy, the second python3.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi

readonly CLIENTS=8
inherit=''
if [[ ${1-} == --inherit ]]; then
    inherit=yes
    shift
fi
if [[ $inherit && -z ${INHERITED_PORT-} ]]; then
    # Bash cannot listen: the socket becomes descriptor 3 of this script, started again.
    exec python3 -c '
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
os.environ["INHERITED_PORT"] = str(listener.getsockname()[1])
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execv(sys.argv[1], sys.argv[1:])' "$BASH" "${BASH_SOURCE[0]}" --inherit "$@"
fi
programs=$(cd -- "$1" && pwd)
scratch=$(mktemp -d)
pids=()

clean_up() {
    touch "$scratch/over"
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

# Starts server $1, on port $2, or on a free one where that is 0; with --inherit on
# descriptor 3.
start() {
    # What the server before it printed.
    rm -f "$scratch/server$1"
    (
        if [[ $inherit ]]; then
            export LISTEN_PID=$BASHPID LISTEN_FDS=1
        fi
        exec "$programs/echo-server" --port "$2" -q
    ) >"$scratch/server$1" &
    server[$1]=$!
    pids+=("$!")
    local tries=0
    until grep -qs Listening "$scratch/server$1"; do
        ((++tries < 400)) || { echo "server $1 does not start"; exit 1; }
        sleep 0.05
    done
    port[$1]=$(sed -n 's/.*://p' "$scratch/server$1")
}

# Starts two servers, and HAProxy on port $front before them.
start_behind_haproxy() {
    start 0 0
    start 1 0

    # A port for the proxy: one that was free a moment ago.
    "$programs/echo-server" --port 0 -q >"$scratch/free" &
    free=$!
    until grep -qs Listening "$scratch/free"; do sleep 0.05; done
    front=$(sed -n 's/.*://p' "$scratch/free")
    kill -TERM "$free"
    wait "$free"

    # A refused connection goes to the other server: that is what a proxy is for,
    # and nothing has been said by then.
    cat >"$scratch/haproxy.cfg" <<EOF
defaults
    mode tcp
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    retries 3
    option redispatch 1
frontend front
    bind 127.0.0.1:$front
    default_backend servers
backend servers
    balance roundrobin
    server a 127.0.0.1:${port[0]}
    server b 127.0.0.1:${port[1]}
EOF
    haproxy -db -f "$scratch/haproxy.cfg" >"$scratch/haproxy.log" 2>&1 &
    pids+=("$!")
    tries=0
    until (: <>"/dev/tcp/127.0.0.1/$front") 2>/dev/null; do
        ((++tries < 400)) || { echo "haproxy does not start: $(tail -n 3 "$scratch/haproxy.log")"; exit 1; }
        sleep 0.05
    done
}

declare -a server port
if [[ $inherit ]]; then
    start 0 0
    front=$INHERITED_PORT rounds=100 servers=(0)
else
    start_behind_haproxy
    rounds=4 servers=(0 1)
fi

for ((number = 0; number < CLIENTS; number++)); do
    (
        good=0 bad=0
        while [[ ! -e $scratch/over ]]; do
            if "$programs/echo-client" --port "$front" >/dev/null 2>>"$scratch/errors"; then
                ((++good))
            else
                ((++bad))
            fi
        done
        echo "$good $bad" >"$scratch/client$number"
    ) &
    clients[number]=$!
    pids+=("$!")
done

for ((round = 0; round < rounds; round++)); do
    for which in "${servers[@]}"; do
        # Let them come and go for a while.
        if [[ $inherit ]]; then sleep 0.05; else sleep 0.5; fi
        kill -TERM "${server[which]}"
        wait "${server[which]}" || { echo "server $which ended with $?"; exit 1; }
        start "$which" "${port[which]}"
    done
done
touch "$scratch/over"
wait "${clients[@]}"

read -r good bad < <(cat "$scratch"/client[0-9]* | awk '{ g += $1; b += $2 } END { print g, b }')
echo "failed $bad of $((good + bad)) exchanges, $((${#servers[@]} * rounds)) restarts"
((bad == 0 && good > 0)) || { sort "$scratch/errors" | uniq -c | head -n 5; exit 1; }
