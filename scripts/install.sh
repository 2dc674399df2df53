#!/usr/bin/env bash
# Installs echo-server, echo-client and echo-bench, their man pages, and completions
# for bash, zsh and fish.
#
#   scripts/install.sh [--prefix DIR] [--profile NAME] [--uninstall]
#
#   --prefix DIR    where to install: DIR/bin, DIR/share [/usr/local]
#   --profile NAME  the profile of Cargo to build with [release]
#   --uninstall     remove what an installation with this prefix has written
#
# The environment variable DESTDIR, if it is set, is put before DIR, to build a
# package. Exit codes: 0 done; 1 a step failed; 2 the command line is wrong.
set -euo pipefail

readonly PROGRAMS=(echo-server echo-client echo-bench)

if [[ ${1-} == -h || ${1-} == --help ]]; then
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
fi

fail() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

misused() {
    printf 'install: %s; see %s --help\n' "$1" "$0" >&2
    exit 2
}

prefix=/usr/local profile=release uninstall=''
while (($#)); do
    case $1 in
    --uninstall) uninstall=1 ;;
    --prefix | --profile)
        [[ -n ${2-} ]] || misused "$1 needs a value"
        if [[ $1 == --prefix ]]; then prefix=$2; else profile=$2; fi
        shift
        ;;
    *) misused "unknown argument $1" ;;
    esac
    shift
done
[[ $prefix == /* ]] || prefix=$PWD/$prefix
readonly root=${DESTDIR-}$prefix

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Prints the paths of the files for program $1, below the prefix.
files() {
    printf '%s\n' "bin/$1" "share/man/man1/$1.1" "share/bash-completion/completions/$1" \
        "share/zsh/site-functions/_$1" "share/fish/vendor_completions.d/$1.fish"
}

if [[ -n $uninstall ]]; then
    for program in "${PROGRAMS[@]}"; do
        while read -r file; do
            [[ -e $root/$file ]] || continue
            rm -- "$root/$file" || fail "cannot remove $root/$file"
            printf '%s\n' "$root/$file"
            # Folders that are empty now, below the prefix.
            (cd -- "$root" && rmdir -p -- "$(dirname -- "$file")" 2>/dev/null) || true
        done < <(files "$program")
    done
    exit
fi

unwritable() {
    fail "cannot write $1; choose another --prefix, or run it as root"
}

# Before a build that takes a minute: the folder of each file, or the nearest above it
# that exists.
while read -r file; do
    folder=$root/$(dirname -- "$file")
    until [[ -e $folder ]]; do
        folder=$(dirname -- "$folder")
    done
    [[ -d $folder && -w $folder ]] || unwritable "$root/$file"
done < <(files "${PROGRAMS[0]}")

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Prints the path of program $1, which Cargo reported in $messages.
built() {
    sed -n "s|.*\"executable\":\"\([^\"]*/$1\)\".*|\1|p" <<<"$messages"
}

packages=()
for program in "${PROGRAMS[@]}"; do
    packages+=(--package "$program")
done
messages=$(cargo build --locked --profile "$profile" "${packages[@]}" \
    --message-format json-render-diagnostics)
# A debug build suffices for a program that runs once.
cargo run --quiet --locked --package manual -- "$scratch" >/dev/null

for program in "${PROGRAMS[@]}"; do
    path=$(built "$program")
    [[ -x $path ]] || fail "cargo reports no path for $program"
    mkdir -p "$scratch/bin"
    cp -- "$path" "$scratch/bin/"
done
for program in "${PROGRAMS[@]}"; do
    while read -r file; do
        mode=644
        [[ $file != bin/* ]] || mode=755
        # Without -D, which only GNU's install has.
        { mkdir -p -- "$(dirname -- "$root/$file")" &&
            install -m "$mode" "$scratch/$file" "$root/$file"; } ||
            unwritable "$root/$file"
        printf '%s\n' "$root/$file"
    done < <(files "$program")
done
