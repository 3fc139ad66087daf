#!/bin/sh
# Shows that the tests which guard the protocol can fail: builds with one rule broken on purpose, and each of the named tests must fail then.
# Usage: scripts/sabotage.sh [NAME ...]   names: guard reconcile rollback multi maxlen; all if none is given.
set -eu

tests_of() {
  case "$1" in
    guard) # One for each way in which an outcome is written.
      echo 'an_outcome_of_an_earlier_hand_out_is_refused'
      echo 'an_outcome_with_writes_of_an_earlier_hand_out_is_refused'
      echo 'a_failure_of_an_earlier_hand_out_is_refused' ;;
    reconcile) echo 'a_deleted_stream_loses_no_job' ;;
    rollback) echo 'a_connection_cut_short_inside_a_transaction_is_not_lent_again' ;;
    multi) echo 'an_entry_leaves_a_redis_that_is_full' ;;
    maxlen) echo 'a_full_window_keeps_every_entry' ;;
    *) echo "no sabotage is called $1" >&2; exit 2 ;;
  esac
}

run() { # FEATURES TEST
  cargo nextest run --workspace --locked --bins --test fences --test recovery $1 -E "test(/$2\$/)" --no-fail-fast
}

[ $# -gt 0 ] || set -- guard reconcile rollback multi maxlen
unnoticed=''
for name in "$@"; do
  tests=$(tests_of "$name")
  for test in $tests; do
    log="target/sabotage-$name-$test.log"
    if run "--features millstream-tests/sabotage-$name" "$test" >"$log" 2>&1; then
      unnoticed="$unnoticed $name"; echo "sabotage $name: NOT noticed by $test"
    elif grep -q ' FAIL .*'"$test" "$log"; then
      echo "sabotage $name: noticed by $test"
    else
      echo "sabotage $name: the build or the run itself failed, see $log" >&2; exit 1
    fi
  done
done
[ -z "$unnoticed" ] || { echo "not noticed:$unnoticed" >&2; exit 1; }
