# SPDX-License-Identifier: BSL-1.0
"""Runs an application of Node's cluster module under a primary, or a worker under Node's own primary:

    test_cluster.py PRIMARY CASE [POLICY]
    test_cluster.py WORKER under_node… [POLICY]

In place of PRIMARY, primary.js is Node's own, for those who want to compare.

Without Node, the cases that need it say so and pass (status 77: skipped).
"""
import asyncio
import collections
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / 'examples'))
import smoke  # noqa: E402

PROGRAM, CASE, *POLICY = sys.argv[1:]
PRIMARY = ['node', PROGRAM] if PROGRAM.endswith('.js') else [PROGRAM]
POLICY = POLICY[0] if POLICY else 'rr'


class Cluster(smoke.Program):
    """A primary with Node workers, which listen at `port`."""

    def __init__(self, workers, what='tcp', node=None, **environment):
        super().__init__(*PRIMARY, env={
            **os.environ, 'ACCEPT_WORKER': str(HERE / 'app.js'), 'ACCEPT_WORKERS': str(workers),
            'ACCEPT_POLICY': POLICY, 'ACCEPT_NODE': node or 'node', 'APP_LISTEN': what, **environment})
        self.workers = workers

    def ready(self):
        self.wait_for(r'^worker \d+ ready, pid', self.workers)
        return self.wait_for(r'^listening at (\S+)$')[0][1]

    def pid_of(self, number):
        """Of the worker that became ready as the number-th."""
        return int(self.wait_for(r'^worker \d+ ready, pid (\d+)', number)[number - 1][1])

    def assert_stops(self):
        self.terminate()
        assert self.wait() == 0
        for pid in self.pids():
            self.wait_gone(pid)


def fake(what):
    return {'node': str(HERE / 'fake_worker.py'), 'FAKE': what}


async def ask(port, path='/'):
    """Who answers: (id, pid)."""
    where = ('127.0.0.1', int(port)) if port.isdigit() else None
    reader, writer = await (asyncio.open_connection(*where) if where else asyncio.open_unix_connection(port))
    try:
        writer.write(f'GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'.encode())
        answer = await asyncio.wait_for(reader.read(), smoke.PATIENCE)
    finally:
        writer.close()
    found = re.search(rb'\r\n\r\n(?:[0-9a-f]+\r\n)?worker (\d+) pid (\d+)\n', answer)
    if not found:
        raise ConnectionError(f'half an answer: {answer!r}')
    return int(found[1]), int(found[2])


def ask_now(port, path='/'):
    return asyncio.run(ask(port, path))


class Load:
    """Clients that come one after the other, each with one request, until the block ends."""

    def __init__(self, port, parallel=16):
        self.port, self.parallel = port, parallel
        self.answers = collections.Counter()
        self.failures = []
        self._over = False

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.parallel)]
        return self

    async def __aexit__(self, *_):
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _run(self):
        while not self._over:
            try:
                _, pid = await ask(self.port)
                self.answers[pid] += 1
            except TimeoutError:
                self.failures.append('no answer')
            except OSError as error:
                self.failures.append(repr(error))

    async def until(self, *pids):
        """Waits until each of them has answered."""
        deadline = asyncio.get_running_loop().time() + smoke.PATIENCE
        while not all(self.answers[pid] for pid in pids):
            assert asyncio.get_running_loop().time() < deadline, f'one does not answer: {self.answers} {self.failures}'
            await asyncio.sleep(0.01)


def off_loop(function, *arguments):
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


# With Node.

