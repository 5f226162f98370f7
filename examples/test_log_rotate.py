# SPDX-License-Identifier: BSL-1.0
"""One case of what log_rotate promises: test_log_rotate.py PROGRAM CASE"""
import gzip
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import smoke
from smoke import Client

PROGRAM, CASE = sys.argv[1:]
WORKERS = 3
NEVER = str(10**12)  # bytes


class Server(smoke.Program):
    def __init__(self, folder, *options):
        self.log = os.path.join(folder, 'access.log')
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--log', self.log,
                         '--check', '0.02', *options)
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)

    def pid(self, who):
        return int(self.wait_for(rf'^{who} started, pid (\d+)$')[-1][1])

    def get(self, path):
        with Client(self.port) as client:
            assert client.get(path, 'Connection: close')[0] == 200

    def fill(self):
        self.get('/' + 'x' * 1000)

    def turned_over(self):
        smoke.eventually(lambda: os.path.exists(self.log) and not os.path.getsize(self.log), 'turned over')

    def old(self):
        """What the log was before: its numbers, and whether it is compressed."""
        found = {}
        for name in os.listdir(os.path.dirname(self.log)):
            match = re.fullmatch(r'access\.log\.(\d+)(\.gz)?', name)
            if match:
                found.setdefault(int(match[1]), set()).add(match[2] or '')
        return found

    def compressed(self, count):
        smoke.eventually(lambda: self.old() == {n: {'.gz'} for n in range(1, count + 1)}, f'{count} old files')

    def lines(self, stream=None):
        """Each line of the log and of its old files; without arguments, of a server that has ended."""
        if stream:
            return super().lines(stream)
        text = ''
        for number in sorted(self.old(), reverse=True):
            for suffix, open_one in (('.gz', gzip.open), ('', open)):
                name = f'{self.log}.{number}{suffix}'
                if os.path.exists(name):
                    with open_one(name, 'rt') as file:
                        text += file.read()
        if os.path.exists(self.log):
            with open(self.log) as file:
                text += file.read()
        assert text == '' or text.endswith('\n'), 'torn at the end'
        return text.splitlines()


class Visitors:
    """Some who ask one question after the other, each with a path of its own."""

    def __init__(self, server, number=4):
        self._port = server.port
        self._end = threading.Event()
        self.answered, self.cut_off = [], []
        self._failures = []
        self._threads = [threading.Thread(target=self._visit, args=(name,), daemon=True) for name in range(number)]

    def _visit(self, name):
        count = 0
        while not self._end.is_set():
            path = None
            try:
                with Client(self._port) as client:
                    while not self._end.is_set():
                        count += 1
                        path = f'/visitor{name}/{count}'
                        assert client.get(path)[0] == 200
                        self.answered.append(path)
                        path = None
            except Exception as failure:  # the worker was killed, and may have written the line before
                self._failures.append(repr(failure))
                if path:
                    self.cut_off.append(path)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(smoke.PATIENCE)

    def more(self, count):
        before = len(self.answered)
        smoke.eventually(lambda: len(self.answered) >= before + count, f'{count} answers')


def assert_whole(server, visitors):
    written = []
    for line in server.lines():
        match = re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ worker [1-3] pid \d+ (/visitor\d+/\d+)', line)
        assert match, f'torn: {line}'
        written.append(match[1])
    assert len(set(written)) == len(written), 'a line is there twice'
    lost = set(visitors.answered) - set(written)
    assert not lost, f'lost: {lost}'
    strange = set(written) - set(visitors.answered) - set(visitors.cut_off)
    assert not strange, f'nobody asked for: {strange}'


def rotations(server, count):
    newest = max(server.old(), default=0)
    smoke.eventually(lambda: max(server.old(), default=0) >= newest + count, f'{count} rotations')


def end(server, failures=''):
    server.terminate()
    assert server.wait() == 0
    failed = [line for line in server.lines('stderr') if line.startswith('schedule')]
    assert all(failures and re.search(failures, line) for line in failed), failed


