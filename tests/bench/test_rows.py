# SPDX-License-Identifier: BSL-1.0
"""Rows of benchmarks are read, drawn and compared."""
import importlib.machinery
import importlib.util
import os
import sys
import unittest
from xml.etree import ElementTree

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'bench')
sys.dont_write_bytecode = True
sys.path.insert(0, BENCH)
import plot  # noqa: E402
from rows import Row, parse  # noqa: E402

PRINTED = """== bench_ipc
ping-pong, 64 B, same core: 4.000 µs (250000/s), raw 3.000 µs (333333/s), rate 0.75 x raw
  Python's pool 90.0 µs (11111 jobs/s, we 2.5 x)
spawn, loop held, 1 GiB parent, one at a time: 40.0 µs, fork 16000.0 µs, ratio 0.00
round trip, 64 B, polling: directly: 5.0 µs (200000/s), raw 5.0 µs (200000/s), ratio 1.00
too fast to be measured: 0.000 µs (inf/s), raw 1.000 µs (1000000/s), rate inf x raw
8 GiB parent: left out, 4096 MiB of memory are free
"""


def compare():
    loader = importlib.machinery.SourceFileLoader('compare', os.path.join(BENCH, 'compare'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('compare', loader))
    loader.exec_module(module)
    return module


class Rows(unittest.TestCase):
    def test_what_has_two_figures_is_a_row_and_nothing_else(self):
        self.assertEqual(parse(PRINTED), [
            Row('ping-pong, 64 B, same core', 'raw', 4, 3),
            Row('spawn, loop held, 1 GiB parent, one at a time', 'fork', 40, 16000),
            Row('round trip, 64 B, polling: directly', 'raw', 5, 5),
        ])

    def test_the_rate_is_above_one_where_cohort_takes_less_time(self):
        self.assertEqual([row.rate for row in parse(PRINTED)], [0.75, 400, 1])

    def test_a_picture_is_well_formed_and_has_a_bar_and_a_figure_for_each_row(self):
        rows = parse(PRINTED) + [Row('a < b & "c"', 'raw', 1, 2)]
        root = ElementTree.fromstring(plot.draw(rows))
        self.assertEqual(root.tag, '{http://www.w3.org/2000/svg}svg')
        width = float(root.get('width'))
        bars = [each for each in root.iter('{http://www.w3.org/2000/svg}rect') if each.get('y')]
        self.assertEqual(len(bars), len(rows))
        for bar in bars:
            self.assertGreaterEqual(float(bar.get('x')), 0)
            self.assertLessEqual(float(bar.get('x')) + float(bar.get('width')), width)
        texts = [each.text for each in root.iter('{http://www.w3.org/2000/svg}text')]
        for expected in '0.75', '400.00', '1.00', '2.00', 'a < b & "c" / raw':
            self.assertIn(expected, texts)
        self.assertEqual([bar.get('fill') == 'url(#less)' for bar in bars], [True, False, False, False])

    def test_rows_that_are_all_one_are_drawn(self):
        ElementTree.fromstring(plot.draw([Row('even', 'raw', 1, 1)]))

    def test_a_comparison_has_medians_and_the_spread_of_the_ratios(self):
        lines = list(compare().table({('post', 'raw'): [(10, 5), (10, 20), (10, 10)], ('post', 'zmq'): [(1, 1)]}))
        self.assertEqual(len(lines), 3)
        self.assertEqual([cell.strip() for cell in lines[2].strip('|').split('|')],
                         ['post', '10.000', '10.000', '1.00', '0.50 - 2.00'])


unittest.main()
