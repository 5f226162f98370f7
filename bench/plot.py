#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws the rows that benchmarks print as one picture:  bench/run | bench/plot.py FILE.svg

A bar begins at 1, where cohort does as much as the other in a time. It goes to the right where cohort does more, and to
the left where it does less, on a scale where twice as much is as far to the right as half as much to the left. Filled
is more, hatched is less: colour says nothing.
"""
import math
import os
import sys
from xml.sax.saxutils import escape

from rows import parse

LINE, TOP, FOOT = 20, 56, 26                  # heights: of a row, above the rows, below them
LETTER, BARS, RIGHT = 6.7, 400, 70            # widths: of a letter of a name, bars, figures
INK, PAPER = '#1f2933', '#ffffff'
HATCH = (f'<pattern id="less" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
         f'<path d="M0 0V6" stroke="{INK}" stroke-width="3"/></pattern>')


def label(x, y, text, anchor='start', **more):
    attributes = ''.join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"{attributes}>{escape(text)}</text>'


def reach_of(rates):
    """The power of two that no rate is beyond, upwards or downwards."""
    return max(1, math.ceil(max(abs(math.log2(rate)) for rate in rates) - 1e-9))


def draw(rows):
    """The text of an SVG."""
    reach = reach_of([row.rate for row in rows])
    names = [f'{row.what} / {row.other}' for row in rows]
    left = round(40 + LETTER * max(map(len, names)))
    width, height = left + BARS + RIGHT, TOP + LINE * len(rows) + FOOT

    def at(rate):
        return left + BARS / 2 * (1 + math.log2(rate) / reach)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
             f'height="{height}" font-family="sans-serif" font-size="12" fill="{INK}" role="img">',
             '<title>cohort beside others</title>', f'<defs>{HATCH}</defs>',
             f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
             label(left + BARS / 2, 18, 'how many times as much cohort does in the same time', 'middle',
                   font_weight='bold')]
    step = max(1, math.ceil(reach / 3))
    for power in range(-reach // step * step, reach + 1, step):
        if abs(power) > reach:
            continue
        x = at(2.0 ** power)
        parts.append(f'<path d="M{x:.1f} {TOP - 8}V{height - FOOT + 4}" stroke="{INK}" '
                     f'stroke-width="{1.5 if power == 0 else 0.3}"/>')
        name = f'{2 ** power} ×' if power >= 0 else f'1/{2 ** -power} ×'
        parts += [label(x, y, name, 'middle') for y in (TOP - 14, height - 6)]
    for number, row in enumerate(rows):
        y = TOP + LINE * number
        begin, end = sorted((at(1), at(row.rate)))
        fill = INK if row.rate >= 1 else 'url(#less)'
        parts += [label(left - 8, y + 14, names[number], 'end'),
                  f'<rect x="{begin:.1f}" y="{y + 3}" width="{max(end - begin, 1):.1f}" height="{LINE - 6}" '
                  f'fill="{fill}" stroke="{INK}" stroke-width="0.7"/>',
                  label(left + BARS + RIGHT - 6, y + 14, f'{row.rate:.2f}', 'end')]
    return '\n'.join(parts) + '\n</svg>\n'


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = parse(sys.stdin.read())
    if not rows:
        sys.exit(f'{os.path.basename(sys.argv[0])}: nothing to draw: no row was printed')
    with open(sys.argv[1], 'w', encoding='utf-8') as file:
        file.write(draw(rows))


if __name__ == '__main__':
    main()