def nothing_lost():
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder, '--max-size', '3000', '--keep', '100000') as server:
            with Visitors(server) as visitors:
                rotations(server, 5)
                server.signal(server.pid('worker 2'), signal.SIGKILL)
                server.wait_for(r'^worker 2 ready', 2)
                rotations(server, 5)
                visitors.more(100)
            end(server)
            assert_whole(server, visitors)
            assert len(visitors.cut_off) <= 4, visitors.cut_off


def stop_one(server):
    """Has a rotation wait for a worker, which is stopped; the pid of that."""
    server.get('/first')
    server.compressed(1)  # so that the agent is through with what it does at its start
    pid = server.pid('worker 2')
    server.signal(pid, signal.SIGSTOP)
    with Client(server.port) as one, Client(server.port) as two:
        # The connection that the stopped worker gets is answered when it goes on, or not at all.
        one.send('GET /1 HTTP/1.1\r\n\r\n')
        two.send('GET /2 HTTP/1.1\r\n\r\n')
        smoke.eventually(lambda: server.old() == {1: {''}, 2: {'.gz'}}, 'renamed')
    time.sleep(0.3)  # long enough to see what should not happen, if it does
    assert server.old() == {1: {''}, 2: {'.gz'}}, 'not waited'
    return pid


def worker_stopped():
    with tempfile.TemporaryDirectory() as folder, Server(folder, '--max-size', '1') as server:
        pid = stop_one(server)
        server.signal(pid, signal.SIGCONT)
        smoke.eventually(lambda: server.old().get(1) == {'.gz'}, 'compressed')
        end(server)
        assert len([line for line in server.lines() if line.endswith((' /1', ' /2'))]) == 2, server.lines()


def worker_gone():
    with tempfile.TemporaryDirectory() as folder, Server(folder, '--max-size', '1') as server:
        pid = stop_one(server)
        server.signal(pid, signal.SIGKILL)
        smoke.eventually(lambda: server.old().get(1) == {'.gz'}, 'compressed')
        server.wait_for(r'^worker 2 ready', 2)
        end(server)


def agent_killed():
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder, '--max-size', '3000', '--keep', '100000') as server:
            with Visitors(server) as visitors:
                for times in range(2, 6):
                    rotations(server, 2)
                    server.signal(server.pid('agent archive'), signal.SIGKILL)
                    server.wait_for(r'^agent archive ready', times)
                rotations(server, 2)
            end(server, 'there is no agent|the peer|closed')
            assert_whole(server, visitors)
            assert not visitors.cut_off, visitors.cut_off


def keep():
    with tempfile.TemporaryDirectory() as folder, Server(folder, '--max-size', '1000', '--keep', '3') as server:
        for count in (1, 2, 3, 3, 3):
            server.fill()
            server.turned_over()
            server.compressed(count)
        end(server)


def timetable():
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder, '--at', '* * * * * *', '--max-size', NEVER) as server:
            server.fill()
            server.compressed(1)
            server.fill()
            server.compressed(2)
            end(server)
            assert len(server.lines()) == 2
        with Server(folder, '--at', 'off', '--max-size', NEVER) as server:
            server.fill()
            end(server)
            assert len(server.lines()) == 3 and len(server.old()) == 2


def stopped():
    with tempfile.TemporaryDirectory() as folder:
        with Server(folder, '--max-size', '1000', '--keep', '100000') as server:
            with Visitors(server) as visitors:
                rotations(server, 2)
            end(server)
            assert_whole(server, visitors)
        # What is there is taken over.
        with Server(folder, '--max-size', '1000', '--keep', '2') as server:
            server.fill()
            server.compressed(2)
            end(server)


def usage():
    for bad in (['--nothing'], ['--workers', '0'], ['--listen', 'x'], ['--log'], ['--at', 'noon'], ['--max-size', '-1'],
                ['--check', '0'], ['--keep', '0'], ['--keep']):
        done = subprocess.run([PROGRAM, *bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert done.returncode == 2 and 'usage: log_rotate ' in done.stderr, (bad, done)


sys.exit(smoke.run(globals(), CASE))
