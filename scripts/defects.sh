#!/usr/bin/env bash
# Plants each defect of crates/sim/defects in a copy of this repository, one at a time, and
# checks that the simulation finds it within 1,000 seeds, and again with that seed: those of
# the library with the example conversations, those of the chat server with the example chat.
set -euo pipefail

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
cd "$copy"
# Soon built, and fast enough.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_TARGET_DIR=$root/target/defects
build() {
    cargo build --quiet --release --locked --package sim --example "$1"
    program=$CARGO_TARGET_DIR/release/examples/$1
}

# Without a defect they find nothing.
for example in conversations chat; do
    build "$example"
    # The chat server prints who joins and leaves.
    "$program" --seeds 0..100 | tail -n 6
done
status=0
for patch in "$root"/crates/sim/defects/*.patch; do
    patch -s -p1 <"$patch"
    example=conversations
    if grep -q '^+++ .*/chat_server.rs' "$patch"; then
        example=chat
    fi
    build "$example"
    for seeds in 0..10 10..100 100..1000; do
        output=$("$program" --seeds "$seeds") || break
    done
    seed=$(sed -n 's/^first: seed \([0-9]*\):.*/\1/p' <<<"$output")
    if [[ -n $seed ]] && ! "$program" --seed "$seed" >/dev/null; then
        printf '%s: found, seed %s\n' "${patch##*/}" "$seed"
    else
        printf '%s: NOT found\n' "${patch##*/}"
        status=1
    fi
    patch -s -R -p1 <"$patch"
    # The guide shows what this one prints.
    if [[ $patch == *-unannounced-leave.patch ]] &&
        ! grep -qF "$(grep '^first: ' <<<"$output")" crates/sim/src/lib.rs; then
        printf 'crates/sim/src/lib.rs shows another failure than: %s\n' "$output"
        status=1
    fi
done
exit $status
