#!/bin/sh
# Runs libFuzzer over targets and prints a line for each: executions, what was found. A finding stays in build/fuzz/findings and fails.
#     tests/fuzz/run.sh PROGRAMS SEEDS N NAME...
programs=$1 seeds=$2 runs=$3
shift 3
failed=
work=build/fuzz/work findings=build/fuzz/findings
mkdir -p build/fuzz/logs $findings
for name in "$@"; do
    mkdir -p "$work/$name" "$seeds/$name" "tests/fuzz/corpus/$name"
    log=build/fuzz/logs/$name.log
    # Seeds may be long (whole tokenizers); an input that takes a second is a finding.
    "$programs/fuzz_$name" -runs="$runs" -max_len=65536 -timeout=20 -rss_limit_mb=2048 -use_value_profile=0 -print_final_stats=1 \
        -artifact_prefix="$findings/$name-" "$work/$name" "tests/fuzz/corpus/$name" "$seeds/$name" >"$log" 2>&1
    status=$?
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    slowest=$(sed -n 's/^stat::slowest_unit_time_sec: *//p' "$log")
    if [ $status -eq 0 ]; then
        echo "  ok    $name: $count executions, slowest $slowest s"
    else
        failed="$failed $name"
        echo "  FAIL  $name: see $log and $findings"
        grep -m 3 -E 'ERROR|SUMMARY|fuzz:' "$log" | sed 's/^/        /'
    fi
    rmdir "tests/fuzz/corpus/$name" 2>/dev/null
done
echo "fuzz: $# targets, $(echo $failed | wc -w) with findings$failed"
[ -z "$failed" ]
