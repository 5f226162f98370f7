# SPDX-License-Identifier: BSL-1.0
"""One case of what compute_pool promises: test_compute_pool.py PROGRAM CASE"""
import glob
import http.client
import os
import re
import signal
import subprocess
import sys

import smoke
from smoke import Client

PROGRAM, CASE = sys.argv[1:]
FOREVER = 1_000_000_000  # takes hours
PROCESSES, QUEUE = 2, 4


class Server(smoke.Program):
    def __init__(self):
        super().__init__(PROGRAM, '0')
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])

    def get(self, path):
        with Client(self.port) as client:
            answer = client.get(path)
            client.assert_closed()
            return answer

    def state(self):
        """Jobs that run, jobs that wait, processes."""
        return tuple(map(int, re.fullmatch(r'(\d+) running, (\d+) waiting, (\d+) processes\n', self.get('/')[2]).groups()))

    def until(self, *state):
        smoke.eventually(lambda: self.state() == state, f'{state}')

    def children(self):
        """The pids of the pool's processes."""
        found = []
        for path in glob.glob('/proc/[0-9]*/stat'):
            try:
                with open(path) as file:
                    pid, parent = re.match(r'(\d+) \(.*\) \S (\d+)', file.read(), re.DOTALL).groups()
            except OSError:
                continue
            if int(parent) == self._process.pid:
                found.append(int(pid))
        return found


class Computation:
    """An answer to /compute that is under way."""

    def __init__(self, server, n):
        self.connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=smoke.PATIENCE)
        self.connection.request('GET', f'/compute?n={n}')
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200

    def line(self):
        return self.answer.readline().decode()

    def lines(self):
        return self.answer.read().decode().splitlines()

    def leave(self):
        self.answer.close()
        self.connection.close()


def results():
    with Server() as server:
        for n, primes in ((0, 0), (2, 1), (10, 4), (100_000, 9592)):
            assert Computation(server, n).lines()[-1] == f'there are {primes} primes up to {n}'
        assert server.state() == (0, 0, 1)
        assert server.get('/nothing')[0] == 404
        for bad in ('/compute', '/compute?n=', '/compute?n=-1', '/compute?n=1x', '/compute?n=1000000001'):
            assert server.get(bad)[0] == 400, bad
        with Client(server.port) as nonsense:
            nonsense.send('nonsense\r\n\r\n')
            assert nonsense.answer()[0] == 400
            nonsense.assert_closed()
        with Client(server.port) as old:
            old.send('GET /compute?n=10 HTTP/1.0\r\n\r\n')
            head, body = old.file.read().decode().split('\r\n\r\n')
            assert 'chunked' not in head and body.endswith('there are 4 primes up to 10\n'), body


def progress():
    with Server() as server:
        lines = Computation(server, 200_000).lines()
        assert lines == [f'{n} %' for n in range(1, 100)] + ['there are 17984 primes up to 200000']
        slow = Computation(server, 100_000_000)
        assert slow.line() == '1 %\n'  # long before the end
        assert server.state() == (1, 0, 1)
        slow.leave()


def hang_up():
    with Server() as server:
        leaving, staying = Computation(server, FOREVER), Computation(server, FOREVER)
        server.until(2, 0, 2)
        leaving.leave()
        server.until(1, 0, 1)
        assert Computation(server, 10).lines()[-1] == 'there are 4 primes up to 10'
        staying.leave()
        server.until(0, 0, 1)


def full():
    with Server() as server:
        busy = [Computation(server, FOREVER) for _ in range(PROCESSES + QUEUE)]
        server.until(PROCESSES, QUEUE, PROCESSES)
        assert server.get('/compute?n=10')[0] == 503
        busy.pop().leave()
        server.until(PROCESSES, QUEUE - 1, PROCESSES)
        waiting = Computation(server, 10)
        server.until(PROCESSES, QUEUE, PROCESSES)
        for each in busy:
            each.leave()
        assert waiting.lines()[-1] == 'there are 4 primes up to 10'


def worker_killed():
    with Server() as server:
        doomed = Computation(server, 100_000_000)
        assert doomed.line() == '1 %\n'  # so that its process is at work
        os.kill(server.children()[0], signal.SIGKILL)
        try:
            doomed.lines()
            raise AssertionError('a whole answer')
        except http.client.IncompleteRead:
            pass
        server.wait_for(r"^job count_primes: killed by SIGKILL \(9\): the job's process has ended$")
        assert Computation(server, 10).lines()[-1] == 'there are 4 primes up to 10'


def stopped():
    with Server() as server:
        running = Computation(server, 300_000)
        server.terminate()
        assert running.lines()[-1] == 'there are 25997 primes up to 300000'
        assert server.wait() == 0


def killed():
    with Server() as server:
        running = Computation(server, FOREVER)  # while this is here, its connection is
        server.until(1, 0, 1)
        child = server.children()[0]
        server.hold(child)
        server.kill()
        server.wait_gone(child)
        running.leave()


def usage():
    for bad in ('x', '-1', '65536'):
        done = subprocess.run([PROGRAM, bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert (done.returncode, done.stderr) == (2, 'usage: compute_pool [PORT]\n')


sys.exit(smoke.run(globals(), CASE))
