#!/usr/bin/env bash
# Prints the public API of crates/reactor, one item per line, from rustdoc's JSON.
#
#   scripts/public-api.sh           prints it
#   scripts/public-api.sh --check   compares it with crates/reactor/public-api.txt,
#                                   prints the difference, and exits with 1 if any
#   scripts/public-api.sh --update  writes it to that file
#
# The JSON is an unstable output of rustdoc. --check is skipped, with a line that
# says so, if this toolchain writes another version of it than public-api.py reads.
set -euo pipefail

readonly FORMAT=57

usage() {
    printf 'usage: scripts/public-api.sh [--check | --update]\n' >&2
    exit 2
}

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi
[[ $* =~ ^(|--check|--update)$ ]] || usage
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly listing=crates/reactor/public-api.txt built=target/public-api

# In a separate folder, to keep the documentation and the other builds. Warnings are
# for `cargo doc` to print.
RUSTC_BOOTSTRAP=1 cargo rustdoc --quiet --locked --package reactor --lib --target-dir "$built" -- \
    -Z unstable-options --output-format json --cap-lints allow
readonly json=$built/doc/reactor.json
found=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["format_version"])' "$json")

case ${1-} in
'') python3 scripts/public-api.py "$json" ;;
--update) python3 scripts/public-api.py "$json" >"$listing" ;;
--check)
    if ((found != FORMAT)); then
        printf 'SKIPPED: rustdoc writes version %d of its JSON, not %d\n' "$found" "$FORMAT"
    elif ! diff -u "$listing" <(python3 scripts/public-api.py "$json"); then
        printf 'public-api: if this change is intended, run scripts/public-api.sh --update\n' >&2
        exit 1
    fi
    ;;
esac
