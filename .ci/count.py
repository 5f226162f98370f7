# SPDX-License-Identifier: BSL-1.0
"""Prints `N passed, N failed` for one run of `meson test`, and exits with 1 if any has failed.

    count.py BUILD_DIR/meson-logs/testlog.json

A program of doctest counts with its test cases, any other test as one.
"""
import json
import re
import sys

SUMMARY = re.compile(r'^\[doctest\] test cases: +(\d+) \| +(\d+) passed \| +(\d+) failed', re.MULTILINE)


def main():
    passed = failed = 0
    with open(sys.argv[1], encoding='utf-8') as log:
        for test in map(json.loads, log):
            result = test['result']
            summary = SUMMARY.search(test.get('stdout') or '')
            cases_failed = int(summary[3]) if summary else 0
            if summary:
                passed += int(summary[2])
            elif result in ('OK', 'EXPECTEDFAIL'):
                passed += 1
            # A program can fail beyond its test cases: a crash, a leak that is found when it exits.
            if result not in ('OK', 'EXPECTEDFAIL', 'SKIP'):
                cases_failed = max(cases_failed, 1)
            failed += cases_failed
    if passed + failed == 0:
        failed = 1
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


sys.exit(main())
