# SPDX-License-Identifier: BSL-1.0
"""Runs examples/http_cluster under clients that check every answer, while a random schedule kills, stops, reloads,
scales and upgrades it; then looks whether everything is as it was.

    meson compile -C build examples/http_cluster
    python3 tests/chaos/chaos.py build/examples/http_cluster --seconds 600 --distribution shared [--gentle] [--seed N]

--gentle leaves out what breaks workers: then no request may fail. Otherwise one may fail only if a worker was killed
that may have had it. The same seed gives the same schedule, as far as the machine's timing does.
"""
import argparse
import asyncio
import ctypes
import dataclasses
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 30  # seconds until something that should happen counts as missing; never a measure of speed
WORKERS = 3
MOST_WORKERS = 5
ADDRESSES = 32  # of clients, with --distribution by_address
IDLE_GRACE = 0.1  # worker_options::idle_grace: how long an idle connection of a draining worker is kept at least
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

EXPECTED = re.compile(
    r'listening on |worker \d+ (started|ready|draining|exited|failed|restarts in)|reloading: |reloaded |reload failed: '
    r'|scaled to |upgrading: |upgraded: |upgrade failed: |stopping: ')


class Broken(Exception):
    """An invariant that did not hold."""


@dataclasses.dataclass
class Failure:
    client: str
    what: str
    begin: float  # the connection's first request: when it began to connect, else when it was sent
    end: float
    pid: int | None  # that had the connection, if it has answered before
    gap: float | None  # since the answer before on this connection could be there
    idle: bool  # for longer than IDLE_GRACE, so that its end could cross with the request


