# SPDX-License-Identifier: BSL-1.0
"""One case of what https_cluster promises: test_https_cluster.py PROGRAM CASE"""
import os
import re
import select
import signal
import socket
import ssl
import sys
import tempfile
import threading

import smoke

PROGRAM, CASE = sys.argv[1:]
WORKERS = 2
REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
LAST_REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
HALF_A_HELLO = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'


class Server(smoke.Program):
    def __init__(self, *certificates, options=()):
        self.folder = tempfile.TemporaryDirectory()
        self.files = [os.path.join(self.folder.name, name) for name in certificates]
        for file, name in zip(self.files, certificates):
            smoke.make_certificate(file, name)
        files = [word for file in self.files for word in ('--certificate', file)]
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--handshake', '60', *files,
                         *options)

    def __enter__(self):
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)
        return self

    def __exit__(self, *failed):
        super().__exit__(*failed)
        self.folder.cleanup()

    def connect(self):
        return socket.create_connection(('127.0.0.1', self.port), smoke.PATIENCE)

    def wait_reloaded(self, generation):
        self.wait_for(r'^worker \d+ ready', WORKERS * generation)
        self.wait_for(r'^worker \d+ exited', WORKERS * (generation - 1))


def client_context(version=ssl.TLSVersion.TLSv1_3):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(['h2', 'http/1.1'])
    return context


def secure(context, plain, session=None, name='one.test'):
    # not suppressed: an end of the stream without close_notify raises
    tls = context.wrap_socket(plain, server_hostname=name, session=session, suppress_ragged_eofs=False)
    assert tls.selected_alpn_protocol() == 'http/1.1'
    return tls


def visit(server, context, session=None, name='one.test'):
    """One connection with one request: the worker's pid, whether it was resumed, its session, its certificate."""
    with server.connect() as plain, secure(context, plain, session, name) as tls:
        tls.sendall(LAST_REQUEST)
        text = b''
        while piece := tls.recv(4096):
            text += piece
        assert text.startswith(b'HTTP/1.1 200 '), text
        pid = int(re.search(rb'pid (\d+)', text)[1])
        return pid, tls.session_reused, tls.session, tls.getpeercert(binary_form=True)


def resumed():
    """Any worker resumes a session, those of the next generation too."""
    with Server('one.test') as server:
        for generation, version in enumerate((ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2), 1):
            context = client_context(version)
            first, again, session, _ = visit(server, context)
            assert not again
            pids = {first}
            for _ in range(10):
                pid, again, session, _ = visit(server, context, session)
                assert again, f'{pid} has not resumed what {first} has begun'
                pids.add(pid)
            assert len(pids) == WORKERS, pids
            server.send_signal(signal.SIGHUP)
            server.wait_reloaded(generation + 1)
            pid, again, _, _ = visit(server, context, session)
            assert again and pid not in pids


def rotated():
    """A session ends with its key, and one of another key is resumed; an agent that is killed has a successor."""
    with Server('one.test', options=('--rotate', '0.2')) as server:
        def out_of_date_and_in_date():
            old = visit(server, context)[2]
            smoke.eventually(lambda: not visit(server, context, old)[1], 'a session whose key is gone')
            smoke.eventually(lambda: visit(server, context, visit(server, context)[2])[1], 'a session of another key')

        context = client_context()
        out_of_date_and_in_date()
        pid = int(server.wait_for(r'^agent tickets.* pid (\d+)')[0][1])
        server.signal(pid, signal.SIGKILL)
        server.wait_for(r'^agent tickets.* ready', 2)
        out_of_date_and_in_date()


def reload_():
    """Certificates are changed under load; a bad one changes nothing."""
    with Server('one.test') as server:
        context = client_context()
        done, counts, failures = threading.Event(), [0], []

        def load():
            while not done.is_set():
                try:
                    visit(server, context)
                    counts[0] += 1
                except Exception as failure:
                    failures.append(repr(failure))

        thread = threading.Thread(target=load)
        thread.start()
        try:
            with server.connect() as plain, secure(context, plain) as idle:
                idle.sendall(REQUEST)
                assert idle.recv(4096).startswith(b'HTTP/1.1 200 ')
                old = idle.getpeercert(binary_form=True)
                smoke.make_certificate(server.files[0], 'one.test')
                server.send_signal(signal.SIGHUP)
                assert idle.recv(4096) == b''  # by a close_notify, else it raises
            server.wait_reloaded(2)
            new = visit(server, context)[3]
            assert new != old
            with open(server.files[0], 'w', encoding='ascii') as file:
                file.write('no certificate')
            server.send_signal(signal.SIGHUP)
            server.wait_for(r'^reload failed')
            server.wait_for(r'certificate .*/one\.test: ')
            assert visit(server, context)[3] == new
            seen = counts[0]
            smoke.eventually(lambda: counts[0] > seen or failures, 'another visitor')
        finally:
            done.set()
            thread.join()
        assert not failures, failures


def names():
    with Server('one.test', 'two.test') as server:
        context = client_context()
        one, two, other = (visit(server, context, name=name)[3] for name in ('one.test', 'two.test', 'three.test'))
        assert one != two and other == one


def slow():
    """Handshakes end when their time is over, and are so many at a time."""
    def is_served():
        try:
            return visit(server, client_context())
        except OSError:
            return False  # too slow itself, or the worker has not seen yet that those before it are gone

    with Server('one.test', options=('--handshake', '0.2')) as server:
        with server.connect() as client:
            client.sendall(HALF_A_HELLO)
            assert client.recv(1) == b''
        smoke.eventually(is_served, 'a visitor after one that was too slow')
    with Server('one.test', options=('--handshakes', '1')) as server:
        clients = [server.connect() for _ in range(WORKERS + 1)]
        for client in clients:
            client.sendall(HALF_A_HELLO)
        turned_away = select.select(clients, [], [], smoke.PATIENCE)[0]
        assert 1 <= len(turned_away) <= WORKERS, turned_away
        for client in clients:
            client.close()
        smoke.eventually(is_served, 'a visitor in place of those that are gone')


def hostile():
    """What is no TLS, no end and no beginning costs one connection, and ends no worker."""
    with Server('one.test') as server:
        pids = set(server.pids())
        for words in (b'GET / HTTP/1.1\r\n\r\n', b'\x16\x03\x01\xff\xff' + 100 * b'x', b'\x16'):
            for _ in range(2 * WORKERS):
                with server.connect() as client:
                    client.sendall(words)
        for _ in range(2 * WORKERS):
            assert visit(server, client_context())[0] in pids
        server.terminate()
        assert server.wait() == 0
        assert len(server.wait_for(r'^worker \d+ exited.* status 0$')) == WORKERS


sys.exit(smoke.run({**globals(), 'reload': reload_}, CASE))
