#!/usr/bin/env bash
# Compiles for other systems what runs on Linux here, without warnings, and prints a
# table; for some of them, also runs the tests. See --help.
set -euo pipefail

# Those that CI compiles: each of them lacks something that the others have.
readonly SHORT=(
    aarch64-apple-darwin
    x86_64-unknown-netbsd
    x86_64-unknown-illumos
    i686-unknown-linux-gnu
    x86_64-pc-windows-gnu
)
readonly ALL=(
    aarch64-apple-darwin
    x86_64-apple-darwin
    x86_64-unknown-freebsd
    x86_64-unknown-netbsd
    x86_64-unknown-openbsd
    x86_64-unknown-illumos
    aarch64-linux-android
    x86_64-unknown-linux-musl
    aarch64-unknown-linux-gnu
    s390x-unknown-linux-gnu
    i686-unknown-linux-gnu
    x86_64-pc-windows-gnu
)

usage() {
    cat <<END
Usage: scripts/ports.sh [--all | TARGET...]

Checks the library, the programs, and the tests and examples for each TARGET.
Warnings count as errors. Runs the tests of the library for i686-unknown-linux-gnu,
those of the library and the programs for x86_64-pc-windows-gnu (by wine, see
scripts/wine.sh), and with --all, or if it is named, those of the library for
s390x-unknown-linux-gnu (by qemu). The simulation (crates/sim) is checked separately, since
it enables a feature of the library; its tests run for i686-unknown-linux-gnu. It replaces
system calls of Unix, and is not built for Windows.

Without arguments, TARGET is:
$(printf '  %s\n' "${SHORT[@]}")
With --all, it is:
$(printf '  %s\n' "${ALL[@]}")

The standard library of each target is built from its source, so this needs a
compiler that has it: \`rustup component add rust-src\`, or Debian's rustc-web and
rust-web-src. As root on Debian, missing packages are installed. If they cannot be, the check is
skipped. Output of the compilers: target/ports/TARGET-COLUMN.log.

Exit codes: 0 all compile and pass, or skipped; 1 something does not; 2 the command
line is wrong.
END
}

case ${1-} in
-h | --help)
    usage
    exit
    ;;
--all)
    (($# == 1)) || {
        usage >&2
        exit 2
    }
    targets=("${ALL[@]}")
    ;;
-*)
    printf 'ports: unknown option %s; see --help\n' "$1" >&2
    exit 2
    ;;
*) targets=("${@-}") ;;
esac
[[ -n ${targets[0]} ]] || targets=("${SHORT[@]}")

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly OUT=target/ports
mkdir -p "$OUT"

skip() {
    printf 'SKIPPED: %s\n' "$*"
}

# Installs Debian's packages $@ unless all are there. Fails if it cannot.
install() {
    dpkg-query --show "$@" >/dev/null 2>&1 && return
    ((EUID == 0)) && command -v apt-get >/dev/null || return 1
    {
        apt-get update -qq &&
            apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
    } >"$OUT/apt.log" 2>&1
}

# Returns 0 if compiler $1 comes with the source of its standard library.
has_source() {
    local sysroot
    sysroot=$("$1" --print sysroot 2>/dev/null) &&
        [[ -f $sysroot/lib/rustlib/src/rust/library/std/src/lib.rs ]]
}

# For the project's own builds, not for these.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CARGO_TARGET_DIR
export RUSTC=${RUSTC:-rustc} CARGO=${CARGO:-cargo}
if ! has_source "$RUSTC"; then
    RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo
    if ! install rustc-web cargo-web rust-web-src || ! has_source "$RUSTC"; then
        skip 'no compiler with the source of its standard library; see scripts/ports.sh --help'
        exit
    fi
fi
# Debug information would only cost time. A stable compiler needs RUSTC_BOOTSTRAP to
# build the standard library.
export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
export CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=i686-linux-gnu-gcc
export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc
# Without a PATH: strace and Python of this system cannot start programs of another. One
# test needs mkfifo.
CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER="env PATH=/nonexistent
    /usr/bin/qemu-s390x -L /usr/s390x-linux-gnu"
export CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER
# Those that start the examples, or themselves, are left out there; so are tests of options
# that qemu-user 7.2 rejects (ENOPROTOOPT): SO_TIMESTAMPING, and memberships by index.
readonly S390X_TESTS=(--lib --test it --test framing --test model --
    --skip queue_of_timestamps --skip multicast:: --skip accepted_stream_whose_options
    --skip path_below_a_named_pipe)

# Where the tests do not run, nothing is linked, and there is no C compiler for the target
# either: the C code of dependencies (that of ring) is replaced by empty files.
readonly NO_CC=$PWD/$OUT/no-cc NO_AR=$PWD/$OUT/no-ar
cat >"$NO_CC" <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
    [ "$1" != -o ] || : >"$2"
    shift
done
END
cat >"$NO_AR" <<'END'
#!/bin/sh
: >>"$2"
END
chmod +x "$NO_CC" "$NO_AR"

failures=()

# Runs cargo $3... for target $1 with the environment `tools`, and sets `result` to what the column $2 shows.
run() {
    local target=$1 log=$OUT/$1-$2.log verb=$3 status=0 errors warnings
    shift 3
    env "${tools[@]}" \
        "$CARGO" "$verb" --locked --quiet --message-format short --target "$target" \
        --target-dir "$OUT" -Zbuild-std=std,panic_unwind,test "$@" >"$log" 2>&1 || status=$?
    errors=$(grep -c ': error' "$log" || true)
    warnings=$(grep -c ': warning' "$log" || true)
    result=ok
    if [[ $errors != 0 ]]; then
        result="$errors errors"
    elif [[ $status != 0 ]]; then
        result=failed
    elif [[ $warnings != 0 ]]; then
        result="$warnings warnings"
    fi
    [[ $result == ok ]] || failures+=("$log")
}

# Returns 0 if the tests of target $1 run here. Explains it if they usually do.
can_run() {
    local packages=()
    case $1 in
    i686-unknown-linux-gnu) packages=(gcc-i686-linux-gnu libc6-dev-i386-cross lib32gcc-s1) ;;
    s390x-unknown-linux-gnu)
        packages=(gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user)
        ;;
    x86_64-pc-windows-gnu) packages=(gcc-mingw-w64-x86-64 wine64) ;;
    *) return 1 ;;
    esac
    if [[ $(uname -m) != x86_64 ]]; then
        skip "tests for $1: they need x86_64"
        return 1
    fi
    if ! install "${packages[@]}"; then
        skip "tests for $1: not all of ${packages[*]} can be installed; see $OUT/apt.log"
        return 1
    fi
}

# Runs the library's tests for target $1 and sets `result`.
run_tests() {
    local target=$1 log=$OUT/$1-run.log passed failed selected=(--lib --tests)
    if [[ $target == s390x-* ]]; then
        selected=("${S390X_TESTS[@]}")
    fi
    run "$target" run test --no-fail-fast --package reactor "${selected[@]}"
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | paste -sd+)
    failed=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p' "$log" | paste -sd+)
    if [[ -n $passed ]]; then
        result="$((passed)) passed, $((failed)) failed"
    fi
}

# Checks the simulation for target $1, or runs its tests, and sets `result`.
run_simulation() {
    local verb=check
    [[ $1 != i686-* || ${check[0]} != build ]] || verb=test
    case $1 in
    *windows*) result='Unix only' ;;
    *) run "$1" simulation "$verb" --package sim --lib --tests --examples ;;
    esac
}

# Runs the programs, and the tests of the library and the programs, for target $1 by wine,
# and sets `result`.
run_windows_tests() {
    local target=$1 log=$OUT/$1-run.log status=0 executables native
    # The same builds as before, which name the programs now. Manual pages, shell
    # completions and their installation are for Unix.
    mapfile -t executables < <("$CARGO" test --no-run --locked --target "$target" \
        --target-dir "$OUT" -Zbuild-std=std,panic_unwind,test --workspace --exclude manual \
        --exclude sim --lib --bins --tests 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
    # If this system's programs were built, each talks to those of Windows.
    native=()
    [[ ! -x target/debug/echo-server || ! -x target/debug/echo-client ]] || native=(target/debug)
    scripts/wine.sh demo "$OUT/$target/debug" "${native[@]}" >"$log" 2>&1 &&
        scripts/wine.sh tests "${executables[@]}" >>"$log" 2>&1 || status=$?
    result=$(tail -n 1 "$log")
    ((status == 0)) || failures+=("$log")
}

printf '%-26s %-12s %-12s %-20s %-12s %-46s %s\n' target library programs \
    'tests and examples' simulation 'tests run' seconds
for target in "${targets[@]}"; do
    start=$SECONDS
    # What is to run is built, and only once.
    if can_run "$target"; then
        check=(build) check_tests=(test --no-run --lib --bins --tests) tools=()
    else
        check=(check) check_tests=(check --tests)
        tools=("CC_${target//-/_}=$NO_CC" "AR_${target//-/_}=$NO_AR")
    fi
    run "$target" library "${check[@]}" --package reactor
    library=$result
    run "$target" programs "${check[@]}" \
        --package echo-server --package echo-client --package echo-bench
    programs=$result
    # A test starts the examples.
    run "$target" examples "${check[@]}" --workspace --exclude sim --examples
    tests=$result
    if [[ $tests == ok ]]; then
        run "$target" tests "${check_tests[@]}" --workspace --exclude sim
        tests=$result
    fi
    run_simulation "$target"
    simulation=$result
    result=-
    if [[ ${check[0]} == build && $library == ok && $programs == ok && $tests == ok ]]; then
        case $target in
        *windows*) run_windows_tests "$target" ;;
        *) run_tests "$target" ;;
        esac
    fi
    printf '%-26s %-12s %-12s %-20s %-12s %-46s %s\n' "$target" "$library" "$programs" \
        "$tests" "$simulation" "$result" $((SECONDS - start))
done

for log in "${failures[@]}"; do
    printf '\n%s:\n' "$log"
    grep -E ': (error|warning)| FAILED$|panicked at|^failed ' "$log" | head -n 20 ||
        tail -n 5 "$log"
done
((${#failures[@]} == 0))
