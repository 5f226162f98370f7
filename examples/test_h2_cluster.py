# SPDX-License-Identifier: BSL-1.0
"""One case of what h2_cluster promises: test_h2_cluster.py PROGRAM CASE"""
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile

import smoke

PROGRAM, CASE = sys.argv[1:]
WORKERS = 2
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
LAST_OF_ALL = 2**31 - 1
NO_ERROR = 0


class Server(smoke.Program):
    scheme = 'http'

    def __init__(self, *options):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), *options)

    def __enter__(self):
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)
        return self

    def curl(self, path, *options, data=None):
        """The status, and the body."""
        way = ['--http2', '--insecure'] if self.scheme == 'https' else ['--http2-prior-knowledge']
        words = ['curl', '--silent', '--show-error', *way, '--max-time', str(smoke.PATIENCE),
                 '--write-out', r'%{stderr}%{http_code} %{http_version}', *options]
        if data is not None:
            words += ['--header', 'Expect:', '--data-binary', '@-']
        done = subprocess.run([*words, f'{self.scheme}://127.0.0.1:{self.port}{path}'], input=data or b'', capture_output=True)
        assert done.returncode == 0, done
        status, version = done.stderr.split()
        assert version == b'2', done
        return int(status), done.stdout

    def pid(self):
        return int(self.curl('/pid')[1].split()[1])


class Client:
    """A connection, frame by frame."""

    def __init__(self, port, settings=b'', tls=None):
        self.socket = socket.create_connection(('127.0.0.1', port), smoke.PATIENCE)
        if tls:
            # not suppressed: an end of the stream without close_notify raises
            self.socket = tls.wrap_socket(self.socket, suppress_ragged_eofs=False)
        self.file = self.socket.makefile('rb')
        self.bodies, self.ended = {}, set()
        self.socket.sendall(PREFACE)
        self.send(SETTINGS, 0, 0, settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, kind, flags, stream, payload=b''):
        self.socket.sendall(struct.pack('>I', len(payload))[1:] + struct.pack('>BBI', kind, flags, stream) + payload)

    def get(self, stream, path, more=b''):
        text = path.encode()
        # GET, http, and of the path and of the host that they are not in the table
        block = b'\x82\x86\x04' + bytes([len(text)]) + text + b'\x01\x01h' + more
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, block)

    def next(self):
        """The next frame: its kind, its flags, its stream and its payload. None at the end."""
        head = self.file.read(9)
        if len(head) < 9:
            return None
        kind, flags, stream = struct.unpack('>BBI', head[3:])
        payload = self.file.read(int.from_bytes(head[:3], 'big'))
        if kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b'') + payload
            if flags & END_STREAM:
                self.ended.add(stream)
        return kind, flags, stream, payload

    def until(self, wanted, stream=0):
        """The payload of the next frame of this kind."""
        while frame := self.next():
            if frame[0] == wanted and frame[2] == stream and not (wanted == SETTINGS and frame[1] & ACK):
                return frame[3]
        raise AssertionError(f'no frame {wanted} of stream {stream}')

    def body(self, stream):
        """All of the body, which has an end."""
        while stream not in self.ended:
            assert self.next(), f'no end of stream {stream}'
        return self.bodies[stream]


def requests():
    with Server() as server:
        assert server.curl('/') == (200, b'hello\n')
        assert server.curl('/', '--head')[0] == 200
        assert server.curl('/nothing')[0] == 404
        assert server.curl('/large?bytes=3000000') == (200, 3000000 * b'x')
        text = os.urandom(60_000)
        assert server.curl('/echo', data=text) == (200, text)
        assert server.curl('/echo', data=10 * text) == (413, b'')
        assert {server.pid() for _ in range(2 * WORKERS)} <= set(server.pids())
        server.terminate()
        assert server.wait() == 0


def goodbye(client, last, late=None):
    """The client is told to go, and when it has answered which of its requests is the last."""
    assert struct.unpack('>II', client.until(GOAWAY)) == (LAST_OF_ALL, NO_ERROR)
    opaque = client.until(PING)
    if late:
        client.get(last, late)  # which it sent before it knew
    client.send(PING, ACK, 0, opaque)
    assert struct.unpack('>II', client.until(GOAWAY)) == (last, NO_ERROR)


def reload_():
    """What a client has asked for is answered, and then its connection ends; one that is idle ends too."""
    with Server() as server, Client(server.port) as busy, Client(server.port) as idle:
        old = set(server.pids())
        idle.get(1, '/pid')
        assert int(idle.body(1).split()[1]) in old
        busy.get(1, '/slow?ms=500')
        busy.until(DATA, 1)
        with subprocess.Popen(['curl', '--silent', '--http2-prior-knowledge', '--no-buffer',
                               f'http://127.0.0.1:{server.port}/slow?ms=1000'], stdout=subprocess.PIPE) as slow:
            assert slow.stdout.readline().startswith(b'1 of 10')
            server.send_signal(signal.SIGHUP)
            goodbye(busy, 3, '/slow?ms=500')
            text = busy.body(3)
            assert text.count(b'\n') == 10, text
            assert busy.next() is None
            goodbye(idle, 1)
            assert idle.next() is None
            assert slow.stdout.read().count(b'\n') == 9
        assert slow.returncode == 0
        server.wait_for(r'^worker \d+ exited.* status 0$', WORKERS)
        assert server.pid() not in old


