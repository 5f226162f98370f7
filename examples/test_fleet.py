# SPDX-License-Identifier: BSL-1.0
"""Three clusters and their Redis, whatever fails: test_fleet.py FLEET COHORTCTL short|long

short   on the loopback; the broker is killed once, and so is the bridge of one cluster
long    each cluster in a network namespace of its own; one of them is cut off for 30 seconds, or as many as the next
        argument says; the broker is killed meanwhile. Needs the right to make namespaces.
"""
import collections
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import smoke

PROGRAM, CTL, CASE, *MORE = sys.argv[1:]
NAMES = 'abc'
WORKERS = 2
LOCK = 1500  # ms


class Redis(smoke.Program):
    def __init__(self, directory, port, inside=()):
        super().__init__(*inside, 'redis-server', '--bind', '0.0.0.0', '--port', str(port), '--protected-mode', 'no', '--dir',
                         directory, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always')
        self.wait_for('eady to accept connections')


class Cluster(smoke.Program):
    def __init__(self, name, directory, redis, inside=()):
        self.name, self.directory = name, directory
        self.control = f'{directory}/{name}.ctl'
        self.config = f'{directory}/{name}.conf'
        open(self.config, 'w').close()
        super().__init__(*inside, PROGRAM, '--name', name, '--fleet', ','.join(NAMES), '--redis', redis, '--listen',
                         f'unix:{directory}/{name}.socket', '--workers', str(WORKERS), '--lock', str(LOCK), '--ledger',
                         f'{directory}/ledger', '--control', self.control, '--config', self.config, '--inbox-limit', '5000')
        self.wait_for(r'^worker \d+ ready', WORKERS)

    def heard(self):
        """Of each message: the processes that have heard it, as often as they have."""
        result = collections.defaultdict(list)
        for line in self.lines('stdout'):
            found = re.match(rf'{self.name} worker \d+ \(process (\d+)\) heard (\S+) from', line)
            if found:
                result[found[2]].append(int(found[1]))
        return result

    def stop(self):
        self.terminate()
        assert self.wait() == 0
        for line in self.lines('stderr'):
            assert not re.search('Sanitizer|runtime error', line), line


class Client:
    """A connection to a worker, and what the receipts say that it has got."""

    def __init__(self, cluster):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(smoke.PATIENCE)
        self.socket.connect(f'{cluster.directory}/{cluster.name}.socket')
        self.file = self.socket.makefile('r')

    def send(self, line):
        """The id of the message, and what is known of it for each cluster."""
        self.socket.sendall(f'{line}\n'.encode())
        answer = self.file.readline().rstrip('\n')
        assert answer, f'no receipt for {line}'
        name, *parts = answer.split('; ')
        return name, dict(part.split(': ', 1) for part in parts if re.match(r'[abc]: ', part))


class Traffic(threading.Thread):
    """Sends to all clusters, one after the other, until it is stopped."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.client, self.receipts, self.failure, self.enough = Client(cluster), {}, None, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.enough.is_set():
                name, known = self.client.send('keep * something')
                self.receipts[name] = known
                time.sleep(0.005)  # so that a test of 30 s has no millions to look at
        except Exception as failure:
            self.failure = failure

    def stop(self):
        self.enough.set()
        self.join(smoke.PATIENCE)
        assert not self.failure and not self.is_alive(), self.failure


def check_messages(clusters, traffic):
    """What the receipts say is so: what is stored arrives, what is refused or was not sent never does, none twice."""
    counts = collections.Counter()
    receipts = {name: known for each in traffic for name, known in each.receipts.items()}
    for cluster in clusters:
        sure = ('stored', f'delivered to {WORKERS} of {WORKERS}')
        stored = [name for name, known in receipts.items() if known.get(cluster.name) in sure]
        assert stored, f'nothing has arrived in {cluster.name}'

        def all_heard(cluster=cluster, stored=stored):
            heard = cluster.heard()
            return all(len(set(heard.get(name, ()))) >= WORKERS for name in stored)
        smoke.eventually(all_heard, f'{cluster.name} has heard all that is stored for it')
        heard = cluster.heard()
        for name, processes in heard.items():
            assert len(set(processes)) == len(processes), f'{cluster.name}: {name} was heard twice: {processes}'
        for name, known in receipts.items():
            state = known.get(cluster.name, 'nothing')
            counts[state.split(' ')[0]] += 1
            if state in ('unsent', 'refused'):
                assert name not in heard, f'{cluster.name} has heard {name}, which was {state}'
    print('receipts:', dict(counts))
    return counts


def check_ledger(directory, least):
    """The lock was held by one at a time: its token never falls, and the times of its holders do not overlap."""
    with open(f'{directory}/ledger') as ledger:
        lines = [line.split() for line in ledger]
    terms = {}
    last = 0
    for token, name, when in lines:
        token, when = int(token), int(when)
        assert token >= last, f'token {token} after {last}'
        holder, begin, end = terms.get(token, (name, when, when))
        assert holder == name, f'token {token} was of {holder} and of {name}'
        terms[token] = (holder, min(begin, when), max(end, when))
        last = token
    order = [terms[token] for token in sorted(terms)]
    for (one, _, end), (other, begin, _) in zip(order, order[1:]):
        assert end < begin, f'{one} worked until {end}, {other} since {begin}'
    holders = [name for name, _, _ in order]
    print('terms:', holders, 'runs:', len(lines))
    assert len(order) >= least, holders
    return holders


def holder(directory):
    with contextlib.suppress(OSError, IndexError):
        with open(f'{directory}/ledger') as ledger:
            return ledger.read().splitlines()[-1].split()[1]
    return None


def runs(directory):
    with contextlib.suppress(OSError):
        with open(f'{directory}/ledger') as ledger:
            return len(ledger.readlines())
    return 0


def generation(cluster):
    status = subprocess.run([CTL, '--socket', cluster.control, 'status'], capture_output=True, text=True, check=True)
    return int(re.search(r'generation (\d+)', status.stdout)[1])


def check_reload(clusters):
    """One machine after the other; where one does not come up, the ones after it are left alone."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'fleet', 'fleet_reload')
    machines = [f'{CTL} --socket {cluster.control}' for cluster in clusters]
    before = [generation(cluster) for cluster in clusters]
    done = subprocess.run([script, *machines], capture_output=True, text=True, timeout=smoke.PATIENCE)
    assert done.returncode == 0 and f'3 of 3: {machines[2]}' in done.stdout, done
    assert [generation(cluster) for cluster in clusters] == [number + 1 for number in before]
    os.rename(clusters[1].config, clusters[1].config + '.away')
    done = subprocess.run([script, *machines], capture_output=True, text=True, timeout=smoke.PATIENCE)
    assert done.returncode == 1 and f'stopped after 1 of 3, at: {machines[1]}' in done.stderr, done
    after = [generation(cluster) for cluster in clusters]
    assert (after[0], after[2]) == (before[0] + 2, before[2] + 1), (before, after)
    os.rename(clusters[1].config + '.away', clusters[1].config)
    name, known = Client(clusters[1]).send('keep b it serves')
    # The workers that it has had; those that drain from the reload before still hear messages, and may be among them.
    delivered = re.fullmatch(r'delivered to (\d+) of \1', known['b'])
    assert delivered and int(delivered[1]) >= WORKERS, known


def heard_in(cluster, text, least):
    smoke.eventually(lambda: sum(line.endswith(': ' + text) for line in cluster.lines('stdout')) >= least,
                     f'{cluster.name} has heard "{text}"')


def check_addresses(clusters):
    """Each recipient that a cluster knows, and no other."""
    client = Client(clusters[0])
    assert client.send('keep b/any to-any')[1] == {'b': 'stored'}
    assert client.send('keep c/slot:2 to-slot')[1] == {'c': 'stored'}
    assert client.send('keep b/agent:bridge to-agent')[1] == {'b': 'stored'}
    assert client.send('keep b/agent:nobody to-nobody')[1] == {'b': 'stored'}
    heard_in(clusters[1], 'to-any', 1)
    heard_in(clusters[2], 'to-slot', 1)
    heard_in(clusters[1], 'to-agent', 1)
    clusters[1].wait_for('is kept in fleet:dead:b: .*nobody')

    # What may be lost is said again until a bridge has it: so long as it may not have subscribed.
    def told():
        client.send('tell b told')
        return any(line.endswith(': told') for line in clusters[1].lines('stdout'))
    smoke.eventually(told, 'b has heard what it was told')
    for line in clusters[0].lines('stdout') + clusters[2].lines('stdout'):
        assert not re.search(': (to-any|to-agent|told)$', line), line


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as free:
        return free.getsockname()[1]


def bridge_of(cluster):
    return int(cluster.wait_for(r'^agent bridge started, pid (\d+)')[-1][1])


def short():
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        port = free_port()
        redis = stack.enter_context(Redis(directory, port))
        clusters = [stack.enter_context(Cluster(name, directory, f'127.0.0.1:{port}')) for name in NAMES]
        check_addresses(clusters)
        traffic = [Traffic(cluster) for cluster in clusters]
        smoke.eventually(lambda: all(len(each.receipts) > 20 for each in traffic), 'messages flow')
        smoke.eventually(lambda: holder(directory), 'one has the lock')
        redis.kill()
        redis.wait()
        first = {each: len(each.receipts) for each in traffic}
        redis = stack.enter_context(Redis(directory, port))
        victim = next(cluster for cluster in clusters if cluster.name == holder(directory))
        victim.signal(bridge_of(victim), signal.SIGKILL)
        victim.wait_for(r'^agent bridge ready', 2)
        smoke.eventually(lambda: all(len(each.receipts) > first[each] + 20 for each in traffic), 'messages flow again')
        smoke.eventually(lambda: len(set(token_lines(directory))) >= 2, 'another term has begun')
        for each in traffic:
            each.stop()
        check_messages(clusters, traffic)
        check_reload(clusters)
        for cluster in clusters:
            cluster.stop()
        check_ledger(directory, 2)


def token_lines(directory):
    with open(f'{directory}/ledger') as ledger:
        return [line.split()[0] for line in ledger]


class Network:
    """A bridge in a namespace of its own, with Redis; and three namespaces at its ports."""

    def __init__(self, stack):
        mine = f'fleet{os.getpid()}'
        self.hub = f'{mine}hub'
        self.add(stack, self.hub)
        self.ip(self.hub, 'link', 'add', 'br0', 'type', 'bridge')
        self.ip(self.hub, 'addr', 'add', '10.99.0.1/24', 'dev', 'br0')
        self.ip(self.hub, 'link', 'set', 'br0', 'up')
        self.spaces = {}
        for number, name in enumerate(NAMES):
            space = self.spaces[name] = mine + name
            self.add(stack, space)
            self.ip(self.hub, 'link', 'add', f'to-{name}', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space)
            self.ip(self.hub, 'link', 'set', f'to-{name}', 'master', 'br0', 'up')
            self.ip(space, 'addr', 'add', f'10.99.0.{number + 2}/24', 'dev', 'eth0')
            self.ip(space, 'link', 'set', 'eth0', 'up')

    def add(self, stack, space):
        subprocess.run(['ip', 'netns', 'add', space], check=True)
        stack.callback(subprocess.run, ['ip', 'netns', 'del', space], check=False)
        self.ip(space, 'link', 'set', 'lo', 'up')

    def ip(self, space, *what):
        subprocess.run(['ip', '-n', space, *what], check=True)

    def inside(self, space):
        return ('ip', 'netns', 'exec', space)

    def cut(self, name):
        self.ip(self.hub, 'link', 'set', f'to-{name}', 'down')

    def heal(self, name):
        self.ip(self.hub, 'link', 'set', f'to-{name}', 'up')


def long():
    seconds = float(MORE[0]) if MORE else 30
    trial = f'fleet{os.getpid()}try'
    if not shutil.which('ip') or subprocess.run(['ip', 'netns', 'add', trial], capture_output=True, check=False).returncode:
        print('skipped: no right to make network namespaces (ip netns add)')
        sys.exit(77)
    subprocess.run(['ip', 'netns', 'del', trial], check=True)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        network = Network(stack)
        redis = stack.enter_context(Redis(directory, 6379, network.inside(network.hub)))
        clusters = [stack.enter_context(Cluster(name, directory, '10.99.0.1:6379', network.inside(network.spaces[name])))
                    for name in NAMES]
        check_addresses(clusters)
        traffic = [Traffic(cluster) for cluster in clusters]
        smoke.eventually(lambda: holder(directory), 'one has the lock')
        smoke.eventually(lambda: all(len(each.receipts) > 20 for each in traffic), 'messages flow')
        cut = holder(directory)
        network.cut(cut)
        print('cut off:', cut)
        smoke.eventually(lambda: holder(directory) != cut, 'another one has the lock')
        time.sleep(seconds / 2)  # the load goes on meanwhile; nothing is concluded from the time
        redis.kill()
        redis.wait()
        time.sleep(1)
        redis = stack.enter_context(Redis(directory, 6379, network.inside(network.hub)))
        time.sleep(seconds / 2)
        network.heal(cut)
        before, worked = {each: len(each.receipts) for each in traffic}, runs(directory)
        smoke.eventually(lambda: all(len(each.receipts) > before[each] + 20 for each in traffic), 'messages flow again')
        smoke.eventually(lambda: runs(directory) > worked, 'the work goes on')
        for each in traffic:
            each.stop()
        counts = check_messages(clusters, traffic)
        assert counts['unsent'] + counts['unknown'] > 0, counts  # or nothing was cut
        check_reload(clusters)
        for cluster in clusters:
            cluster.stop()
        check_ledger(directory, 2)


if not shutil.which('redis-server'):
    print('skipped: there is no redis-server (Debian: redis-server)')
    sys.exit(77)
sys.exit(smoke.run(globals(), CASE))
