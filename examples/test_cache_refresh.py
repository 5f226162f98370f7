# SPDX-License-Identifier: BSL-1.0
"""One case of what cache_refresh promises: test_cache_refresh.py PROGRAM SOURCE CASE"""
import re
import signal
import socket
import subprocess
import sys

import smoke
from smoke import Client

PROGRAM, SOURCE, CASE = sys.argv[1:]
WORKERS = 2
WAYS = {
    'forced': ('--forced', '0.1', '--pull', 'off', '--push', 'off'),
    'pulled': ('--forced', 'off', '--pull', '0.1', '--push', 'off'),
    'pushed': ('--forced', 'off', '--pull', 'off', '--push', 'on'),
}
ALL = ('--forced', '0.1', '--pull', '0.1', '--push', 'on')
NONE = ('--forced', 'off', '--pull', 'off', '--push', 'off')


class Source(smoke.Program):
    def __init__(self, value, port=0):
        super().__init__(SOURCE, str(port), value)
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])

    def ask(self, question):
        with socket.create_connection(('127.0.0.1', self.port), smoke.PATIENCE) as connection:
            connection.sendall(f'{question}\n'.encode())
            return connection.makefile().readline().rstrip('\n')

    def set(self, value):
        return int(self.ask(f'SET {value}'))

    def end(self):
        self.kill()
        self.wait()


class Server(smoke.Program):
    def __init__(self, source_port, options):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS),
                         '--source', f'127.0.0.1:{source_port}', *options)
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)

    def get(self, path='/value'):
        with Client(self.port) as client:
            return client.get(path, 'Connection: close')

    def answers(self):
        """What each worker answers: its value, the version and the way, by its slot."""
        found = {}
        while len(found) < WORKERS:
            status, _, body = self.get()
            assert status == 200, (status, body)
            value, version, slot, way = re.fullmatch(
                r'(.*)\nversion (\d+), worker (\d+) \(pid \d+\), (\w+)\n', body).groups()
            found[int(slot)] = value, int(version), way
        return list(found.values())

    def values(self):
        return {value for value, _, _ in self.answers()}

    def all_have(self, *answer):
        smoke.eventually(lambda: self.answers() == [answer] * WORKERS, f'{answer}')

    def pid(self, who):
        return int(self.wait_for(rf'^{who} started, pid (\d+)$')[-1][1])

    def assert_no_exit(self):
        assert not [line for line in self.lines('stderr') if ' exited' in line or ' draining' in line]


def one_way(way):
    with Source('green') as source, Server(source.port, WAYS[way]) as server:
        for value in ('blue', '', 'two words', 'blue'):
            server.all_have(value, source.set(value), way)
        assert server.get('/nothing')[0] == 404
        server.assert_no_exit()


def forced():
    one_way('forced')


def pulled():
    one_way('pulled')


def pushed():
    one_way('pushed')


def source_gone():
    failures = {'forced': r'^schedule "forced" failed at worker {}: source 127\.0\.0\.1:\d+: .*refused',
                'pulled': r'^schedule "pull" failed at worker {}: source 127\.0\.0\.1:\d+: .*refused',
                'pushed': r'^agent source: watch 127\.0\.0\.1:\d+: .*refused'}
    for way, failure in failures.items():
        with Source('green') as source, Server(source.port, WAYS[way]) as server:
            version = source.set('blue')
            server.all_have('blue', version, way)
            source.end()
            for slot in range(1, WORKERS + 1):
                server.wait_for(failure.format(slot), 2 if way != 'pushed' else 1)
            assert server.answers() == [('blue', version, way)] * WORKERS
            with Source('red', source.port) as again:
                server.all_have('red', int(again.ask('VERSION')), way)
                server.all_have('black', again.set('black'), way)
            server.assert_no_exit()


def source_hangs():
    with Source('green') as source, Server(source.port, ALL) as server:
        source.send_signal(signal.SIGSTOP)
        server.wait_for(r'^schedule "forced" failed at worker \d+: source 127\.0\.0\.1:\d+: timed out')
        server.wait_for(r'^agent source: watch 127\.0\.0\.1:\d+: .*timed out')
        assert server.values() == {'green'}
        source.send_signal(signal.SIGCONT)
        source.set('blue')
        smoke.eventually(lambda: server.values() == {'blue'}, 'blue')
        server.assert_no_exit()


def worker_hangs():
    with Source('green') as source, Server(source.port, WAYS['pushed']) as server, Client(server.port) as client:
        slot = int(re.search(r'worker (\d+)', client.get('/value')[2])[1])
        other = server.pid(f'worker {3 - slot}')
        server.signal(other, signal.SIGSTOP)
        for value in ('blue', 'red'):
            source.set(value)
            smoke.eventually(lambda: client.get('/value')[2].startswith(f'{value}\n'), value)
        server.signal(other, signal.SIGCONT)
        smoke.eventually(lambda: server.values() == {'red'}, 'red in all workers')
        server.assert_no_exit()


def started_alone():
    with Source('green') as source:
        port = source.port
    with Server(port, NONE) as server:
        assert server.get()[0] == 503
        with Source('blue', port):
            smoke.eventually(lambda: server.get()[0] == 200, 'a value')
            smoke.eventually(lambda: all(server.get()[0] == 200 for _ in range(WORKERS)), 'a value in all workers')
        # One that has to begin without the source is not the end of it either.
        pid = server.pid('worker 1')
        server.signal(pid, signal.SIGKILL)
        server.wait_for(r'^worker 1 ready', 2)
        smoke.eventually(lambda: {server.get()[0] for _ in range(WORKERS)} == {200, 503}, 'one with a value')
        with Source('red', port):
            smoke.eventually(lambda: {server.get()[0] for _ in range(WORKERS)} == {200}, 'both with a value')
        assert server.values() == {'blue', 'red'}


def agent_killed():
    with Source('green') as source, Server(source.port, WAYS['pushed']) as server:
        server.all_have('blue', source.set('blue'), 'pushed')
        server.signal(server.pid('agent source'), signal.SIGKILL)
        server.all_have('red', source.set('red'), 'pushed')
        server.wait_for(r'^agent source ready', 2)
        server.all_have('black', source.set('black'), 'pushed')


def stopped():
    with Source('green') as source, Server(source.port, ALL) as server:
        server.all_have('green', int(source.ask('VERSION')), 'forced')
        source.send_signal(signal.SIGSTOP)
        server.terminate()
        assert server.wait() == 0
    with Source('green') as source, Server(source.port, ALL) as server:
        source.end()
        server.wait_for('refused')
        server.terminate()
        assert server.wait() == 0


def usage():
    for bad in (['--nothing'], ['--workers', '0'], ['--listen', 'x'], ['--source'], ['--forced', '-1'],
                ['--forced', '0'], ['--pull', 'on'], ['--push', '1'], ['--pull']):
        done = subprocess.run([PROGRAM, *bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert done.returncode == 2 and 'usage: cache_refresh ' in done.stderr, (bad, done)
    for bad in (['x'], ['-1'], ['65536'], ['0', 'green', 'blue']):
        done = subprocess.run([SOURCE, *bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert (done.returncode, done.stderr) == (2, 'usage: cache_refresh_source [PORT [VALUE]]\n'), (bad, done)


sys.exit(smoke.run(globals(), CASE))