def drained():
    """A client that has not made room for all of its answer can still do so."""
    with Server() as server, Client(server.port) as client:
        client.get(1, '/large?bytes=100000')  # more than it has room for
        client.until(DATA, 1)
        server.terminate()
        goodbye(client, 1)
        client.send(WINDOW_UPDATE, 0, 0, struct.pack('>I', 100000))
        client.send(WINDOW_UPDATE, 0, 1, struct.pack('>I', 100000))
        assert client.body(1) == 100000 * b'x'
        assert client.next() is None
        assert server.wait() == 0


def hostile():
    """What is wrong, too large or too many ends a request or a connection, and no worker."""
    with Server('--streams', '10') as server:
        pids = set(server.pids())
        with socket.create_connection(('127.0.0.1', server.port), smoke.PATIENCE) as client:
            client.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
            while client.recv(4096):
                pass
        with Client(server.port) as client:
            for stream in range(1, 23, 2):
                client.get(stream, '/slow?ms=60000')
            client.until(RESET, 21)
            for stream in range(1, 21, 2):
                client.send(RESET, 0, stream, struct.pack('>I', 8))
            client.get(23, '/')
            assert client.body(23) == b'hello\n'
        with Client(server.port) as client:
            value = b'\x7f' + bytes([128 + 1, 63]) + 8192 * b'a'
            client.send(HEADERS, END_STREAM, 1, b'\x82\x86\x84' + b'\x00\x01x' + value)
            client.send(CONTINUATION, 0, 1, b'\x00\x01y' + value)
            client.send(CONTINUATION, END_HEADERS, 1, b'\x00\x01z' + value)
            client.until(RESET, 1)
            client.get(3, '/')
            assert client.body(3) == b'hello\n'
        assert {server.pid() for _ in range(2 * WORKERS)} <= pids
        server.terminate()
        assert server.wait() == 0
        assert len(server.wait_for(r'^worker \d+ exited.* status 0$')) == WORKERS


def unread():
    """A client that reads nothing takes little memory, and not for long; so does one that says nothing."""
    def descriptors(pid):
        return len(os.listdir(f'/proc/{pid}/fd'))

    def peak(pid):
        with open(f'/proc/{pid}/status', encoding='ascii') as file:
            return int(re.search(r'VmHWM:\s+(\d+) kB', file.read())[1])

    with Server('--idle', '0.5') as server:
        before = {pid: (descriptors(pid), peak(pid)) for pid in server.pids()}
        widest = struct.pack('>HI', 4, LAST_OF_ALL)
        with Client(server.port, widest) as client:
            client.send(WINDOW_UPDATE, 0, 0, struct.pack('>I', LAST_OF_ALL - 65535))
            for stream in range(1, 201, 2):
                client.get(stream, '/large?bytes=100000000')
            client.socket.recv(1, socket.MSG_PEEK)  # so it is served
            smoke.eventually(lambda: all(descriptors(pid) <= before[pid][0] for pid in before), 'its end')
        for pid, (_, memory) in before.items():
            assert peak(pid) - memory < 30_000, f'{memory} and then {peak(pid)} kB'
        with socket.create_connection(('127.0.0.1', server.port), smoke.PATIENCE) as silent:
            silent.sendall(PREFACE)
            while silent.recv(4096):
                pass


def secure():
    """The same by TLS, for clients that know HTTP/2; a reload ends a connection as TLS wants it."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, 'certificate')
        smoke.make_certificate(file, 'one.test')
        with Server('--certificate', file) as server:
            server.scheme = 'https'
            text = os.urandom(60_000)
            assert server.curl('/echo', data=text) == (200, text)
            assert server.curl('/large?bytes=3000000') == (200, 3000000 * b'x')
            tls.set_alpn_protocols(['http/1.1'])
            try:
                Client(server.port, tls=tls)
            except ssl.SSLError as error:
                assert 'no application protocol' in str(error), error
            else:
                raise AssertionError('HTTP/1.1')
            tls.set_alpn_protocols(['h2', 'http/1.1'])
            with Client(server.port, tls=tls) as client:
                client.get(1, '/slow?ms=500')
                client.until(DATA, 1)
                server.send_signal(signal.SIGHUP)
                goodbye(client, 1)
                client.body(1)
                assert client.next() is None
            server.wait_for(r'^worker \d+ exited.* status 0$', WORKERS)
            assert server.curl('/')[0] == 200
            server.terminate()
            assert server.wait() == 0


sys.exit(smoke.run({**globals(), 'reload': reload_}, CASE))
