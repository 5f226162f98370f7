# SPDX-License-Identifier: BSL-1.0
"""One case of what sessions promises, with a Redis of its own: test_sessions.py PROGRAM CASE"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import smoke
from smoke import Client

PROGRAM, CASE = sys.argv[1:]
WORKERS = 3


class Redis(smoke.Program):
    """Keeps nothing on the disk, and has nothing to do with one that the system may run."""

    def __init__(self, directory, *where):
        where = where or ('--port', '0', '--unixsocket', f'{directory}/socket')
        super().__init__('redis-server', *where, '--save', '', '--appendonly', 'no', '--dir', directory)

    def start(self):
        self.wait_for('eady to accept connections')


class Server(smoke.Program):
    def __init__(self, redis):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--redis', redis)

    def start(self):
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)

    def client(self):
        return Client(self.port)

    def descriptors(self):
        """How many its workers have open, all together."""
        return sum(len(os.listdir(f'/proc/{pid}/fd')) for pid in self.pids())

    def stop(self):
        """Ends it, and looks whether all went well to the end."""
        self.terminate()
        assert self.wait() == 0
        for line in self.lines('stderr'):
            assert not re.search('Sanitizer|runtime error', line), line


class Setting:
    """A Redis at a unix socket, and a cluster that uses it."""

    def __enter__(self):
        with contextlib.ExitStack() as begun:  # ends what has begun, should the rest fail
            self.directory = begun.enter_context(tempfile.TemporaryDirectory())
            self.address = f'unix:{self.directory}/socket'
            self.redis = begun.enter_context(Redis(self.directory))
            self.redis.start()
            self.server = begun.enter_context(Server(self.address))
            self.server.start()
            self.stack = begun.pop_all()
        return self

    def __exit__(self, _, failure, __):
        with self.stack:
            if failure:
                raise failure  # to the programs, so that they show what they have printed
            self.server.stop()

    def start_redis(self):
        self.redis = self.stack.enter_context(Redis(self.directory))
        self.redis.start()

    def kill_redis(self):
        self.redis.kill()
        self.redis.wait()


def send(client, method, path, session=None):
    cookie = f'Cookie: session={session}\r\n' if session else ''
    client.send(f'{method} {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n')


def ask(client, *what):
    send(client, *what)
    return client.answer()


def session_of(answer):
    status, headers, _ = answer
    assert status == 200, answer
    cookie = headers['Set-Cookie']
    return re.fullmatch(r'session=([0-9a-f]{32}); Path=/; Max-Age=3600; HttpOnly; SameSite=Lax', cookie)[1]


def log_in(client, user):
    return session_of(ask(client, 'POST', f'/login?user={user}'))


def who(answer):
    """The user and the worker."""
    status, _, body = answer
    assert status == 200, answer
    user, worker = re.fullmatch(r'(.+), from worker (\d+)\n', body).groups()
    return user, int(worker)


def ask_anew(server, *what):
    with server.client() as client:
        return ask(client, *what)


def log_in_and_out(server):
    with server.client() as client:
        ada, grace = log_in(client, 'ada'), log_in(client, 'grace')
        assert ada != grace
        # Connections go to the workers in turn.
        asked = [who(ask_anew(server, 'GET', '/whoami', ada)) for _ in range(WORKERS)]
        assert sorted(asked) == [('ada', worker + 1) for worker in range(WORKERS)], asked
        assert who(ask(client, 'GET', '/whoami', grace))[0] == 'grace'
        left = ask_anew(server, 'POST', '/logout', ada)
        assert left[0] == 200 and 'session=; Path=/; Max-Age=0;' in left[1]['Set-Cookie'], left
        for _ in range(WORKERS):
            assert ask_anew(server, 'GET', '/whoami', ada)[0] == 401
        assert ask_anew(server, 'POST', '/logout', ada)[0] == 401
        assert who(ask_anew(server, 'GET', '/whoami', grace))[0] == 'grace'


def shared():
    with Setting() as here:
        log_in_and_out(here.server)


def tcp():
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as directory, Redis(directory, '--bind', '127.0.0.1', '--port', port) as redis:
        redis.start()
        with Server(f'127.0.0.1:{port}') as server:
            server.start()
            log_in_and_out(server)
            server.stop()


def requests():
    with Setting() as here, here.server.client() as client:
        for user in ('', 'a b', 'a%20b', 'a\tb', 'a&b=c', 'x' * 65):
            status = ask_anew(here.server, 'POST', f'/login?user={user}')[0]
            assert status == 400, (user, status)
        assert ask(client, 'POST', '/login')[0] == 400
        assert ask(client, 'GET', '/nothing')[0] == 404
        for method, path, allowed in (('GET', '/login?user=x', 'POST'), ('GET', '/logout', 'POST'),
                                      ('POST', '/whoami', 'GET')):
            status, headers, _ = ask(client, method, path)
            assert (status, headers['Allow']) == (405, allowed)
        session = log_in(client, 'x' * 64)
        for unknown in (None, '0' * 32, session[:-1], session + '0', session.upper() + 'X', '*'):
            assert ask(client, 'GET', '/whoami', unknown)[0] == 401, unknown
            assert ask(client, 'POST', '/logout', unknown)[0] == 401, unknown
        for cookies in ([f'Cookie: session={session}'], [f'cookie:session={session}'],
                        [f'Cookie: a=b; session={session}; c=d'], [f'Cookie: session=1;;session={session};'],
                        ['Cookie: a=b', 'X-Other: c', f'Cookie: session={session}']):
            assert who(client.get('/whoami', *cookies))[0] == 'x' * 64, cookies
        for cookies in ([f'Cookie: xsession={session}'], [f'X-Cookie: session={session}'], ['Cookie:']):
            assert client.get('/whoami', *cookies)[0] == 401, cookies
        for byte in f'GET /whoami HTTP/1.1\r\nHost: localhost\r\nCookie: session={session}\r\n\r\n':
            client.send(byte)
        assert who(client.answer())[0] == 'x' * 64
        client.send('nonsense\r\n\r\n')
        assert client.answer()[0] == 400
        client.assert_closed()


def expiry():
    with Setting() as here, here.server.client() as client, socket.socket(socket.AF_UNIX) as redis:
        session = log_in(client, 'ada')
        redis.connect(f'{here.directory}/socket')
        redis.sendall(f'TTL session:{session}\r\n'.encode())
        left = int(re.fullmatch(r':(\d+)\r\n', redis.recv(100).decode())[1])
        assert 3600 - smoke.PATIENCE < left <= 3600, left


def pipelined():
    with Setting() as here, here.server.client() as client:
        sessions = {f'user-{n}': log_in(client, f'user-{n}') for n in range(10)}
        order = [f'user-{n * n % 10}' for n in range(1000)]
        for user in order:
            send(client, 'GET', '/whoami', sessions[user])
        assert [who(client.answer())[0] for _ in order] == order


def many():
    """Their commands are under way at the same time, at one connection to Redis for each worker."""
    with Setting() as here:
        clients = {f'user-{n}': here.server.client() for n in range(60)}
        for user, client in clients.items():
            send(client, 'POST', f'/login?user={user}')
        sessions = {user: session_of(client.answer()) for user, client in clients.items()}
        for _ in range(20):
            for user, client in clients.items():
                send(client, 'GET', '/whoami', sessions[user])
            for user, client in clients.items():
                assert who(client.answer())[0] == user
        for client in clients.values():
            client.__exit__()


def assert_unavailable(answer, reason):
    status, _, body = answer
    assert status == 503 and re.fullmatch(reason + '\n', body), answer


def redis_killed():
    with Setting() as here, here.server.client() as client:
        session = log_in(client, 'ada')
        open_before = here.server.descriptors()
        here.kill_redis()
        gone = f'redis {here.address}: (Connection refused|Server closed the connection|Connection reset by peer)'
        for _ in range(2 * WORKERS):
            assert_unavailable(ask_anew(here.server, 'GET', '/whoami', session), gone)
        assert_unavailable(ask(client, 'POST', '/login?user=ada'), gone)
        assert ask(client, 'GET', '/whoami')[0] == 401  # needs no Redis
        here.start_redis()
        assert ask(client, 'GET', '/whoami', session)[0] == 401  # this one has not heard of it
        log_in_and_out(here.server)
        smoke.eventually(lambda: here.server.descriptors() <= open_before, 'no more descriptors than before')
        assert not [line for line in here.server.lines('stderr') if 'exited' in line]


def redis_hangs():
    with Setting() as here, here.server.client() as client:
        session = log_in(client, 'ada')
        here.redis.send_signal(signal.SIGSTOP)
        silence = f'redis {here.address}: no answer within 2000 ms'
        assert_unavailable(ask(client, 'GET', '/whoami', session), silence)
        send(client, 'GET', '/whoami', session)
        here.redis.send_signal(signal.SIGCONT)
        assert who(client.answer())[0] == 'ada'


def worker_killed():
    with Setting() as here:
        here.kill_redis()
        victim = here.server.pids()[0]
        here.server.signal(victim, signal.SIGKILL)
        here.server.wait_for(rf'redis {here.address}: Connection refused')  # says the one that comes in its place
        assert_unavailable(ask_anew(here.server, 'POST', '/login?user=ada'), rf'redis {here.address}: .*')
        here.start_redis()
        here.server.wait_for(r'^worker \d+ ready', WORKERS + 1)
        log_in_and_out(here.server)


def stopped():
    """A request that waits for Redis is answered by a worker that is on its way out."""
    with Setting() as here, here.server.client() as client:
        session = log_in(client, 'ada')
        here.redis.send_signal(signal.SIGSTOP)
        send(client, 'GET', '/whoami', session)
        here.server.terminate()
        here.server.wait_for(r'^worker \d+ draining', WORKERS)
        here.redis.send_signal(signal.SIGCONT)
        status, headers, _ = client.answer()
        assert status in (200, 503) and headers['Connection'] == 'close'  # 503 if the above has taken two seconds
        client.assert_closed()


def no_redis():
    with socket.socket() as closed:  # nobody else gets its port, and nobody answers there
        closed.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{closed.getsockname()[1]}'
        for where, why in ((address, 'Connection refused'), ('unix:/nowhere/socket', 'No such file or directory')):
            done = subprocess.run([PROGRAM, '--listen', '127.0.0.1:0', '--redis', where], capture_output=True, text=True,
                                  timeout=smoke.PATIENCE)
            assert (done.returncode, done.stdout) == (1, ''), done
            assert done.stderr == f'sessions: redis {where}: {why}\n', done


def usage():
    for bad in (['--redis'], ['--redis', 'localhost:6379'], ['--redis', 'unix:socket'], ['--workers', '0'],
                ['--what', '1'], ['--listen', '127.0.0.1']):
        done = subprocess.run([PROGRAM, *bad], capture_output=True, text=True, timeout=smoke.PATIENCE)
        assert done.returncode == 2 and 'usage: sessions' in done.stderr, (bad, done)


if not shutil.which('redis-server'):
    print('skipped: there is no redis-server (Debian: redis-server)')
    sys.exit(77)
sys.exit(smoke.run(globals(), CASE))
