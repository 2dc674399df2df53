#!/usr/bin/env bash
# Provokes every fault that a network program should survive, and shows for each
# what is expected, what was seen, and whether it held. Exits with 1 where one
# did not.
#
# Most are tests of the suite, which are run one at a time here so that their
# figures can be shown. Some take minutes, root, or a network namespace, and run
# from here only; what cannot be had is shown as skipped, with the reason.
#
# Those that can be simulated also happen in 1,000 worlds each, in
# crates/sim/examples/fault_rows.
#
#   scripts/faults.sh           all of them
#   scripts/faults.sh 12 31     these rows
#   scripts/faults.sh --quick   without those that take more than some seconds
set -uo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 1

quick='' rows=()
for argument; do
    case $argument in
    --quick) quick=yes ;;
    [0-9]*) rows+=("$argument") ;;
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/faults.sh
        exit
        ;;
    *)
        printf 'faults: unknown argument %s; see the head of this script\n' "$argument" >&2
        exit 2
        ;;
    esac
done

scratch=$(mktemp -d)
held=0 failed=0 skipped=0
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wanted() {
    ((${#rows[@]} == 0)) && return
    local row
    for row in "${rows[@]}"; do
        [[ $row == "$1" ]] && return
    done
    return 1
}

# One line of the table: row, what is expected, what was seen, the verdict.
show() {
    printf '%3s  %-46s  %-7s  %s\n' "$1" "$2" "$4" "$3"
    case $4 in
    held) ((++held)) ;;
    skipped) ((++skipped)) ;;
    *) ((++failed)) ;;
    esac
}

