#!/usr/bin/env bash
# Two echo servers behind HAProxy are restarted in turn while clients come and
# go without a pause. Prints how many exchanges failed; exits with 1 where any
# did. $1 is the folder of the built programs. Needs haproxy.
set -euo pipefail

readonly ROUNDS=4 CLIENTS=8
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

# Starts server $1, on port $2, or on a free one where that is 0.
start() {
    "$programs/echo-server" --port "$2" -q >"$scratch/server$1" &
    server[$1]=$!
    pids+=("$!")
    local tries=0
    until grep -q Listening "$scratch/server$1"; do
        ((++tries < 400)) || { echo "server $1 does not start"; exit 1; }
        sleep 0.05
    done
    port[$1]=$(sed -n 's/.*://p' "$scratch/server$1")
}

declare -a server port
start 0 0
start 1 0

# A port for the proxy: one that was free a moment ago.
"$programs/echo-server" --port 0 -q >"$scratch/free" &
free=$!
until grep -q Listening "$scratch/free"; do sleep 0.05; done
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

for ((round = 0; round < ROUNDS; round++)); do
    for which in 0 1; do
        sleep 0.5 # let them come and go for a while
        kill -TERM "${server[which]}"
        wait "${server[which]}" || { echo "server $which ended with $?"; exit 1; }
        start "$which" "${port[which]}"
    done
done
touch "$scratch/over"
wait "${clients[@]}"

read -r good bad < <(cat "$scratch"/client[0-9]* | awk '{ g += $1; b += $2 } END { print g, b }')
echo "failed $bad of $((good + bad)) exchanges, $((2 * ROUNDS)) restarts"
((bad == 0 && good > 0)) || { sort "$scratch/errors" | uniq -c | head -n 5; exit 1; }
