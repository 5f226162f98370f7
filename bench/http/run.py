# SPDX-License-Identifier: BSL-1.0
"""http_cluster beside plain Asio, nginx and Node's cluster, where these are installed, under the same load of wrk.

    run.py HTTP_CLUSTER PLAIN_ASIO [--seconds S] [--only rates|reloads|starts]

The machine is too noisy for figures of their own: read the ratios. All load is on 127.0.0.1.
"""
import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WORKERS = 2
CONNECTIONS = 64
RELOADS, UPGRADES = 20, 5
PATIENCE = 30
DISTRIBUTIONS = ('round_robin', 'shared', 'reuse_port')

NGINX = '''
daemon on;  # or it takes no new binary
worker_processes {workers};
error_log {folder}/error.log crit;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  default_type text/plain;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port} backlog=4096 deferred;
    location / {{ return 200 "handled by worker 1, pid 12345\\n"; }}
  }}
}}
'''


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f'never: {what}')
        time.sleep(0.005)
    return result


def children_of(parent):
    result = []
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open(f'/proc/{name}/stat') as file:
                if int(file.read().rsplit(')', 1)[1].split()[1]) == parent:
                    result.append(int(name))
        except OSError:
            pass
    return result


def is_alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


class Server:
    """A program that says where it listens and who its workers are."""

    def __init__(self, name, *command):
        self.name = name
        self._lines = []
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, start_new_session=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.append(line)

    def count(self, pattern):
        return len(self.find(pattern))

    def find(self, pattern):
        return [found for line in list(self._lines) if (found := re.match(pattern, line))]

    def __enter__(self):
        try:
            self.port = int(until(lambda: self.find(r'listening on .*:(\d+)$'), f'{self.name} listens')[0][1])
            until(lambda: self.count(r'worker \d+ ready') >= WORKERS, f'{self.name} is ready')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        primary = self.primary()
        for pid in {self.process.pid, primary}:  # their workers go with them
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        until(lambda: not is_alive(primary), f'{self.name} ends')

    def primary(self):
        return self.process.pid

    def workers(self):
        return [int(found[1]) for found in self.find(r'worker \d+ ready, pid (\d+)')]

    def start_times(self):
        return [float(found[1]) for found in self.find(r'worker \d+ ready, .*\(([\d.]+) ms\)')]


class Cohort(Server):
    def __init__(self, program, distribution):
        super().__init__(f'cohort {distribution}', program, '--listen', '127.0.0.1:0', '--workers', str(WORKERS),
                         '--distribution', distribution)

    def primary(self):
        found = self.find(r'upgraded: primary (\d+)')
        return int(found[-1][1]) if found else self.process.pid

    def reload(self):
        count = self.count('reloaded ')
        os.kill(self.primary(), signal.SIGHUP)
        until(lambda: self.count('reloaded ') > count, 'it has reloaded')

    def upgrade(self):
        count = self.count('upgraded: ')
        os.kill(self.primary(), signal.SIGUSR2)
        until(lambda: self.count('upgraded: ') > count, 'it is upgraded')


class Nginx(Server):
    def __init__(self):
        self._program = shutil.which('nginx') or '/usr/sbin/nginx'
        self._folder = tempfile.mkdtemp(prefix='http_bench_')
        with open(os.path.join(self._folder, 'nginx.conf'), 'w') as file:
            with socket.socket() as free:
                free.bind(('127.0.0.1', 0))
                self.port = free.getsockname()[1]
            file.write(NGINX.format(workers=WORKERS, folder=self._folder, port=self.port))
        super().__init__('nginx', *self._command())

    def _command(self):
        return [self._program, '-p', self._folder, '-c', os.path.join(self._folder, 'nginx.conf')]

    def _pid(self, name='nginx.pid'):
        try:
            with open(os.path.join(self._folder, name)) as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def primary(self):
        return self._pid() or self.process.pid

    def workers(self):
        return children_of(self.primary())

    def __enter__(self):
        try:
            until(lambda: self._pid() and len(self.workers()) == WORKERS, 'nginx is ready')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        super().__exit__()
        until(lambda: not self._pid(), 'nginx ends')
        shutil.rmtree(self._folder, ignore_errors=True)

    def reload(self):
        before = set(self.workers())
        subprocess.run([*self._command(), '-s', 'reload'], check=True, stderr=subprocess.DEVNULL)
        until(lambda: len(set(self.workers()) - before) >= WORKERS, 'nginx has reloaded')

    def upgrade(self):
        old = self.primary()
        os.kill(old, signal.SIGUSR2)
        until(lambda: self._pid() not in (0, old) and len(set(self.workers())) >= WORKERS, 'a new nginx runs')
        os.kill(old, signal.SIGQUIT)
        until(lambda: not os.path.exists(os.path.join(self._folder, 'nginx.pid.oldbin')), 'the old nginx is gone')


