#!/usr/bin/env bash
# Measures echo-server beside other echo servers, in the same run, and writes
# results.json, report.md and report.html. Needs Linux, Rust and Python 3; a
# peer whose tools are missing is skipped, and said to be.
#
# scripts/bench/ holds the peers, what measures (measure.py) and what draws
# (report.py). Leaves nothing running, however it ends.
set -euo pipefail

usage() {
    cat <<'END'
Usage: scripts/bench.sh [OPTION]...

Measures echo-server beside other echo servers, in interleaved rounds.

  --quick              two minutes: fewer scenarios, short rounds
  --rounds N           how many rounds [5; quick: 2]
  --seconds S          how long a round of one server takes [3; quick: 0.6]
  --only SERVER,...    these servers only: reactor, epoll, mio, tokio, smol,
                       calloop, polling-oneshot, uv, asyncore, asyncio, uvloop,
                       tokio-multi, control (ratios are to epoll, so keep that;
                       control is epoll again, and shows the noise);
                       reactor-tls, tokio-tls, openssl-tls;
                       reactor stands for its forms as well: reactor-busy,
                       reactor-deadlines, reactor-2, reactor-2-batch
  --scenario NAME,...  these only: c1, c64, c1000, p16, big, churn, idle10k,
                       threads, threads1; tls64, tlsbig, tlschurn,
                       tlsfull, tlsmemory; memory (of idle connections), idle
                       (processor time after traffic), build (of the workspace,
                       cold)
  --out DIR            where the reports go [target/bench]
  --install            as root: install what peers need, by apt-get and pip

Exit codes: 0 all was measured; 1 a server gave a wrong answer, or ours crashed,
or nothing could be measured; 2 the command line is wrong.
END
}

fail() {
    printf 'bench: %s\n' "$*" >&2
    exit 1
}

misused() {
    printf 'bench: %s; see scripts/bench.sh --help\n' "$*" >&2
    exit 2
}

quick='' install='' out='' scenarios='' pass=() started_in=$PWD
while (($#)); do
    case $1 in
    --quick) quick=1 pass+=("$1") ;;
    --install) install=1 ;;
    --rounds | --seconds | --only | --scenario)
        (($# > 1)) || misused "$1 needs a value"
        [[ $1 != --scenario ]] || scenarios=$2
        pass+=("$1" "$2")
        shift
        ;;
    --out)
        (($# > 1)) || misused "$1 needs a folder"
        out=$2
        shift
        ;;
    -h | --help)
        usage
        exit
        ;;
    *) misused "no option $1" ;;
    esac
    shift
done

# A step is a group of processes of its own, so that a signal ends all of it, and
# at once.
step=''
step() {
    set -m
    "$@" &
    step=$!
    set +m
    local status=0
    wait "$step" || status=$?
    step=''
    return "$status"
}
clean_up() { [[ -z $step ]] || kill -- "-$step" 2>/dev/null || true; }
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

skip() { pass+=(--skipped "$1=$2"); }

[[ $(uname) == Linux ]] || fail 'this works on Linux only'
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
[[ $out == /* ]] || out=${out:+$started_in/}${out:-$PWD/target/bench}
readonly built=$PWD/scripts/bench/target
mkdir -p "$built"

if [[ -n $install ]]; then
    ((EUID == 0)) || fail '--install needs root'
    step apt-get update -qq
    step apt-get install -qq -y gcc libc6-dev libssl-dev libuv1-dev openssl pkg-config python3 python3-venv strace
fi

# One that has asyncore, if there is one, for all three Python servers. Its own
# path: what stands in PATH may be a script that looks for it at every start.
python=''
for name in python3 python3.11 python3.10 /usr/bin/python3; do
    own=$("$name" -W ignore -c 'import sys; print(sys.executable)' 2>/dev/null) || continue
    python=${python:-$own}
    "$own" -W ignore -c 'import asyncore' 2>/dev/null || continue
    python=$own
    break
done
[[ -n $python ]] || fail 'needs Python 3, to measure and to report'
pass+=(--python "$python" --out "$out")
"$python" -W ignore scripts/bench/measure.py --check "${pass[@]}"
"$python" -W ignore -c 'import asyncore' 2>/dev/null || skip asyncore 'no Python up to 3.11'

if [[ ! -x $built/venv/bin/python ]]; then
    if [[ -n $install && -z $quick ]]; then
        step "$python" -m venv "$built/venv"
        step "$built/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --requirement scripts/bench/requirements.txt || rm -r "$built/venv"
    fi
    [[ -x $built/venv/bin/python ]] || skip uvloop 'not installed; see --install'
fi

# TLS takes long to build, and is not for the quick form.
features=() tls=''
if [[ $scenarios == *tls* || (-z $scenarios && -z $quick) ]]; then
    tls=yes
    features=(--features tls)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -addext basicConstraints=CA:FALSE -keyout "$built/key.pem" -out "$built/cert.pem" \
        2>/dev/null || {
        skip reactor-tls 'openssl, which creates certificates, is not installed'
        skip tokio-tls 'openssl, which creates certificates, is not installed'
    }
fi

if command -v cc >/dev/null; then
    flags=(-O3 -Wall -Wextra)
    (
        cd scripts/bench
        cc "${flags[@]}" -o target/epoll epoll.c
        cc "${flags[@]}" -shared -fPIC -o target/count.so count.c 2>/dev/null ||
            echo 'bench: no allocations are counted: not glibc'
    )
    if ! cc "${flags[@]}" -o "$built/uv" scripts/bench/uv.c -luv 2>/dev/null; then
        rm -f "$built/uv"
        skip uv 'libuv is not installed; see --install'
    fi
    if [[ -n $tls ]] && ! cc "${flags[@]}" -o "$built/openssl_tls" scripts/bench/openssl_tls.c -lssl -lcrypto; then
        rm -f "$built/openssl_tls"
        skip openssl-tls 'OpenSSL is not installed; see --install'
    fi
else
    skip openssl-tls 'no C compiler; see --install'
    skip epoll 'no C compiler; see --install'
    skip uv 'no C compiler; see --install'
fi

# Here, wherever the user's own builds go.
step cargo build --release --locked --target-dir target \
    --package echo-server --package echo-bench
step cargo build --release --locked --manifest-path scripts/bench/Cargo.toml "${features[@]}" \
    --target-dir "$built" || echo 'bench: the Rust peers cannot be built'

# For all servers: none of the peers does it itself.
ulimit -Sn "$(ulimit -Hn)"

# Nothing of this script is needed any more: signals go to what measures.
exec "$python" -W ignore scripts/bench/measure.py "${pass[@]}"
