#!/usr/bin/env bash
# Parts a program from its debug information: PROGRAM keeps its symbols and gets small, PROGRAM.debug has the lines of the source.
# A backtrace shows those lines as long as both files lie side by side.
#
#   scripts/split-debug.sh target/release/millstream
set -euo pipefail

program=$1
cd "$(dirname "$program")"
name=$(basename "$program")
objcopy --only-keep-debug "$name" "$name.debug"
# A new file: cargo keeps the program under a second name, which stays whole.
objcopy --strip-debug --add-gnu-debuglink="$name.debug" "$name" "$name.small"
mv "$name.small" "$name"
