# SPDX-License-Identifier: BSL-1.0
"""metric_names.py METRICS FILE…: each metric that a file for an operator names must be among those that METRICS, the C++
source of the metrics, writes. Says which are not, and ends with 1.
"""
import json
import re
import sys

NAME = re.compile(r"\bcohort_[a-z_]+")


def names_in(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".json"):
        json.loads(text)
    return set(NAME.findall(text))


written = names_in(sys.argv[1])
wrong = False
for path in sys.argv[2:]:
    named = names_in(path)
    unknown = sorted(named - written)
    if not named or unknown:
        print(f"{path}: names no metric" if not named else f"{path}: there is no {', '.join(unknown)}")
        wrong = True
sys.exit(1 if wrong else 0)
