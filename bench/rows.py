# SPDX-License-Identifier: BSL-1.0
"""The rows that benchmarks print, each with a figure of cohort and the figure of something else for the same job:

    spawn + wait, small parent: 700.1 µs, raw 690.2 µs, ratio 1.01
    one way, 64 B, post: 0.048 µs (20833333/s), raw 0.020 µs (50000000/s), rate 0.42 x raw

What else they print is left out.
"""
import re
from typing import NamedTuple

COUNT = r'(?: \([^)]*\))?'
ROW = re.compile(rf'^(?P<what>\S.*): (?P<ours>[\d.]+) µs{COUNT}, (?P<other>\S.*?) (?P<theirs>[\d.]+) µs\b')


class Row(NamedTuple):
    what: str
    other: str      # whose figure the second is
    ours: float     # µs
    theirs: float   # µs

    @property
    def rate(self):
        """How many times as much cohort does in a time."""
        return self.theirs / self.ours


def parse(text):
    """All rows of what a benchmark has printed. A figure that has been rounded to nothing is no row."""
    found = filter(None, map(ROW.match, text.splitlines()))
    rows = [Row(each['what'], each['other'], float(each['ours']), float(each['theirs'])) for each in found]
    return [row for row in rows if row.ours > 0 and row.theirs > 0]