# Runs test $1, which is PACKAGE:TARGET:NAME, also where it is one of those that
# only this script runs. What it prints is in $scratch/out.
run_test() {
    local package=${1%%:*} rest=${1#*:}
    local target=${rest%%:*} name=${rest#*:}
    local which=(--test "$target")
    [[ $target == lib ]] && which=(--lib)
    [[ $target == bin ]] && which=(--bins)
    cargo test --quiet --release --locked --package "$package" "${which[@]}" -- \
        --exact "$name" --include-ignored --nocapture >"$scratch/out" 2>&1 </dev/null || return 1
    grep -q '^test result: ok. 1 passed' "$scratch/out" || {
        printf 'there is no test %s\n' "$1" >"$scratch/out"
        return 1
    }
}

# What a test said, on one line.
said() {
    grep -v -e '^$' -e '^running ' -e '^test ' -e '^\.$' -e '^\[.*WARN' -e '^\[.*ERROR' \
        "$scratch/out" | tail -n 3 | paste -s -d ';' | cut -c 1-160
}

# Row $1, expectation $2, then the tests that provoke it.
tests() {
    wanted "$1" || return 0
    local row=$1 expected=$2 test figures=() line
    shift 2
    for test; do
        if ! run_test "$test"; then
            show "$row" "$expected" "$test: $(tail -n 4 "$scratch/out" | paste -s -d ' ')" 'FAILED'
            return 0
        fi
        line=$(said)
        if [[ $line == *SKIPPED* ]]; then
            show "$row" "$expected" "$line" skipped
            return 0
        fi
        [[ -z $line ]] || figures+=("$line")
    done
    if ((${#figures[@]} == 0)); then
        figures=("$# tests passed")
    fi
    show "$row" "$expected" "$(printf '%s; ' "${figures[@]}" | sed 's/; $//')" held
}

# As `tests`, for what takes long.
long_tests() {
    wanted "$1" || return 0
    if [[ -n $quick ]]; then
        show "$1" "$2" 'takes long, and --quick was given' skipped
    else
        tests "$@"
    fi
}

# A program in a network of its own, in which few local ports can be had. $1 is
# the range; the rest is a script that finds the programs in $server, $client.
in_a_network() {
    unshare --net --map-root-user true 2>/dev/null || unshare --net true 2>/dev/null || return 77
    local range=$1
    shift
    unshare --net bash -c "
        set -e
        ip link set lo up 2>/dev/null || ifconfig lo up
        echo '$range' >/proc/sys/net/ipv4/ip_local_port_range
        server=$target/echo-server client=$target/echo-client
        $1"
}

# Row 25: all local ports are taken; what does the client say?
no_port_left() {
    wanted 25 || return 0
    local expected='no local port left: said in plain words' figure status=0
    figure=$(in_a_network '40000 40003' '
        $server --port 9999 -q >/dev/null & pid=$!
        trap "kill $pid" EXIT
        until (: <>/dev/tcp/127.0.0.1/9999) 2>/dev/null; do sleep 0.05; done
        for fd in 3 4 5 6; do eval "exec $fd<>/dev/tcp/127.0.0.1/9999" 2>/dev/null || true; done
        $client --timeout 2s 2>&1 && exit 1
        exit 0') || status=$?
    if ((status == 77)); then
        show 25 "$expected" 'no network namespaces here' skipped
    elif ((status == 0)) && [[ $figure == *'Cannot assign requested address'*'local port'* ]]; then
        show 25 "$expected" "$(tail -n 1 <<<"$figure")" held
    else
        show 25 "$expected" "exit $status: $(paste -s -d ' ' <<<"$figure")" FAILED
    fi
}

# Row 30: the kernel connects a socket to itself when the port it chooses is the
# one that is asked for. With ten ports that happens within some tries.
connected_to_itself() {
    wanted 30 || return 0
    local expected='a connection to itself counts as refused' figure status=0
    figure=$(in_a_network '40000 40009' '
        for try in {1..200}; do
            if $client --port 40005 --timeout 2s >/dev/null 2>&1; then echo "connected"; exit 1; fi
        done
        echo "false successes 0 of 200"') || status=$?
    if ((status == 77)); then
        show 30 "$expected" 'no network namespaces here' skipped
    elif ((status == 0)); then
        tests 30 "$expected" reactor:lib:sys::socket::tests::invariant_3_connection_to_itself_counts_as_refused
        printf '     %-46s           %s\n' '' "$figure"
    else
        show 30 "$expected" "exit $status: $figure" FAILED
    fi
}

# Row 7 again, with other people's programs for peers.
half_close_by_others() {
    wanted 7 || return 0
    local tool port used=()
    head -c 3000000 /dev/urandom >"$scratch/data"
    start_server
    for tool in ncat socat nc; do
        case $tool in
        ncat) set -- ncat 127.0.0.1 "$port" ;;
        socat) set -- socat -t 20 - "TCP:127.0.0.1:$port" ;;
        nc) set -- nc -N 127.0.0.1 "$port" ;;
        esac
        command -v "$1" >/dev/null || continue
        # Only some versions of nc end their side with their input.
        [[ $1 != nc ]] || nc -h 2>&1 | grep -q -- '-N' || continue
        if ! timeout 30 "$@" <"$scratch/data" | cmp -s - "$scratch/data"; then
            show 7 'half-close: all is echoed, then the end' "$1 lost bytes" FAILED
            stop_server
            return
        fi
        used+=("$1")
    done
    stop_server
    printf '     %-46s           %s\n' '' "3 MB through ${used[*]:-none of nc, ncat, socat: not installed}: bytes lost 0"
}

# Starts a server of this script; its address is 127.0.0.1:$port.
start_server() {
    local line
    exec {lines}< <(exec "$target/echo-server" --port 0 -q "$@")
    server=$!
    read -r -t 20 -u "$lines" line || return 1
    port=${line##*:}
}

stop_server() {
    kill -TERM "$server" && wait "$server"
    exec {lines}<&-
}

# Row 34: two servers behind HAProxy, each restarted in turn while clients come
# and go.
rolling_restart() {
    wanted 34 || return 0
    local expected='SIGTERM under load: nobody fails'
    tests 34 "$expected" echo-server:it:shutdown::signal_lets_peers_finish \
        echo-server:it:shutdown::signal_accepts_queued_connections
    [[ -z $quick ]] || return 0
    if ! command -v haproxy >/dev/null; then
        ((EUID == 0)) && command -v apt-get >/dev/null &&
            apt-get install -y -qq haproxy >/dev/null 2>&1
    fi
    if ! command -v haproxy >/dev/null; then
        show 34 'rolling restart behind HAProxy' 'no haproxy here, and it cannot be installed' skipped
        return 0
    fi
    local figure
    if figure=$(scripts/rolling-restart.sh "$target" 2>&1); then
        show 34 'rolling restart behind HAProxy: failed 0' "$figure" held
    else
        show 34 'rolling restart behind HAProxy: failed 0' "$(paste -s -d ' ' <<<"$figure")" FAILED
    fi
}

# Row 50: one server, whose listening socket outlives it.
inherited_restart() {
    wanted 50 || return 0
    local expected='restart with an inherited socket: failed 0' figure
    tests 50 "$expected" "$S:activation::restart_with_an_inherited_socket_loses_no_connection"
    [[ -z $quick ]] || return 0
    if ! command -v python3 >/dev/null; then
        show 50 'the same, with echo-client' 'no python3 here' skipped
    elif figure=$(scripts/rolling-restart.sh --inherit "$target" 2>&1); then
        show 50 'the same, with echo-client' "$figure" held
    else
        show 50 'the same, with echo-client' "$(paste -s -d ' ' <<<"$figure")" FAILED
    fi
}

# Tests that have a longer form take it.
[[ -n $quick ]] || export REACTOR_FULL=1

# Optimised, but not for so long as what people run: there are many tests.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/faults

printf 'Building…\n'
cargo build --quiet --release --locked --workspace --exclude sim || exit 1
cargo test --quiet --release --locked --workspace --exclude sim --no-run || exit 1
target=$(cd "$CARGO_TARGET_DIR/release" && pwd)

printf '%3s  %-46s  %-7s  %s\n' row expected verdict figure

S=echo-server:it C=echo-client:it R=reactor:it
tests 1 'EMFILE on accept: a pause, one line a second' $S:faults::descriptor_shortage_pauses_only_accepting
tests 2 'ENFILE, ENOBUFS, ENOMEM on accept: the same' $S:faults::kernel_resource_shortage_is_retried
tests 3 'ECONNABORTED, EINTR on accept: again' $S:faults::transient_accept_error_is_retried
tests 4 'reset before accept: nothing left behind' $S:faults::reset_before_accept_leaks_no_descriptor
tests 5 'EINTR on I/O: bytes lost 0' $S:faults::interrupted_io_loses_no_bytes
tests 6 'reset in mid-transfer: that channel only' $S:faults::resets_under_load_do_not_affect_other_peers
tests 7 'half-close: all is echoed, then the end' $S:serving::half_close_loses_no_bytes $S:faults::half_close_waits_for_pending_output
half_close_by_others
tests 8 'EPIPE: a close reason, no signal' $R:send::write_to_closed_peer_closes_with_broken_pipe
tests 9 'partial writes: in order' $S:faults::late_reader_receives_all_bytes_in_order $R:send::invariant_4_partial_writes_keep_their_order
tests 10 'a peer that never reads: bounded, then closed' $S:faults::stalled_peers_use_bounded_memory $S:faults::stalled_peer_is_closed_at_stall_timeout
long_tests 11 'slow peers: cost the others nothing' $S:load::idle_timeout_keeps_slow_peers_and_closes_silent_ones
long_tests 12 'a flooder: others wait one budget' $S:load::flooding_peer_delays_others_by_one_read
long_tests 13 'accept storm: failed 0' $S:load::connection_storm_loses_no_connection
tests 14 'a burst of 1,000 connects: all get in' $R:listener::burst_of_connections_fits_the_backlog
tests 15 'a zero-length datagram is no end' $R:datagrams::udp_datagrams_are_echoed_also_empty_ones $R:datagrams::unix_datagrams_are_echoed_also_empty_ones
tests 16 'ICMP errors on UDP are ignored' $R:datagrams::refused_datagram_does_not_close_the_socket $R:datagrams::invariant_6_refusal_without_interest_does_not_spin
tests 17 'closed inside a callback: no stale dispatch' $R:close::invariant_1_channel_closed_by_another_gets_no_event_of_same_batch
tests 18 'slot and descriptor used again: no mix-up' $R:close::invariant_1_reused_slot_and_descriptor_get_no_stale_event
tests 19 'a hang-up that nobody waits for: no spin' $R:idle::invariant_6_hangup_without_interest_does_not_spin
tests 20 'a panic costs that channel only' $R:isolation::invariant_8_fault_in_any_callback_leaves_others_served
long_tests 21 'wake storm: 8 threads x 10^6 posts' $R:posts::eight_million_posts_all_run
tests 22 'timer extremes: no panic, no garbage' reactor:lib:reactor::timers::tests::invariant_10_cancel_churn_leaves_no_garbage $R:timers::invariant_10_longest_durations_do_not_panic
long_tests 23 'suspended: nobody is timed out early' $S:soak::suspended_server_closes_no_peer_early
long_tests 24 '19,000 connections: failed 0' $S:load::connections_near_open_file_limit_are_all_served
no_port_left
tests 26 'port in use, address not ours: one line' $S:errors::port_in_use_is_reported_with_hint $S:errors::foreign_address_is_reported_with_hint
tests 27 'privileged port: one line with a hint' $S:errors::privileged_port_is_reported_with_hint
tests 28 'unknown host: its own message' $S:errors::unknown_host_is_reported_with_hint $C:errors::unknown_host_is_reported_with_hint
tests 29 'connect times out; the next address' $C:errors::unanswered_connect_times_out $C:multiple_addresses::unresponsive_address_does_not_block_the_next
connected_to_itself
tests 31 'stale Unix path taken over, live one not' $R:listener::stale_unix_path_is_replaced_and_live_one_is_not \
    $R:listener::exactly_one_of_concurrent_servers_binds_the_unix_path
tests 32 'stdin a file, /dev/null, closed' $C:streams::messages_are_sent_with_any_stdin $C:streams::closed_or_empty_stdin_sends_nothing $C:streams::file_as_stdin_is_echoed $S:serving::closed_stdin_does_not_stop_server
tests 33 'stdout closed: no panic' $C:streams::closed_stdout_exits_with_0 $C:streams::stdout_closed_early_exits_with_0 $S:serving::closed_stdout_does_not_stop_server $S:serving::stdout_without_reader_does_not_stop_server
rolling_restart
tests 35 'second SIGTERM, stuck peer' $S:shutdown::second_signal_exits_at_once $S:shutdown::drain_ends_at_its_deadline
tests 36 'kill -9, restart on the same port' $S:shutdown::restart_after_kill_binds_same_port
tests 37 'hostile framing: bounded, clear error' reactor:framing:split_of_input_does_not_change_messages \
    reactor:framing:message_up_to_limit_is_accepted_and_longer_one_rejected
long_tests 38 'soak: 10^6 connections, flat' $S:soak::million_connections_leak_nothing
B=echo-bench:it
tests 39 'output or log not read: the server continues' $S:blocked_output::unread_stdout_does_not_stop_server \
    $S:blocked_output::lines_of_unread_stdout_are_whole $S:blocked_output::unread_log_does_not_stop_server \
    $S:blocked_output::output_that_was_full_before_the_start_does_not_stop_server
tests 40 'Ctrl-S, full disk: the server continues' $S:blocked_output::stopped_terminal_does_not_stop_server \
    $S:blocked_output::full_device_does_not_stop_server
tests 41 'non-blocking standard streams: work, unchanged' $C:streams::nonblocking_streams_work_and_stay_nonblocking \
    $C:streams::one_nonblocking_socket_serves_as_all_streams $S:blocked_output::nonblocking_stdout_keeps_all_lines
tests 42 'a name with several addresses: all of them' $S:serving::each_address_of_a_name_is_served \
    $C:multiple_addresses::name_with_both_ip_versions_reaches_either $B:target::each_address_of_a_name_is_tried
tests 43 'options at their limits: work, or one line' $S:option_limits::extreme_values_work_or_are_reported \
    $C:option_limits::extreme_values_work_or_are_reported $B:option_limits::extreme_values_work_or_are_reported
tests 44 'signals inherited blocked: end the server' $S:shutdown::signals_blocked_by_the_parent_end_the_server
tests 45 'connection limit: per server, on any thread' $S:serving::max_connections_is_shared_by_threads
tests 46 'faulty server: the measurement ends' $B:endings::faulty_server_ends_measurement_with_report \
    $B:endings::connection_without_replies_ends_measurement
tests 47 'Ctrl-C in a measurement: the report so far' $B:endings::interrupt_prints_report_and_exits_with_130
tests 48 'idle connections: open until the last reply' $B:endings::idle_connections_stay_open_until_the_last_reply
tests 49 'HOST:PORT as an argument: the server' $C:addresses::server_may_be_an_argument
inherited_restart
tests 51 'started by systemd-socket-activate: serves' $S:activation::systemd_socket_activate_starts_the_server
tests 52 'wrong inherited descriptor: one line' $S:activation::descriptors_that_are_no_listening_stream_sockets_are_refused \
    $S:activation::listen_fds_must_be_a_number $S:activation::sockets_for_another_process_are_ignored
T=tls:it P=proxy-protocol:lib
long_tests 53 '10,000 half-open TLS handshakes: bounded, closed' $S:tls::ten_thousand_half_open_handshakes_are_bounded
tests 54 'TLS garbage, changed bytes: an error, an alert' $T:hostile::garbage_after_the_start_of_a_handshake_is_an_error \
    $T:hostile::changed_byte_is_an_error_wherever_it_is
tests 55 'TLS byte by byte: the same' $T:hostile::records_may_arrive_byte_by_byte
tests 56 'plain HTTP on the TLS port: named in the log' $S:tls::plain_http_and_truncation_are_named_in_the_log
tests 57 'TLS connection cut off: its own cause' $T:endings::both_sides_report_each_ending_as_the_table_says \
    $C:tls::truncated_reply_is_an_error
tests 58 'files that TLS cannot use: one line' $S:tls::unusable_files_end_the_server
tests 59 'SIGHUP: new certificate, nobody disconnected' $S:tls::sighup_loads_the_files_again
tests 60 'plain text behind STARTTLS: rejected' $T:starttls::plain_text_behind_starttls_is_rejected
tests 61 'PROXY header wrong, slow, missing: one line' $S:proxies::wrong_slow_or_missing_header_is_rejected_with_one_line
tests 62 'PROXY header from anybody: not trusted' $S:proxies::header_is_accepted_from_trusted_addresses_only
tests 63 'random input to TLS and PROXY: no panic' $T:fuzz::changed_handshake_never_panics $T:fuzz::random_bytes_never_panic \
    $P:header::tests::fuzz_random_bytes_never_panic

printf '%d held, %d skipped, %d failed\n' "$held" "$skipped" "$failed"
((failed == 0))
