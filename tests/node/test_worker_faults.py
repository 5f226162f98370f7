# SPDX-License-Identifier: BSL-1.0
"""Plays a primary of Node's cluster module to a worker of this library, and no good one:

    test_worker_faults.py WORKER CASE
"""
import array
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys

PROGRAM, CASE = sys.argv[1:]
PATIENCE = 30  # seconds until a test gives up waiting; never a measure of speed
KEY = '127.0.0.1:0:4:undefined:0'
NONSENSE = (None, True, -1, 0, 2**31, -2**31, -2**63, 2**64 - 1, 1e300, 'a' * 70000, '', [], {}, [None] * 100)


class Gone(Exception):
    """The worker has closed its channel."""


class Worker:
    """A worker, of which this process is the primary."""

    def __init__(self, **environment):
        self.channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [PROGRAM], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, 'NODE_CHANNEL_FD': str(theirs.fileno()), 'NODE_CHANNEL_SERIALIZATION_MODE': 'json',
                     'NODE_UNIQUE_ID': '7', 'ACCEPT_PORT': '0', **environment})
        self.channel.settimeout(PATIENCE)
        self.unread = b''
        self.numbers = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def write(self, *messages, fds=(), end='\n'):
        data = '\n'.join(json.dumps(message) for message in messages) + end
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        sent = self.channel.sendmsg([data.encode()], ancillary)
        if sent < len(data.encode()):
            self.channel.sendall(data.encode()[sent:])

    def number(self):
        self.numbers += 1
        return self.numbers

    def newconn(self, **fields):
        message = {'cmd': 'NODE_CLUSTER', 'act': 'newconn', 'key': KEY, 'seq': self.number(), **fields}
        return {'cmd': 'NODE_HANDLE', 'type': 'net.Native', 'msg': message}, message['seq']

    def give(self, fd, **fields):
        """Gives it a connection; the number of the message."""
        message, number = self.newconn(**fields)
        self.write(message, fds=[fd])
        return number

    def read(self):
        """The next message. Throws Gone at the end of the channel."""
        while b'\n' not in self.unread:
            try:
                data = self.channel.recv(1 << 20)
            except ConnectionResetError:
                data = b''
            if not data:
                raise Gone(self.unread)
            self.unread += data
        line, self.unread = self.unread.split(b'\n', 1)
        return json.loads(line)

    def read_until(self, **fields):
        """Skips what is before a message with these members."""
        while True:
            message = self.read()
            if isinstance(message, dict) and fields.items() <= message.items():
                return message

    def rest(self):
        """Everything up to the end of the channel."""
        messages = []
        try:
            while True:
                messages.append(self.read())
        except Gone:
            return messages

    def answer_to(self, number):
        return self.read_until(ack=number)['accepted']

    def query(self):
        assert self.read()['act'] == 'online'
        query = self.read()
        assert query['act'] == 'queryServer', query
        return query

    def reply(self, query, **fields):
        return {'cmd': 'NODE_CLUSTER', 'errno': None, 'key': KEY, 'ack': query['seq'], 'data': None,
                'sockname': {'address': '127.0.0.1', 'family': 'IPv4', 'port': 8000}, 'seq': self.number(), **fields}

    def starts(self):
        self.write(self.reply(self.query()))
        self.read_until(act='listening')
        return self

    def assert_ends(self, status=0):
        got = self.process.wait(PATIENCE)
        assert got == status, f'ended with {got}'

    def assert_serves(self):
        with Pair() as pair:
            number = self.give(pair.theirs.fileno())
            assert self.answer_to(number) is True
            pair.assert_answered()


DISCONNECT = {'cmd': 'NODE_CLUSTER', 'act': 'disconnect', 'seq': 1000}


class Pair:
    """A connection: this client's end, and the one that the primary has accepted."""

    def __init__(self):
        with socket.create_server(('127.0.0.1', 0)) as server:
            self.client = socket.create_connection(server.getsockname(), PATIENCE)
            self.theirs, _ = server.accept()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.theirs.close()

    def assert_answered(self):
        self.theirs.close()
        assert b'handled by worker 7' in self.client.recv(100)


