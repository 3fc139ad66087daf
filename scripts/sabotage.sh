#!/bin/sh
# Shows that the tests which guard the protocol can fail: builds with one rule broken on purpose, and the named test must fail then.
# Usage: scripts/sabotage.sh [NAME ...]   names: guard reconcile rollback multi maxlen; all if none is given.
set -eu

test_of() {
  case "$1" in
    guard) echo 'an_outcome_of_an_earlier_hand_out_is_refused' ;;
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
  test=$(test_of "$name")
  log="target/sabotage-$name.log"
  if run "--features millstream-tests/sabotage-$name" "$test" >"$log" 2>&1; then
    unnoticed="$unnoticed $name"; echo "sabotage $name: NOT noticed by $test"
  elif grep -q ' FAIL .*'"$test" "$log"; then
    echo "sabotage $name: noticed by $test"
  else
    echo "sabotage $name: the build or the run itself failed, see $log" >&2; exit 1
  fi
done
[ -z "$unnoticed" ] || { echo "not noticed:$unnoticed" >&2; exit 1; }
