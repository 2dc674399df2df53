#!/usr/bin/env bash
# Plants each defect of crates/sim/defects in a copy of this repository, one at a time, and
# checks that the simulation finds it within 1,000 seeds, and again with that seed.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$copy"
cd "$copy"
export CARGO_TARGET_DIR=$root/target/defects
readonly program=$CARGO_TARGET_DIR/release/examples/conversations
status=0
for patch in "$root"/crates/sim/defects/*.patch; do
    patch -s -p1 <"$patch"
    cargo build --quiet --release --locked --package sim --example conversations
    output=$("$program" --seeds 0..1000) && output=
    seed=$(sed -n 's/^first: seed \([0-9]*\):.*/\1/p' <<<"$output")
    if [[ -n $seed ]] && ! "$program" --seed "$seed" >/dev/null; then
        printf '%s: found, seed %s\n' "${patch##*/}" "$seed"
    else
        printf '%s: NOT found\n' "${patch##*/}"
        status=1
    fi
    patch -s -R -p1 <"$patch"
done
exit $status