def failed():
    """A worker that has failed has not left by itself: its primary starts another one."""
    with Worker().starts() as worker:
        worker.write({'$op': 'throw'})
        said = worker.rest()
        assert [each['act'] for each in said if 'act' in each] == ['close'], said
        worker.assert_ends(1)
    with Worker().starts() as worker:
        worker.write({'$op': 'leave'})
        number = worker.read_until(act='exitedAfterDisconnect')['seq']
        worker.write({'cmd': 'NODE_CLUSTER', 'ack': number, 'seq': 9})
        worker.assert_ends()


def crossed():
    """Each connection gets an answer that crosses the order to leave: without it, Node keeps it for ever."""
    def asked(worker):
        worker.write(DISCONNECT)

    def terminated(worker):
        worker.process.send_signal(signal.SIGTERM)

    for order, all_behind in ((asked, (False,)), (terminated, (False, True))):
        for behind in all_behind:
            with Worker().starts() as worker:
                pairs = [Pair() for _ in range(16)]
                if behind:
                    order(worker)
                numbers = [worker.give(pair.theirs.fileno()) for pair in pairs]
                if not behind:
                    order(worker)
                answers = {}
                try:
                    while True:
                        message = worker.read()
                        if message.get('act') == 'exitedAfterDisconnect':
                            worker.write({'cmd': 'NODE_CLUSTER', 'ack': message['seq'], 'seq': 9})
                        if 'accepted' in message:
                            answers[message['ack']] = message['accepted']
                except Gone:
                    pass
                assert set(answers) == set(numbers), f'{len(answers)} answers to {len(numbers)}'
                for pair, number in zip(pairs, numbers):
                    if answers[number]:
                        pair.assert_answered()
                    pair.__exit__()
                worker.assert_ends()


def late_answer():
    """The answer to queryServer and the order to leave at once, with a socket in the answer and without."""
    for shared in (False, True):
        for first in (False, True):
            with Worker() as worker, socket.create_server(('127.0.0.1', 0)) as server:
                answer = worker.reply(worker.query())
                if shared:
                    answer = {'cmd': 'NODE_HANDLE', 'type': 'net.Native', 'msg': answer}
                orders = [DISCONNECT, answer] if first else [answer, DISCONNECT]
                worker.write(*orders, fds=[server.fileno()] if shared else ())
                said = worker.rest()
                assert any(each.get('act') == 'close' and each['key'] == KEY for each in said), said
                worker.assert_ends()


def no_answer():
    """A primary that answers nothing is no reason to stay."""
    for order in (lambda worker: worker.write(DISCONNECT),
                  lambda worker: worker.process.send_signal(signal.SIGTERM),
                  lambda worker: worker.write({'$op': 'leave'})):
        with Worker() as worker:
            worker.query()
            order(worker)
            worker.rest()
            worker.assert_ends()


def lowest_free(pid):
    used = {int(each) for each in os.listdir(f'/proc/{pid}/fd')}
    return min(set(range(len(used) + 1)) - used)


def full_table():
    """A connection for which the worker has no descriptor is refused, and goes to another one."""
    with Worker().starts() as worker, Pair() as pair:
        pid = worker.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid), before[1]))
        assert worker.answer_to(worker.give(pair.theirs.fileno())) is False
        assert not select.select([pair.client], [], [], 0)[0], 'closed, and not given back'
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert worker.answer_to(worker.give(pair.theirs.fileno())) is True
        pair.assert_answered()
    # The same for a listener: it cannot serve, and says so by its status.
    with Worker() as worker, socket.create_server(('127.0.0.1', 0)) as server:
        query = worker.query()
        pid = worker.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid), before[1]))
        worker.write({'cmd': 'NODE_HANDLE', 'type': 'net.Native', 'msg': worker.reply(query)}, fds=[server.fileno()])
        worker.rest()
        worker.assert_ends(1)


