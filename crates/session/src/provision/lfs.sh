#!/bin/sh
# Stands in for git-lfs as git's filter, in images with and without it.
#
#   lfs clean     content ─▶ pointer; the content goes to .git/lfs/objects
#   lfs smudge    pointer ─▶ content, from there or from what the server brought; the pointer where it is nowhere
#
# What is no pointer passes as it is. LFS_OBJECTS names another folder of objects.
set -eu

file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat > "$file"
size=$(wc -c < "$file" | tr -d ' ')
oid=
if [ "$size" -lt 1024 ] && [ "$(head -n 1 "$file" | tr -d '\0')" = 'version https://git-lfs.github.com/spec/v1' ]; then
    oid=$(sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' "$file" | head -n 1)
fi
own=$(git rev-parse --git-common-dir 2>/dev/null) || own=/var/lib/patchyard
objects=${LFS_OBJECTS:-$own/lfs/objects}

# place OID
place() { printf '%s/%s/%s\n' "$(printf %.2s "$1")" "$(printf %s "$1" | cut -c3-4)" "$1"; }

case $1 in
clean)
    if [ -n "$oid" ] || [ "$size" = 0 ]; then
        cat "$file"
        exit
    fi
    oid=$(sha256sum "$file" | cut -c1-64)
    at=$objects/$(place "$oid")
    if [ ! -f "$at" ]; then
        mkdir -p "${at%/*}"
        # Another folder may be another disk: what has the name is whole.
        cp "$file" "$at.$$" && mv "$at.$$" "$at"
    fi
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' "$oid" "$size"
    ;;
smudge)
    if [ -n "$oid" ]; then
        for at in "$objects" /run/patchyard/repository.git/lfs/objects; do
            at=$at/$(place "$oid")
            if [ -f "$at" ]; then
                cat "$at"
                exit
            fi
        done
    fi
    cat "$file"
    ;;
esac