class Load:
    """wrk, until it is stopped or its time is up."""

    def __init__(self, port, seconds, close=False):
        header = ['-H', 'Connection: close'] if close else []
        self._wrk = subprocess.Popen(
            ['wrk', '-t1', f'-c{CONNECTIONS}', f'-d{seconds}s', '-s', os.path.join(HERE, 'report.lua'), *header,
             f'http://127.0.0.1:{port}/'], stdout=subprocess.PIPE, text=True)

    def end(self):
        self._wrk.send_signal(signal.SIGINT)
        return self.report()

    def report(self):
        text = self._wrk.communicate(timeout=300)[0]
        line = re.search(r'^report (.*)$', text, re.M)[1]
        result = {key: int(value) for key, value in (each.split('=') for each in line.split())}
        result['rate'] = result['requests'] / (result['duration'] / 1e6)
        result['failures'] = sum(result[each] for each in ('connect', 'read', 'write', 'timeout', 'status'))
        return result


class Counter(threading.Thread):
    """A few keep-alive clients that count what is answered and what is not."""

    def __init__(self, port, number=4):
        super().__init__()
        self._port, self._number = port, number
        self.answers = self.failures = 0
        self._end = False

    def run(self):
        asyncio.run(self._all())

    def end(self):
        self._end = True
        self.join()

    async def _all(self):
        await asyncio.gather(*(self._one() for _ in range(self._number)))

    async def _one(self):
        writer = None
        while not self._end:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection('127.0.0.1', self._port)
                writer.write(b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
                head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), PATIENCE)
                body = await reader.readexactly(int(re.search(rb'Content-Length: (\d+)', head)[1]))
                if not head.startswith(b'HTTP/1.1 200 ') or not body.startswith(b'handled by worker '):
                    raise EOFError
                self.answers += 1
                close = b'Connection: close' in head
                await asyncio.sleep(0.001)
            except (OSError, EOFError, asyncio.TimeoutError):
                self.failures += 1
                close = True
            if close and writer:
                writer.close()
                writer = None


def servers(options):
    """What makes each of the servers that there are, by name."""
    result = {f'cohort {each}': (lambda each=each: Cohort(options.http_cluster, each)) for each in DISTRIBUTIONS}
    result['plain Asio'] = lambda: Server('plain Asio', options.plain_asio, str(WORKERS))
    if shutil.which('nginx') or os.path.exists('/usr/sbin/nginx'):
        result['nginx'] = Nginx
    if node := shutil.which('node'):
        result['Node'] = lambda: Server('Node', node, os.path.join(HERE, 'node_cluster.js'), str(WORKERS))
    return result


def ratio(figure, other):
    return f'{figure / other:.2f}' if other else '-'