def wrong_kind():
    """What is no connection is refused."""
    with Worker().starts() as worker:
        read, write = os.pipe()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for fd in (read, write, datagrams.fileno()):
            assert worker.answer_to(worker.give(fd)) is False
        message, number = worker.newconn()
        worker.write(message['msg'])  # without any
        assert worker.answer_to(number) is False
        with Pair() as pair:
            assert worker.answer_to(worker.give(pair.theirs.fileno(), key='another')) is False
        worker.assert_serves()
        worker.write(DISCONNECT)
        worker.rest()
        worker.assert_ends()


def not_reading():
    """What the worker has to say of connections is not dropped, however long the primary reads nothing."""
    pairs = [Pair() for _ in range(3)]
    with Worker().starts() as worker:
        big = 'x' * 100_000
        worker.channel.settimeout(1)
        try:
            for _ in range(100):  # it answers by the same, until nothing more fits
                worker.write({'echo': big})
        except TimeoutError:
            raise AssertionError('the worker does not read') from None
        numbers = []
        for pair in pairs:  # one after the other, so that the first answer was said long ago
            numbers.append(worker.give(pair.theirs.fileno()))
            pair.assert_answered()
        worker.channel.settimeout(PATIENCE)
        for number in numbers:
            assert worker.answer_to(number) is True


def nonsense():
    """Replies and orders of any kind of member: a signal is never what comes of it, nor a wait without an end."""
    for name in ('errno', 'key', 'data', 'sockname'):
        for value in NONSENSE:
            with Worker() as worker:
                worker.write(worker.reply(worker.query(), **{name: value}), DISCONNECT)
                worker.rest()
                assert worker.process.wait(PATIENCE) in (0, 1), f'{name}: {value!r}'[:80]
    with Worker().starts() as worker, Pair() as pair:
        for value in NONSENSE:
            for name in ('act', 'ack', 'seq', 'key', 'cmd'):
                worker.write({'cmd': 'NODE_CLUSTER', 'act': 'newconn', 'seq': 5, name: value},
                             {'cmd': 'NODE_CLUSTER', name: value})
                if value not in ('', 0):
                    worker.give(pair.theirs.fileno(), **{'key': 'none', name: value})
        for name in ('NODE_HANDLE_ACK', 'NODE_HANDLE_NACK', 'NODE_DEBUG_ENABLED', 'NODE_X', 'NODE_HANDLE'):
            worker.write({'cmd': name})
        worker.channel.sendall(b'\n{\n"\xff"\n')
        worker.read_until(cmd='NODE_HANDLE_NACK')  # the next descriptor is not for that one
        worker.numbers = 1_000_000
        worker.assert_serves()


def torn():
    """A primary that is gone in the middle of a message, in any state, leaves no worker."""
    def listening(worker, _):
        worker.starts()

    def asking(worker, _):
        worker.query()

    def serving(worker, pair):
        worker.starts()
        assert worker.answer_to(worker.give(pair.theirs.fileno())) is True

    def given(worker, pair):
        worker.starts().give(pair.theirs.fileno())

    def leaving(worker, _):
        worker.starts().write({'$op': 'leave'})
        worker.read_until(act='exitedAfterDisconnect')

    for state in (lambda *_: None, asking, listening, given, serving, leaving):
        for end in (lambda worker, _: None,
                    lambda worker, _: worker.channel.sendall(b'{"cmd":"NODE_CLUSTER","errno":null,"ke'),
                    lambda worker, pair: worker.write(worker.newconn()[0], fds=[pair.theirs.fileno()], end='')):
            with Worker() as worker, Pair() as pair:
                state(worker, pair)
                end(worker, pair)
                worker.channel.close()
                worker.assert_ends()


def early():
    """Connections before there is a listener are refused, and the order to leave is obeyed before anything else."""
    with Worker() as worker, Pair() as pair:
        number = worker.give(pair.theirs.fileno())
        said = [worker.read() for _ in range(4)]
        assert [each['accepted'] for each in said if each.get('ack') == number] == [False], said
        query, = (each for each in said if each.get('act') == 'queryServer')
        worker.write(worker.reply(query))
        worker.read_until(act='listening')
        worker.assert_serves()
    with Worker() as worker:
        worker.write(DISCONNECT)
        worker.rest()
        worker.assert_ends()


globals()[CASE]()
