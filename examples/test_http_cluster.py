# SPDX-License-Identifier: BSL-1.0
"""One case of what http_cluster promises, with one distribution: test_http_cluster.py PROGRAM CASE DISTRIBUTION"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import smoke
from smoke import Client

PROGRAM, CASE, DISTRIBUTION = sys.argv[1:]
WORKERS = 2


class Server(smoke.Program):
    def __init__(self, *more):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--distribution', DISTRIBUTION,
                         *more)

    def start(self):
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)
        return self


def ask(port, path='/'):
    with Client(port) as client:
        return client.get(path, 'Connection: close')


def worker_of(answer):
    """Slot and pid, as the body tells them."""
    status, _, body = answer
    assert status == 200, answer
    return tuple(map(int, re.fullmatch(r'handled by worker (\d+), pid (\d+)\n', body).groups()))


def client_at(server, pid):
    """A connection to one certain worker."""
    for _ in range(1000):
        client = Client(server.port)
        if worker_of(client.get('/'))[1] == pid:
            return client
        client.__exit__()
    raise AssertionError(f'no connection got to {pid}')


class Visitors:
    """Some who open one connection after the other, none of which may fail."""

    def __init__(self, port, number=1):
        self._port = port
        self._end = threading.Event()
        self._failures = []
        self.may_be_refused = False
        self._threads = [threading.Thread(target=self._visit, daemon=True) for _ in range(number)]
        self.count = 0

    def _visit(self):
        while not self._end.is_set():
            begin = time.monotonic()
            late = False
            try:
                with Client(self._port) as client:
                    client.send('GET / HTTP/1.1\r\nConnection: close\r\n\r\n')
                    late = time.monotonic() - begin > 0.05  # may be too late for a server that stops
                    worker_of(client.answer())
                    client.assert_closed()
                self.count += 1
            except ConnectionRefusedError as failure:
                if not self.may_be_refused:
                    self._failures.append(repr(failure))
                return
            except Exception as failure:
                if not late:
                    self._failures.append(repr(failure))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, self._failures


def spread():
    with Server().start() as server:
        pids = []
        while len(pids) < 20 or (len(set(pids)) < WORKERS and len(pids) < 2000):
            pids.append(worker_of(ask(server.port))[1])
        counts = [pids.count(pid) for pid in set(pids)]
        assert len(counts) == WORKERS, counts
        if DISTRIBUTION == 'round_robin':
            assert max(counts) - min(counts) <= 1, counts
        assert server.lines('stdout') == [f'listening on 127.0.0.1:{server.port}']


def routes():
    with Server().start() as server, Client(server.port) as client:
        worker_of(client.get('/'))
        worker_of(client.get('/?a=b'))
        worker_of(client.get('/slow?ms=1'))
        for bad in ('/slow', '/slow?ms=', '/slow?ms=-1', '/slow?ms=1x', '/slow?ms=99999999999', '/slow?s=1'):
            assert client.get(bad)[0] == 400, bad
        assert client.get('/nothing')[0] == 404

        client.send('HEAD / HTTP/1.1\r\n\r\n')
        status, headers, _ = client.answer(body=False)
        assert status == 200 and int(headers['Content-Length']) > 0
        worker_of(client.get('/'))

        status, headers, _ = client.get('/', 'Connection: close')
        assert headers['Connection'] == 'close'
        client.assert_closed()


def proxied():
    """Behind a proxy: the answer is for the client that the header names, and a connection without a header ends."""
    with Server('--proxied', 'yes').start() as server:
        with Client(server.port) as client:
            client.send('PROXY TCP4 192.0.2.7 192.0.2.1 40000 80\r\nGET / HTTP/1.1\r\n\r\n')
            assert 'for 192.0.2.7:40000\n' in client.answer()[2]
            assert 'for 192.0.2.7:40000\n' in client.get('/')[2]
        with Client(server.port) as client:
            client.send('PROXY UNKNOWN\r\n')
            assert 'for the proxy\n' in client.get('/')[2]
        with Client(server.port) as client:
            client.send('GET / HTTP/1.1\r\n\r\n')
            try:
                client.assert_closed()
            except ConnectionResetError:  # of a request that nobody has read to its end
                pass


def versions():
    with Server().start() as server:
        with Client(server.port) as client:
            client.send('GET / HTTP/1.0\r\n\r\n')
            assert client.answer()[1]['Connection'] == 'close'
            client.assert_closed()
        with Client(server.port) as client:
            client.send('GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
            assert client.answer()[1]['Connection'] == 'keep-alive'
            worker_of(client.get('/'))


def pipelining():
    with Server().start() as server, Client(server.port) as client:
        client.send('GET / HTTP/1.1\r\n\r\n'
                    'POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /'
                    'GET /slow?ms=50 HTTP/1.1\r\n\r\n'
                    'POST /slow HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'
                    'GET /b HTTP/1.1\r\n\r\n')
        assert [client.answer()[0] for _ in range(5)] == [200, 404, 200, 400, 404]

        client.send('GET / HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n')
        assert [client.answer()[0] for _ in range(2)] == [200, 404]
        client.assert_closed()

        count = 2000  # more than fits into one read
        with Client(server.port) as many:
            sender = threading.Thread(target=many.send, args=('GET / HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n' * count,))
            sender.start()
            assert [many.answer()[0] for _ in range(2 * count)] == [200, 404] * count
            sender.join()

        with Client(server.port) as slow_writer:
            time.sleep(0.1)
            for each in 'GET /slow?ms=1 HTTP/1.1\r\nHost: localhost\r\n\r\n':
                slow_writer.send(each)
            worker_of(slow_writer.answer())


def bad_requests():
    with Server().start() as server:
        for bad, expected in (
                ('nonsense\r\n\r\n', 400),
                ('GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n', 400),
                ('GET / HTTP/1.1\r\nA header without a colon\r\n\r\n', 400),
                ('GET / HTTP/1.1\r\nA: ' + 200_000 * 'a', 431)):
            with Client(server.port) as client:
                client.send('GET / HTTP/1.1\r\n\r\n' + bad)
                worker_of(client.answer())
                status, headers, _ = client.answer()
                assert status == expected, (bad[:40], status)
                assert headers['Connection'] == 'close'
                client.assert_closed()


def fatal():
    with Server().start() as server, Client(server.port) as slow:
        slot, old = worker_of(slow.get('/'))
        with client_at(server, old) as halfway, client_at(server, old) as doomed, Visitors(server.port) as visitors:
            slow.send('GET /slow?ms=1000 HTTP/1.1\r\n\r\n')
            halfway.send('GET / HTTP/1.1\r\n')
            status, headers, body = doomed.get('/fatal')
            assert (status, body, headers['Connection']) == (200, 'going down\n', 'close')
            doomed.assert_closed()

            server.wait_for(fr'^worker {slot} draining, pid {old}: .*/fatal')
            new = int(server.wait_for(fr'^worker {slot} ready, pid (\d+)', 2)[1][1])
            assert new != old
            assert not any('exited' in line for line in server.lines('stderr')), 'gone before its replacement was ready'

            halfway.send('\r\n')
            answer = halfway.answer()
            assert worker_of(answer) == (slot, old) and answer[1]['Connection'] == 'close'
            halfway.assert_closed()
            assert worker_of(slow.answer()) == (slot, old)
            slow.assert_closed()
            server.wait_for(fr'^worker {slot} exited, pid {old}: status 1$')
            server.wait_gone(old)
            seen = visitors.count
            smoke.eventually(lambda: visitors.count > seen, 'another visitor')
        client_at(server, new).__exit__()


def abort():
    with Server().start() as server, Client(server.port) as client:
        slot, old = worker_of(client.get('/'))
        client.send('GET /abort HTTP/1.1\r\n\r\n')
        try:
            client.assert_closed()
        except ConnectionResetError:
            pass
        server.wait_for(fr'^worker {slot} exited, pid {old}: killed by SIGABRT')
        new = int(server.wait_for(fr'^worker {slot} ready, pid (\d+)', 2)[1][1])
        client_at(server, new).__exit__()


def abort_first():
    """A connection whose first request ends the worker ends with it: nobody else gets it."""
    with Server().start() as server:
        for _ in range(5):
            with Client(server.port) as client:
                client.send('GET /abort HTTP/1.1\r\n\r\n')
                try:
                    client.assert_closed()
                except ConnectionResetError:
                    pass
        server.wait_for(r'^worker \d+ exited, .*: killed by SIGABRT', 5)
        worker_of(ask(server.port))


def worker_killed():
    with Server().start() as server:
        slot, old = worker_of(ask(server.port))
        server.signal(old, signal.SIGKILL)
        server.wait_for(fr'^worker {slot} exited, pid {old}: killed by SIGKILL')
        new = int(server.wait_for(fr'^worker {slot} ready, pid (\d+)', 2)[1][1])
        with Visitors(server.port) as visitors:
            client_at(server, new).__exit__()
            smoke.eventually(lambda: visitors.count >= 20, '20 visitors')


def primary_killed():
    with Server().start() as server, Client(server.port) as idle, Client(server.port) as slow:
        worker_of(idle.get('/'))
        worker_of(slow.get('/'))
        slow.send('GET /slow?ms=300 HTTP/1.1\r\n\r\n')
        server.kill()
        worker_of(slow.answer())
        slow.assert_closed()
        idle.assert_closed()
        for pid in server.pids():
            server.wait_gone(pid)


def stop():
    with Server().start() as server, Client(server.port) as idle, Client(server.port) as slow:
        worker_of(idle.get('/'))
        worker_of(slow.get('/'))
        slow.send('GET /slow?ms=500 HTTP/1.1\r\n\r\n')
        server.terminate()
        worker_of(slow.answer())
        slow.assert_closed()
        idle.assert_closed()
        assert server.wait() == 0
        for pid in server.pids():
            server.wait_gone(pid)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(('127.0.0.1', server.port))
            again.listen()


def stop_busy():
    with Server().start() as server, Visitors(server.port, 16) as visitors:
        smoke.eventually(lambda: visitors.count >= 100, '100 visitors')
        visitors.may_be_refused = True
        server.terminate()
        assert server.wait() == 0


def port_taken():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = '127.0.0.1:{}'.format(taken.getsockname()[1])
        with smoke.Program(PROGRAM, '--listen', address, '--distribution', DISTRIBUTION) as server:
            assert server.wait() == 1
            assert server.lines('stdout') == []
            assert server.lines('stderr') == [f'listen {address}: Address already in use']


def service():
    """As under systemd: with a port that somebody else keeps, and with a manager that hears how it does."""
    with socket.socket() as port, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        port.bind(('127.0.0.1', 0))
        port.listen()
        manager.bind('')  # the kernel chooses an abstract name
        manager.settimeout(smoke.PATIENCE)
        environment = dict(os.environ, NOTIFY_SOCKET='@' + manager.getsockname()[1:].decode())

        def start():
            return smoke.Program(PROGRAM, '--listen', f'fd:{port.fileno()}', '--workers', str(WORKERS),
                                 '--distribution', DISTRIBUTION, pass_fds=[port.fileno()], env=environment)

        def until(text):
            while manager.recv(4096).decode() != text:
                pass

        number = port.getsockname()[1]
        with start() as server:
            until('READY=1')
            until(f'STATUS={WORKERS} of {WORKERS} workers serve')
            worker_of(ask(number))
            server.terminate()
            until('STOPPING=1')
            assert server.wait() == 0
        with Client(number) as waiting:
            waiting.send('GET / HTTP/1.1\r\nConnection: close\r\n\r\n')
            with start() as server:
                worker_of(waiting.answer())
                server.terminate()
                assert server.wait() == 0


def usage():
    for bad in (['--nothing', '1'], ['--workers'], ['--workers', '0'], ['--workers', '2x'], ['--listen', 'here'],
                ['--listen', '127.0.0.1:99999'], ['--distribution', 'fair'], ['--drain-timeout', '-1'], ['stray']):
        done = subprocess.run([PROGRAM, *bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert done.returncode == 2, bad
        assert 'usage: ' in done.stderr and done.stdout == '', done


sys.exit(smoke.run(globals(), CASE))