class Cluster:
    """The processes, as the lines that they print tell of them."""

    def __init__(self, program, distribution, descriptors):
        def prepare():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.distribution = distribution
        self.lines = []  # (when, text)
        self.port = None
        self.promised = WORKERS
        self.most = WORKERS
        self.ready = {}  # pid: slot
        self.pidfds = {}  # of all that were ever started
        self.deaths = {}  # pid: when
        self.murders = {}  # pid: when, of those that were meant to break
        self.restarts_until = 0  # when the last announced pause of the restart policy ends
        self.upgrading = False
        self.starts = 0
        self._news = asyncio.Event()
        self._process = subprocess.Popen(
            [program, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--distribution', distribution],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=prepare)
        self.primary = self._process.pid
        self._watch(self.primary)

    async def read(self):
        """Until nobody has the other end any more."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader),
                                                           self._process.stdout)
        while line := await reader.readline():
            self._note(line.decode().rstrip('\n'))
            self._news.set()

    def _note(self, text):
        now = time.monotonic()
        self.lines.append((now, text))
        if found := re.match(r'listening on .*:(\d+)$', text):
            self.port = int(found[1])
        elif found := re.match(r'worker \d+ started, pid (\d+)', text):
            self.starts += 1
            self._watch(int(found[1]))
        elif found := re.match(r'worker (\d+) ready, pid (\d+)', text):
            self.ready[int(found[2])] = int(found[1])
        elif found := re.match(r'worker \d+ (?:draining|exited), pid (\d+)', text):
            self.ready.pop(int(found[1]), None)
            if re.search(r'killed by SIG(KILL|ABRT)', text):
                self.murders.setdefault(int(found[1]), now)
        elif found := re.match(r'worker \d+ restarts in ([\d.]+) s', text):
            self.restarts_until = max(self.restarts_until, now + float(found[1]))
        elif found := re.match(r'scaled to (\d+)', text):
            self.promised = int(found[1])
            self.most = max(self.most, self.promised)
        elif found := re.match(r'upgrading: primary (\d+)', text):
            self._watch(int(found[1]))
        elif found := re.match(r'upgraded: primary (\d+)', text):
            self.primary = int(found[1])
            self.upgrading = False
        elif text.startswith('upgrade failed'):
            self.upgrading = False

    def _watch(self, pid):
        try:
            fd = os.pidfd_open(pid)  # held at once, so that the number cannot come to mean another process
        except ProcessLookupError:
            self.deaths[pid] = time.monotonic()
            return
        self.pidfds[pid] = fd

        def ended():
            asyncio.get_running_loop().remove_reader(fd)
            self.deaths[pid] = time.monotonic()
            self.ready.pop(pid, None)
            self._news.set()
        asyncio.get_running_loop().add_reader(fd, ended)

    def signal(self, pid, number):
        try:
            signal.pidfd_send_signal(self.pidfds[pid], number)
        except (KeyError, ProcessLookupError):
            pass

    async def connect(self, number):
        """A connection of client `number`: by_address tells one from another by where it comes from."""
        source = (f'127.0.0.{1 + number % ADDRESSES}', 0) if self.distribution == 'by_address' else None
        return await asyncio.wait_for(asyncio.open_connection('127.0.0.1', self.port, local_addr=source), PATIENCE)

    async def until(self, condition, what, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not condition():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), min(1, max(0, deadline - time.monotonic())) + 0.01)
            except asyncio.TimeoutError:
                if time.monotonic() > deadline and not condition():
                    raise Broken(f'never: {what}') from None

    def serving(self):
        """The workers that have a place, by slot. One that was replaced and has not printed anything yet counts too."""
        return {pid: slot for pid, slot in self.ready.items() if pid not in self.deaths}

    def as_promised(self):
        slots = sorted(self.serving().values())
        alone = set(self.pidfds) - set(self.deaths) == set(self.serving()) | {self.primary}
        return alone and slots == list(range(1, self.promised + 1))

    def wait_status(self, pid):
        """Of a primary that has ended: they are all children of this process, or have become that."""
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        return None if result is None else (result.si_code, result.si_status)

    def kill_all(self):
        for pid in list(self.pidfds):
            self.signal(pid, signal.SIGKILL)


class Clients:
    """Closed-loop clients: each sends a request when it has the answer to the one before."""

    def __init__(self, cluster, rng):
        self.cluster = cluster
        self.rng = rng
        self.answers = 0
        self.failures = []
        self.may_be_refused = False
        self._tasks = []
        self._end = False

    def start(self, keep_alive, close):
        self._end = False
        self._tasks = [asyncio.create_task(self._run('keep-alive', True)) for _ in range(keep_alive)]
        self._tasks += [asyncio.create_task(self._run('close', False)) for _ in range(close)]

    async def stop(self):
        self._end = True
        await asyncio.gather(*self._tasks)

    async def flood(self, number, seconds):
        """Connections that hold on to their descriptors after an answer."""
        async def one():
            await self._visit('flood', True, lambda count: count < 1, seconds)
        await asyncio.gather(*(one() for _ in range(number)))

    async def _run(self, name, keep_alive):
        while not self._end:
            refused = await self._visit(name, keep_alive, lambda _: not self._end, 0)
            if refused:
                return

    async def _visit(self, name, keep_alive, more, hold):
        """One connection. True if it was refused and may be."""
        begin = sent = time.monotonic()
        writer = pid = gap = None
        count = 0
        try:
            reader, writer = await self.cluster.connect(self.answers)
            while more(count):
                before, sent = sent, time.monotonic()
                gap = sent - before
                slow = 0 if self.rng.random() < 0.95 else self.rng.randrange(1, 150)
                path = f'/slow?ms={slow}' if slow else '/'
                header = '' if keep_alive else 'Connection: close\r\n'
                writer.write(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n'.encode())
                pid, close = await asyncio.wait_for(self._answer(reader, pid), PATIENCE)
                begin = None
                sent += slow / 1000
                self.answers += 1
                count += 1
                if close or not keep_alive:
                    rest = await asyncio.wait_for(reader.read(), PATIENCE)
                    if rest:
                        raise Broken(f'more than was asked for: {rest!r}')
                    return False
            if hold:
                await asyncio.sleep(hold)
        except ConnectionRefusedError as failure:
            if self.may_be_refused:
                return True
            self._fail(name, failure, begin or sent, pid, None)
        except (OSError, EOFError, asyncio.TimeoutError, Broken) as failure:
            if self.may_be_refused and count == 0 and gap is not None and gap > 0.05:
                return False  # a connection without a request is dropped when the cluster stops, see defer_accept()
            # RFC 9112, 9.3.1: the end of an idle connection may cross with the next request.
            idle = count > 0 and gap > 0.9 * IDLE_GRACE and not getattr(failure, 'partial', b'') and \
                not isinstance(failure, (asyncio.TimeoutError, Broken))
            self._fail(name, failure, begin or sent, pid, gap if count else None, idle)
        finally:
            if writer:
                writer.transport.abort()
        return False

    async def _answer(self, reader, pid):
        head = (await reader.readuntil(b'\r\n\r\n')).decode()
        size = int(re.search(r'Content-Length: (\d+)\r\n', head)[1])
        body = (await reader.readexactly(size)).decode()
        found = re.fullmatch(r'handled by worker (\d+), pid (\d+)\n', body)
        if not head.startswith('HTTP/1.1 200 ') or not found:
            raise Broken(f'a wrong answer: {head!r} {body!r}')
        if pid not in (None, int(found[2])):
            raise Broken(f'pid {found[2]} answers on a connection of pid {pid}')
        return int(found[2]), 'Connection: close' in head

    def _fail(self, name, failure, begin, pid, gap, idle=False):
        text = str(failure) or type(failure).__name__
        self.failures.append(Failure(name, text, begin, time.monotonic(), pid, gap, idle))


class Chaos:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(options.seed)
        self.begin = time.monotonic()
        self.schedule = []  # (when, text)
        self.stopped = {}  # pid: when to continue
        self.pauses = []  # of the primary: from when to when
        self.chores = []
        self.counts = {}

    def log(self, text):
        self.schedule.append((time.monotonic(), text))

    async def run(self):
        options = self.options
        descriptors = 0 if options.gentle else options.descriptors
        self.cluster = cluster = Cluster(options.program, options.distribution, descriptors)
        reading = asyncio.create_task(cluster.read())
        self.clients = clients = Clients(cluster, random.Random(options.seed))
        try:
            await cluster.until(cluster.as_promised, f'{WORKERS} workers are ready')
            self.first_primary = cluster.primary
            await self.check_serving()  # a worker that is ready may not have its listener yet
            before = self.descriptors()
            clients.start(12, 8)
            await self.act(options.seconds)
            await self.settle()
            self.log('the clients pause')
            await clients.stop()
            await self.scale_back()
            await self.check_serving()
            await self.check_descriptors(before)
            await self.check_stop()
            self.check_lines()
            self.judge()
            await asyncio.wait_for(reading, PATIENCE)  # its end: no process is left that has the pipe
        finally:
            cluster.kill_all()

    # The schedule.

    async def act(self, seconds):
        gentle = {'reload': 3, 'scale up': 2, 'scale down': 2, 'upgrade': 2}
        rough = {'kill': 3, 'stop': 3, 'stop primary': 1, 'fatal': 2, 'abort': 2, 'flood': 1}
        weights = gentle if self.options.gentle else {**gentle, **rough}
        names = list(weights)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self.rng.uniform(0.02, 0.8))
            name = self.rng.choices(names, [weights[each] for each in names])[0]
            await getattr(self, name.replace(' ', '_'))()
        self.log('no more')

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    def send(self, name, number):
        self.count(name)
        self.log(f'{name}: {number.name} to primary {self.cluster.primary}')
        self.cluster.signal(self.cluster.primary, number)

    async def reload(self):
        self.send('reload', signal.SIGHUP)

    async def scale_up(self):
        if self.cluster.promised < MOST_WORKERS and not self.cluster.upgrading:
            self.send('scale up', signal.SIGTTIN)

    async def scale_down(self):
        if self.cluster.promised > 1 and not self.cluster.upgrading:
            self.send('scale down', signal.SIGTTOU)

    async def upgrade(self):
        if not self.cluster.upgrading:
            self.cluster.upgrading = True
            self.send('upgrade', signal.SIGUSR2)

    def may_break(self):
        """restart_policy replaces ten workers a minute at once; beyond that the schedule would be one of pauses."""
        recent = [when for when, text in self.schedule
                  if text.startswith(('kill', 'fatal', 'abort')) and when > time.monotonic() - 60]
        return len(recent) < 9

    def any_worker(self):
        serving = sorted(self.cluster.serving())
        return self.rng.choice(serving) if serving else None

    async def kill(self):
        pid = self.any_worker()
        if pid is None or not self.may_break():
            return
        self.count('kill')
        self.log(f'kill -9 of pid {pid}')
        self.cluster.murders.setdefault(pid, time.monotonic())
        self.cluster.signal(pid, signal.SIGKILL)

    async def stop(self):
        pid = self.any_worker()
        if pid is not None:
            self.hold('stop', pid)

    async def stop_primary(self):
        """Workers go on meanwhile, and what they say waits."""
        if self.hold('stop primary', self.cluster.primary):
            self.pauses.append((time.monotonic(), self.stopped[self.cluster.primary]))

    def hold(self, name, pid):
        if pid in self.stopped:
            return False
        seconds = self.rng.uniform(0.05, 2)
        self.count(name)
        self.log(f'SIGSTOP of pid {pid} for {seconds:.2f} s')
        self.stopped[pid] = time.monotonic() + seconds
        self.cluster.signal(pid, signal.SIGSTOP)

        async def resume():
            await asyncio.sleep(seconds)
            self.log(f'SIGCONT of pid {pid}')
            self.cluster.signal(pid, signal.SIGCONT)
            self.stopped.pop(pid)
        self.chore(resume())
        return True

    async def fatal(self):
        if self.may_break():
            self.count('fatal')
            self.log('fatal: GET /fatal')
            self.chore(self.ask('/fatal'))

    async def abort(self):
        if self.may_break():
            self.count('abort')
            self.log('abort: GET /abort')
            self.chore(self.ask('/abort'))

    async def ask(self, path):
        try:
            reader, writer = await self.cluster.connect(len(self.schedule))
            writer.write(f'GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n'.encode())
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
        except asyncio.TimeoutError:
            raise Broken(f'the connection of GET {path} was not closed') from None
        except OSError:
            pass  # /abort; and another worker's end may take this one along

    async def flood(self):
        number, seconds = self.rng.randrange(100, 600), self.rng.uniform(0.1, 1.5)
        self.count('flood')
        self.log(f'flood: {number} connections for {seconds:.2f} s')
        self.chore(self.clients.flood(number, seconds))

    def chore(self, work):
        self.chores.append(asyncio.create_task(work))

    # The invariants.

    async def settle(self):
        await asyncio.gather(*self.chores)
        cluster = self.cluster
        await cluster.until(lambda: not cluster.upgrading, 'the upgrade ends')
        await asyncio.sleep(max(0, cluster.restarts_until - time.monotonic()))
        for _ in range(100):  # a reload may still be on its way, and wait for others
            await cluster.until(cluster.as_promised, f'{cluster.promised} workers serve, and no other is left')
            seen = len(cluster.lines)
            await asyncio.sleep(0.5)
            if cluster.as_promised() and len(cluster.lines) == seen:
                return
        raise Broken('the cluster never comes to rest')

    async def scale_back(self):
        while self.cluster.promised != WORKERS:
            was = self.cluster.promised
            self.send('scale back', signal.SIGTTOU if was > WORKERS else signal.SIGTTIN)
            await self.cluster.until(lambda: self.cluster.promised != was, 'it scales')
        await self.settle()

    async def check_serving(self):
        """Those that say that they serve are those that answer, and by_address one client always the same one."""
        wanted, seen, mine = set(self.cluster.serving()), set(), {}

        async def ask(number):
            reader, writer = await self.cluster.connect(number)
            writer.write(b'GET /slow?ms=20 HTTP/1.1\r\nConnection: close\r\n\r\n')
            text = (await asyncio.wait_for(reader.read(), PATIENCE)).decode()
            writer.close()
            found = re.search(r'handled by worker \d+, pid (\d+)\n$', text)
            if not found:
                raise Broken(f'a wrong answer at rest: {text!r}')
            seen.add(int(found[1]))
            if self.options.distribution == 'by_address' and mine.setdefault(number, found[1]) != found[1]:
                raise Broken(f'pid {mine[number]} and pid {found[1]} answer client {number}')
        deadline = time.monotonic() + PATIENCE
        while seen != wanted:
            if time.monotonic() > deadline or not seen <= wanted:
                raise Broken(f'workers {sorted(wanted)} serve, they say, and {sorted(seen)} answer')
            await asyncio.gather(*(ask(number % ADDRESSES) for number in range(2 * ADDRESSES)))
        await asyncio.sleep(0.2)

    def descriptors(self):
        """What the primary has open, and what the worker that has most has."""
        def of(pid):
            result = []
            for name in os.listdir(f'/proc/{pid}/fd'):
                try:
                    result.append(os.readlink(f'/proc/{pid}/fd/{name}'))
                except FileNotFoundError:
                    pass
            return sorted(result)
        return of(self.cluster.primary), max((of(pid) for pid in self.cluster.serving()), key=len)

    async def check_descriptors(self, before):
        # The listeners of slots that are no more stay, see reuse_port_distributor::resize(), lent to the others: in a
        # worker each with its reserve.
        more = self.cluster.most - WORKERS if self.options.distribution == 'reuse_port' else 0
        deadline = time.monotonic() + 5  # for connections whose clients have left a moment ago
        while True:
            after = self.descriptors()
            if all(len(now) <= len(was) + spare for was, now, spare in zip(before, after, (more, 2 * more))):
                break
            if time.monotonic() > deadline:
                raise Broken('descriptors of the primary and of a worker, before and now:\n' +
                             '\n'.join(f'  {len(each)}: {" ".join(each)}' for each in (*before, *after)))
            await asyncio.sleep(0.1)
        self.log('descriptors of the primary and of a worker: '
                 f'{[len(each) for each in before]} before, {[len(each) for each in after]} now')

    async def check_stop(self):
        """A stop under load: what has got through is answered, the rest is refused."""
        cluster = self.cluster
        self.clients.start(6, 6)
        seen = self.clients.answers
        await cluster.until(lambda: self.clients.answers > seen + 200, 'the clients go on')
        self.clients.may_be_refused = True
        self.log('SIGTERM')
        cluster.signal(cluster.primary, signal.SIGTERM)
        await cluster.until(lambda: cluster.primary in cluster.deaths, 'the primary ends after SIGTERM')
        await self.clients.stop()
        for pid in {self.first_primary, cluster.primary}:
            status = cluster.wait_status(pid)
            if status != (os.CLD_EXITED, 0):
                raise Broken(f'primary {pid} ended with {status}')
        await cluster.until(lambda: set(cluster.pidfds) <= set(cluster.deaths), 'all processes are gone', 2)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(('127.0.0.1', cluster.port))
            again.listen()

    def check_lines(self):
        for _, text in self.cluster.lines:
            known = EXPECTED.match(text)
            if not known and not (text.startswith('worker: ') and not self.options.gentle):
                raise Broken(f'an unexpected line: {text}')
            if self.options.gentle and re.match(r'worker \d+ failed|reload failed|upgrade failed', text):
                if not text.endswith('the cluster stops'):
                    raise Broken(f'a failure without a cause: {text}')

    def judge(self):
        excused, idle, unexcused = [], [], []
        for each in self.clients.failures:
            if not self.options.gentle and self.excuse(each):
                excused.append(each)
            elif each.idle:
                idle.append(each)
            else:
                unexcused.append(each)
        print(f'{self.clients.answers} answers, {len(unexcused)} failures, {len(excused)} more with killed workers, '
              f'{len(idle)} ends of idle connections that crossed with a request')
        hung = [each for each in excused if each.end - each.begin > PATIENCE / 2]
        if hung:
            lines = map(self.tell, hung[:10])
            raise Broken('\n'.join([f'{len(hung)} connections of killed workers were not closed, such as', *lines]))
        if unexcused:
            raise Broken('\n'.join([f'{len(unexcused)} requests failed, such as', *map(self.tell, unexcused[:10])]))

    def excuse(self, failure):
        """Whether a worker was killed that may have had it."""
        cluster = self.cluster
        for pid in cluster.murders:
            death = cluster.deaths.get(pid, cluster.murders[pid])
            if failure.pid == pid:
                return True
            # A primary that is stopped says late how it ended, and has copies of what that worker had not yet said to be
            # its own. And the loop of this program may notice either of them late.
            seen = max([death, *(end for begin, end in self.pauses if begin <= death <= end)])
            near = min(cluster.murders[pid], death) - 0.5 < failure.end < seen + 1
            if failure.pid is None and failure.begin <= death and near:
                return True
        return False

    def tell(self, failure):
        pid = f' of pid {failure.pid}' if failure.pid else ''
        gap = '' if failure.gap is None else f', {1000 * failure.gap:.1f} ms after the answer before'
        return (f'  {failure.begin - self.begin:.3f} to {failure.end - self.begin:.3f} s, {failure.client}{pid}{gap}: '
                f'{failure.what}')

    def story(self):
        both = sorted([(when, f'    {text}') for when, text in self.cluster.lines] + self.schedule)
        return '\n'.join(f'{when - self.begin:8.3f}  {text}' for when, text in both)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('program')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 32))
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--distribution', default='round_robin')
    parser.add_argument('--gentle', action='store_true')
    parser.add_argument('--descriptors', type=int, default=128,
                        help='that each process may have, so that a flood brings EMFILE; 0: as many as here')
    parser.add_argument('--verbose', action='store_true', help='tell what happened even if all is well')
    options = parser.parse_args()

    # What the primaries that go leave behind comes here, and nowhere else.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
    name = f'{options.distribution}, {"gentle" if options.gentle else "rough"}, seed {options.seed}'
    print(name, flush=True)

    chaos = Chaos(options)
    try:
        asyncio.run(chaos.run())
    except Broken as broken:
        print(f'{chaos.story()}\n{name}, after {time.monotonic() - chaos.begin:.1f} s: {broken}')
        return 1
    if options.verbose:
        print(chaos.story())
    actions = ', '.join(f'{number} {name}' for name, number in sorted(chaos.counts.items()))
    print(f'{time.monotonic() - chaos.begin:.1f} s: {actions}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
