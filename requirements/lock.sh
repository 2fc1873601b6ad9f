#!/bin/sh
# Writes the lock files from the .in files. Each wider set includes the narrower
# one, so a package is pinned, with its hashes, in one file only.
set -eu
uv=${1:?usage: requirements/lock.sh UV}
here=$(dirname "$0")

lock() { # input, output, narrower lock file (or none), how the output includes it
    skip=""
    if [ -n "$3" ]; then
        for name in $(cat $5 | sed -n 's/^\([a-zA-Z0-9_.-]*\)==.*/\1/p' | sort -u); do
            skip="$skip --no-emit-package $name"
        done
    fi
    { [ -z "$3" ] || echo "-r $4"; } > "$2.new"
    # shellcheck disable=SC2086 # the options are words
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        ${3:+--constraint "$3"} $skip "$here/$1" >> "$2.new"
    mv "$2.new" "$2"
}

server=$here/server.txt app=$here/../requirements.txt tools=$here/tools.txt dev=$here/dev.txt
lock server.in "$server" "" "" ""
lock app.in "$app" "$server" requirements/server.txt "$server"
lock tools.in "$tools" "$app" ../requirements.txt "$server $app"
lock dev.in "$dev" "$tools" tools.txt "$server $app $tools"
lock catboost.in "$here/catboost.txt" "$dev" dev.txt "$server $app $tools $dev"
# What an image may have beside the server, in the versions that the tools were tested with.
for extra in arrow compiled grpc otel; do
    lock $extra.in "$here/$extra.txt" "$tools" server.txt "$server"
done
lock profiler.in "$here/profiler.txt" "" "" ""
lock fuzz.in "$here/fuzz.txt" "$server" server.txt "$server"
for apart in foreign evidently peers ray; do
    lock $apart.in "$here/$apart.txt" "" "" ""
done