def serves():
    with Cluster(2) as cluster:
        port = cluster.ready()
        pids = {cluster.pid_of(1), cluster.pid_of(2)}
        answers = [ask_now(port) for _ in range(8)]
        assert {pid for _, pid in answers} <= pids and {number for number, _ in answers} <= {1, 2}, answers
        if POLICY == 'rr':
            assert collections.Counter(pid for _, pid in answers) == {pid: 4 for pid in pids}, answers
        with smoke.Client(int(port)) as idle:
            assert idle.get('/')[0] == 200
            slow = smoke.Client(int(port))
            slow.send('GET /slow?ms=300 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
            smoke.eventually(lambda: True, '')
            ask_now(port), ask_now(port)  # what was sent before is with a worker by now
            cluster.terminate()
            assert slow.file.read().startswith(b'HTTP/1.1 200'), 'a request was lost'
            slow.__exit__()
        cluster.assert_stops()


def path():
    with tempfile.TemporaryDirectory() as directory:
        where = directory + '/app.sock'
        with Cluster(2, where) as cluster:
            assert cluster.ready() == where
            pids = {ask_now(where)[1] for _ in range(8)}
            assert pids <= {cluster.pid_of(1), cluster.pid_of(2)}
            assert len(pids) == 2 or POLICY == 'none'
            cluster.assert_stops()
            assert not os.path.exists(where)


def udp():
    with Cluster(2, 'udp') as cluster:
        port = int(cluster.ready())
        assert {found[1] for found in cluster.wait_for(r'^listening at (\S+)$', 2)} == {str(port)}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(smoke.PATIENCE)
            for number in range(8):
                client.sendto(f'datagram {number}'.encode(), ('127.0.0.1', port))
                pid, text = client.recv(100).decode().split(' ', 1)
                assert int(pid) in cluster.pids() and text == f'datagram {number}'
        cluster.assert_stops()


def busy():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        with Cluster(1, f'busy {taken.getsockname()[1]}') as cluster:
            cluster.wait_for(r'^worker 1 ready')
            cluster.wait_for('^not listening: EADDRINUSE bind$')
            cluster.assert_stops()


def reload():
    async def run(cluster, port):
        async with Load(port) as load:
            for number in range(3):
                await load.until(cluster.pid_of(2 * number + 1), cluster.pid_of(2 * number + 2))
                cluster.send_signal(signal.SIGHUP)
                await off_loop(cluster.wait_for, '^reloaded', number + 1)
            await load.until(cluster.pid_of(7), cluster.pid_of(8))
        assert not load.failures, load.failures
    with Cluster(2) as cluster:
        asyncio.run(run(cluster, cluster.ready()))
        cluster.assert_stops()


def upgrade():
    async def run(cluster, port):
        async with Load(port) as load:
            await load.until(cluster.pid_of(1), cluster.pid_of(2))
            cluster.send_signal(signal.SIGUSR2)
            await off_loop(cluster.wait_for, '^upgraded')
            await load.until(cluster.pid_of(3), cluster.pid_of(4))
            assert await off_loop(cluster.wait_exit) == 0
            before = load.answers[cluster.pid_of(3)]
            while load.answers[cluster.pid_of(3)] < before + 20:
                await asyncio.sleep(0.01)
        assert not load.failures, load.failures
    with Cluster(2) as cluster:
        port = cluster.ready()
        asyncio.run(run(cluster, port))
        successor = int(cluster.wait_for(r'^upgraded: primary (\d+) serves')[0][1])
        cluster.hold(successor)
        cluster.signal(successor, signal.SIGTERM)
        cluster.wait_gone(successor)
        for pid in cluster.pids():
            cluster.wait_gone(pid)


def killed():
    """Of a worker that is killed no more is lost than what it was serving, and nobody waits for ever."""
    async def run(cluster, port):
        async with Load(port) as load:
            for number in range(4):
                victim = cluster.pid_of(number + 2)
                await load.until(victim)
                cluster.signal(victim, signal.SIGKILL)
                await off_loop(cluster.pid_of, number + 3)
            await load.until(cluster.pid_of(6))
        assert 'no answer' not in load.failures and len(load.failures) <= 4 * load.parallel, load.failures
    with Cluster(2) as cluster:
        asyncio.run(run(cluster, cluster.ready()))
        cluster.assert_stops()


def last_one():
    """Clients that come while there is no worker at all wait for the next one."""
    with Cluster(1) as cluster:
        port = cluster.ready()
        cluster.signal(cluster.pid_of(1), signal.SIGKILL)
        cluster.wait_gone(cluster.pid_of(1))
        assert ask_now(port)[1] == cluster.pid_of(2)
        assert ask_now(port, '/leave')[1] == cluster.pid_of(2)
        assert ask_now(port, '/exit')[1] in {cluster.pid_of(2), cluster.pid_of(3)}
        ask_now(port)
        cluster.assert_stops()


def leaving():
    """A worker that leaves by itself loses nothing, and another one takes its place."""
    async def run(cluster, port):
        async with Load(port) as load:
            await load.until(cluster.pid_of(1), cluster.pid_of(2))
            for number in range(3):
                await ask(port, '/leave')
                await off_loop(cluster.wait_for, 'it leaves by itself', number + 1)
                await load.until(await off_loop(cluster.pid_of, number + 3))
        assert not load.failures, load.failures
    with Cluster(2) as cluster:
        asyncio.run(run(cluster, cluster.ready()))
        cluster.assert_stops()


def refusing():
    """What a worker refuses goes to another one, and waits if all refuse."""
    with Cluster(2, APP_MAX='1') as cluster:
        port = int(cluster.ready())
        held = [smoke.Client(port), smoke.Client(port)]
        texts = {client.get('/')[2] for client in held}
        assert len(texts) == 2, texts
        third = smoke.Client(port)
        third.send('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
        third.socket.settimeout(0.2)
        try:
            assert not third.socket.recv(1), 'one connection more than the limit'
        except TimeoutError:
            pass
        third.socket.settimeout(smoke.PATIENCE)
        held[0].__exit__()
        assert third.file.read().startswith(b'HTTP/1.1 200')
        third.__exit__(), held[1].__exit__()
        cluster.assert_stops()


# Under Node's own primary.

class NodePrimary(smoke.Program):
    """A primary of Node with workers of this library, which listen at `port`."""

    def __init__(self, workers):
        super().__init__('node', str(HERE / 'primary.js'), env={
            **os.environ, 'ACCEPT_EXEC': PROGRAM, 'ACCEPT_PORT': '0', 'ACCEPT_WORKERS': str(workers),
            'ACCEPT_POLICY': POLICY, 'ACCEPT_SERIALIZATION': 'json' if POLICY == 'rr' else 'advanced'})
        self.wait_for(r'^worker \d+ ready, pid', workers)
        ports = {found[1] for found in self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$', workers)}
        assert len(ports) == 1 and '0' not in ports, ports
        self.port = int(ports.pop())

    def ask(self):
        with socket.create_connection(('127.0.0.1', self.port), smoke.PATIENCE) as connection:
            with connection.makefile('rb') as answer:
                found = re.fullmatch(rb'handled by worker (\d+) pid (\d+)\n', answer.read())
        return int(found[1]), int(found[2])

    def pid_of(self, number):
        return int(self.wait_for(rf'^worker {number} started, pid (\d+)$')[0][1])


def under_node():
    with NodePrimary(2) as primary:
        pids = {number: primary.pid_of(number) for number in (1, 2)}
        answers = collections.Counter(primary.ask() for _ in range(8))
        assert all(pids[number] == pid for number, pid in answers), answers
        if POLICY == 'rr':
            assert set(answers.values()) == {4}, answers
        primary.send_signal(signal.SIGUSR2)
        primary.wait_for('^worker 1 says {"a":\\[1,"ü",null\\]}$')
        primary.wait_for(rf'^worker 1 exited, pid {pids[1]}: status 0, asked$')
        primary.wait_for('^worker 3 ready')
        assert {primary.ask()[0] for _ in range(8)} <= {2, 3}
        primary.terminate()
        assert primary.wait() == 0
        primary.wait_for(rf'^worker 2 exited, pid {pids[2]}: status 0, asked$')
        primary.wait_for('^worker 3 exited, pid \\d+: status 0, asked$')


def under_node_reload():
    def clients(primary, over, failures, answers):
        while not over.is_set():
            try:
                answers[primary.ask()[1]] += 1
            except (OSError, TypeError) as error:
                failures.append(error)
    with NodePrimary(2) as primary:
        over, failures, answers = threading.Event(), [], collections.Counter()
        threads = [threading.Thread(target=clients, args=(primary, over, failures, answers)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in (1, 3):
                smoke.eventually(lambda: answers[primary.pid_of(number)], 'no answer')
                primary.send_signal(signal.SIGHUP)
                primary.wait_for(rf'^worker {number} exited, pid \d+: status 0, asked$')
                primary.wait_for(rf'^worker {number + 1} exited, pid \d+: status 0, asked$')
            smoke.eventually(lambda: answers[primary.pid_of(5)], 'no answer')
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not failures, failures
        primary.terminate()
        assert primary.wait() == 0


def under_node_orphaned():
    with NodePrimary(2) as primary:
        pids = [primary.pid_of(number) for number in (1, 2)]
        primary.kill()
        for pid in pids:
            primary.wait_gone(pid)


# With a worker that is none of Node's, and no good one.

def given_back():
    """A worker that dies when it has a connection, and has not said that it takes it, does not take it along."""
    for how in ('dies', 'torn'):
        with Cluster(1, **fake(how)) as cluster:
            port = cluster.ready()
            assert ask_now(port)[0] == 2
            cluster.assert_stops()


def refused():
    with Cluster(2, **fake('refuses')) as cluster:
        port = cluster.ready()
        assert {ask_now(port)[0] for _ in range(4)} == {2}
        cluster.wait_for('^refused$')
        cluster.assert_stops()


def hostile():
    """Nonsense costs the primary nothing, and what cannot be read costs its sender alone."""
    with Cluster(2, **fake('nonsense')) as cluster:
        port = cluster.ready()
        assert {ask_now(port)[0] for _ in range(4)} == {1, 2}
        cluster.assert_stops()
    with Cluster(1, **fake('garbage')) as cluster:
        port = cluster.ready()
        assert ask_now(port)[0] == 2
        cluster.wait_for('^worker 1 failed, pid')
        cluster.assert_stops()
    with Cluster(1, **fake('floods')) as cluster:
        port = cluster.ready()
        assert ask_now(port)[0] == 2
        cluster.wait_for('^worker 1 failed, pid .*asks and does not read')
        cluster.wait_for('^worker 1 exited, pid .*killed by SIGKILL')
        used = int(re.search(r'VmHWM:\s+(\d+)', pathlib.Path(f'/proc/{cluster.process_id()}/status').read_text())[1])
        assert used < 400_000, f'{used} KiB in the primary'
        cluster.assert_stops()


def queries():
    with Cluster(1, **fake('shared')) as cluster:
        cluster.ready()
        first, second, other, anywhere, nowhere, foreign, none = (
            json.loads(found[1]) for found in cluster.wait_for('^query (.+)$', 7))
        assert first['data'] == second['data'] == {'ticketKeys': '1' * 96}, 'the first ones are for all'
        assert first['key'] == second['key'] and first['sockname'] == second['sockname']
        assert first['sockname']['family'] == 'IPv4' and first['sockname']['address'] == '127.0.0.1'
        assert other['data'] is None and other['sockname']['port'] != first['sockname']['port']
        assert anywhere['sockname']['address'] in ('::', '0.0.0.0')
        assert nowhere['errno'] == -99, nowhere  # EADDRNOTAVAIL
        assert foreign['errno'] < 0, 'a descriptor of the primary itself'
        assert none['errno'] == -22, 'what is no query has an answer'
        cluster.assert_stops()


WITHOUT_NODE = ['given_back', 'refused', 'hostile', 'queries']
if CASE not in WITHOUT_NODE and shutil.which('node') is None:
    print('there is no node here: nothing is tested')
    sys.exit(77)
globals()[CASE]()
