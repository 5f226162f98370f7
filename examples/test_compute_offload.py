# SPDX-License-Identifier: BSL-1.0
"""One case of what compute_offload promises: test_compute_offload.py PROGRAM CASE"""
import signal
import socket
import struct
import subprocess
import sys

import smoke
from smoke import Client

PROGRAM, CASE = sys.argv[1:]
FOREVER = 1_000_000_000  # takes hours
MOST = 4


class Server(smoke.Program):
    def __init__(self):
        super().__init__(PROGRAM, '0')
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])

    def computing(self, client, n=FOREVER):
        """Asks for a computation; the pid of the child that has it."""
        pattern = r'the child has pid (\d+)$'
        before = len([line for line in self.lines('stdout') if 'has pid' in line])
        client.send(f'GET /compute?n={n} HTTP/1.1\r\n\r\n')
        return int(self.wait_for(pattern, before + 1)[before][1])


def results():
    with Server() as server, Client(server.port) as client:
        for n, primes in ((0, 0), (2, 1), (10, 4), (100_000, 9592)):
            assert client.get(f'/compute?n={n}')[::2] == (200, f'there are {primes} primes up to {n}\n')
        assert client.get('/')[0] == 200
        assert client.get('/nothing')[0] == 404
        for bad in ('/compute', '/compute?n=', '/compute?n=-1', '/compute?n=1x', '/compute?n=1000000001'):
            assert client.get(bad)[0] == 400, bad
        assert client.get('/compute?n=7', 'Connection: close')[2] == 'there are 4 primes up to 7\n'
        client.assert_closed()
        for pid in server.pids():
            server.wait_gone(pid)
        with Client(server.port) as nonsense:
            nonsense.send('nonsense\r\n\r\n')
            assert nonsense.answer()[0] == 400
            nonsense.assert_closed()


def responsive():
    with Server() as server, Client(server.port) as busy, Client(server.port) as other:
        pid = server.computing(busy)
        for _ in range(100):
            assert other.get('/')[0] == 200
        assert other.get('/compute?n=10')[2] == 'there are 4 primes up to 10\n'
        server.signal(pid, 0)  # still there
        busy.socket.settimeout(0.1)
        try:
            assert not busy.socket.recv(1), 'an answer'
        except TimeoutError:
            pass


def hang_up():
    with Server() as server, Client(server.port) as other:
        with Client(server.port) as leaving:
            closed = server.computing(leaving)
        server.wait_gone(closed)

        with Client(server.port) as leaving:
            reset = server.computing(leaving)
            leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        server.wait_gone(reset)

        with Client(server.port) as talking:
            talked = server.computing(talking)
            talking.send('GET / HTTP/1.1\r\n\r\n' * 10)
        server.wait_gone(talked)
        assert other.get('/')[0] == 200


def pipelined():
    with Server() as server, Client(server.port) as client:
        server.computing(client, 300_000)
        for _ in range(3):
            client.send('GET /compute?n=10 HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n')
        assert client.answer()[2] == 'there are 25997 primes up to 300000\n'
        for _ in range(3):
            assert client.answer()[2] == 'there are 4 primes up to 10\n'
            assert client.answer()[0] == 404


def limit():
    with Server() as server, Client(server.port) as late:
        busy = [Client(server.port) for _ in range(MOST)]
        pids = [server.computing(client) for client in busy]
        assert late.get('/compute?n=10')[0] == 503
        busy[0].__exit__()
        server.wait_gone(pids[0])
        smoke.eventually(lambda: late.get('/compute?n=10')[0] == 200, 'room for one more')
        for client in busy[1:]:
            client.__exit__()
        for pid in pids:
            server.wait_gone(pid)


def child_killed():
    with Server() as server, Client(server.port) as client:
        server.signal(server.computing(client), signal.SIGKILL)
        assert client.answer()[::2] == (500, 'the computation has failed\n')
        assert client.get('/compute?n=10')[0] == 200


def stopped():
    with Server() as server, Client(server.port) as client:
        pid = server.computing(client)
        server.terminate()
        assert server.wait() == -signal.SIGTERM
        server.wait_gone(pid)


def usage():
    for bad in ('x', '-1', '65536'):
        done = subprocess.run([PROGRAM, bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert (done.returncode, done.stderr) == (2, 'usage: compute_offload [PORT]\n')


sys.exit(smoke.run(globals(), CASE))