def rates(options):
    """Requests a second. The servers take turns, and the median of their turns counts."""
    all_servers = servers(options)
    found = {name: ([], []) for name in all_servers}
    for _ in range(options.rounds):
        for name, make in all_servers.items():
            with make() as server:
                for close in (False, True):
                    Load(server.port, 1, close).report()  # to warm up
                    found[name][close].append(Load(server.port, options.seconds, close).report()['rate'])
    medians = {name: tuple(map(statistics.median, pair)) for name, pair in found.items()}
    others = [name for name in medians if not name.startswith('cohort')]
    for close, title in enumerate(('keep-alive', 'connection per request')):
        print(f'\n{title}, {WORKERS} workers, wrk -c{CONNECTIONS}: requests/s, and as parts of those of the others')
        print(f'  {"":22}{"req/s":>10}' + ''.join(f'{name:>12}' for name in others))
        for name, pair in medians.items():
            parts = ''.join(f'{ratio(pair[close], medians[other][close]):>12}' for other in others)
            print(f'  {name:22}{pair[close]:10.0f}{parts}')


def reloads(options):
    """Failures and latency while the servers reload and are upgraded."""
    print(f'\n{RELOADS} reloads and then {UPGRADES} upgrades of the binary under wrk -c{CONNECTIONS} and 4 keep-alive '
          'clients that count; latencies in ms')
    print(f'  {"":22}{"":18}{"answers":>9}{"failed":>8}{"counted":>9}{"failed":>8}{"p50":>8}{"p99":>8}{"max":>9}')
    quiet_time = options.seconds
    table = {}
    for name, make in servers(options).items():
        if not name.startswith('cohort') and name != 'nginx':
            continue
        with make() as server:
            def under_load(what, action):
                load, counter = Load(server.port, 120), Counter(server.port)
                counter.start()
                try:
                    time.sleep(0.5)
                    action()
                    time.sleep(0.5)
                finally:
                    counter.end()
                    report = table[name, what] = load.end()
                print(f'  {name:22}{what:18}{report["requests"]:9}{report["failures"]:8}{counter.answers:9}'
                      f'{counter.failures:8}{report["p50"] / 1e3:8.2f}{report["p99"] / 1e3:8.2f}'
                      f'{report["max"] / 1e3:9.2f}', flush=True)

            def repeat(action, count):
                for _ in range(count):
                    action()
                    time.sleep(0.2)
            under_load('quiet', lambda: time.sleep(quiet_time))
            under_load('reloads', lambda: repeat(server.reload, RELOADS))
            under_load('upgrades', lambda: repeat(server.upgrade, UPGRADES))
    if ('nginx', 'reloads') in table:
        print('  as parts of nginx:')
        for (name, what), report in table.items():
            if name != 'nginx':
                other = table['nginx', what]
                parts = (f'{key} {ratio(report[key], other[key])}' for key in ('rate', 'p50', 'p99', 'max'))
                print(f'  {name:22}{what:18}' + ', '.join(parts))


def pss(pid):
    with open(f'/proc/{pid}/smaps_rollup') as file:
        return int(re.search(r'^Pss: +(\d+) kB', file.read(), re.M)[1])


def starts(options):
    """The time until a worker serves, and its memory after some load."""
    print('\nfrom the start of a worker until it serves, and its PSS after load')
    found = {}
    for name, make in servers(options).items():
        times, sizes = [], []
        for _ in range(max(3, options.rounds)):
            with make() as server:
                Load(server.port, 1).report()
                times += server.start_times()
                sizes += map(pss, server.workers())
        found[name] = statistics.median(times) if times else 0, statistics.median(sizes)
    node = found.get('Node', (0, 0))
    for name, (start, size) in found.items():
        first = f'{start:7.1f} ms ({ratio(start, node[0])} of Node)' if start else ''
        print(f'  {name:22}{first:30}{size / 1024:7.1f} MiB ({ratio(size, node[1])} of Node)')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('http_cluster')
    parser.add_argument('plain_asio')
    parser.add_argument('--seconds', type=int, default=4, help='of each measurement')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', choices=('rates', 'reloads', 'starts'))
    options = parser.parse_args()
    for part in (rates, reloads, starts):
        if options.only in (None, part.__name__):
            part(options)


if __name__ == '__main__':
    sys.exit(main())
