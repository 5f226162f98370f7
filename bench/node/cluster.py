# SPDX-License-Identifier: BSL-1.0
"""An unmodified Node server of two workers under node_primary and under Node's own primary, beside each other, under the
load of wrk.

    cluster.py BUILD_DIR [--seconds S] [--rounds N]

Figures of one machine in one moment: read the ratios. All load is on 127.0.0.1.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).parent.parent.parent / 'tests'
sys.path.insert(0, str(TESTS.parent / 'examples'))
import smoke  # noqa: E402

SERVER = "require('http').createServer((_, response) => response.end('hello\\n')).listen(0, '127.0.0.1');\n"
TICKS = os.sysconf('SC_CLK_TCK')


def processor_time(pid):
    """In seconds."""
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children_of(pid):
    return [int(each) for each in pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def wrk(port, seconds, *options):
    """Requests, and requests a second."""
    text = subprocess.run(['wrk', '-t1', '-c32', f'-d{seconds}', *options, f'http://127.0.0.1:{port}/'],
                          check=True, capture_output=True, text=True).stdout
    return int(re.search(r'(\d+) requests in', text)[1]), float(re.search(r'Requests/sec: *([\d.]+)', text)[1])


def measure(command, environment, seconds):
    with smoke.Program(*command, env={**os.environ, **environment}) as program:
        program.wait_for(r'^worker \d+ ready', 2)
        port = program.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1]
        kept = wrk(port, seconds)[1]
        primary = program.process_id()
        workers = children_of(primary)
        before = processor_time(primary), sum(map(processor_time, workers))
        count, each = wrk(port, seconds, '-H', 'Connection: close')
        spent = [(now - then) / count * 1e6 for now, then in zip(
            (processor_time(primary), sum(map(processor_time, workers))), before)]
        program.terminate()
        program.wait()
    return kept, each, *spent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('--seconds', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=3)
    given = parser.parse_args()
    node_primary = ['node', str(TESTS / 'node' / 'primary.js')]
    with tempfile.NamedTemporaryFile('w', suffix='.js') as script:
        script.write(SERVER)
        script.flush()
        common = {'ACCEPT_WORKER': script.name, 'ACCEPT_WORKERS': '2'}
        cases = {
            'rr: C++ primary': ([f'{given.build}/tests/node_primary'], {**common, 'ACCEPT_POLICY': 'rr'}),
            "rr: Node's primary": (node_primary, {**common, 'ACCEPT_POLICY': 'rr'}),
            'none: C++ primary': ([f'{given.build}/tests/node_primary'], {**common, 'ACCEPT_POLICY': 'none'}),
            "none: Node's primary": (node_primary, {**common, 'ACCEPT_POLICY': 'none'}),
        }
        results = {name: [] for name in cases}
        for _ in range(given.rounds):
            for name, (command, environment) in cases.items():
                results[name].append(measure(command, environment, given.seconds))
    print(f'{"median of " + str(given.rounds):22} keep-alive/s  connections/s  µs primary  µs workers, each connection')
    for name, rounds in results.items():
        kept, each, primary, workers = (statistics.median(column) for column in zip(*rounds))
        print(f'{name:22} {kept:12.0f} {each:14.0f} {primary:11.1f} {workers:11.1f}')


main()
