# SPDX-License-Identifier: BSL-1.0
"""One case of what chat promises: test_chat.py PROGRAM CASE

Or by hand, for longer and with more: test_chat.py PROGRAM long CLIENTS SECONDS
"""
import asyncio
import base64
import contextlib
import os
import random
import re
import signal
import struct
import sys
import tempfile
import time

import smoke

PROGRAM, CASE = sys.argv[1:3]
WORKERS = 2


class WebSocket:
    """The client's end, as far as a chat needs it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port, path='/chat'):
        self = cls(*await asyncio.open_connection('127.0.0.1', port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(f'GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                          f'Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n'.encode())
        answer = await self.reader.readuntil(b'\r\n\r\n')
        if not answer.startswith(b'HTTP/1.1 101'):
            raise ConnectionError(answer)
        return self

    def frame(self, opcode, payload):
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b'\xfe' + struct.pack('>H', len(payload))
        self.writer.write(bytes([0x80 | opcode]) + size + b'\0\0\0\0' + payload)  # masked by nothing

    def send(self, *fields):
        self.frame(1, '\t'.join(map(str, fields)).encode())

    async def receive(self):
        """The fields of the next message, or the number that the server closes the WebSocket with."""
        while True:
            opcode, size = await self.reader.readexactly(2)
            if size == 126:
                size, = struct.unpack('>H', await self.reader.readexactly(2))
            payload = await self.reader.readexactly(size)
            if opcode & 15 == 1:
                return payload.decode().split('\t')
            if opcode & 15 == 8:
                self.frame(8, payload)
                return struct.unpack('>H', payload[:2])[0]
            if opcode & 15 == 9:
                self.frame(10, payload)


class Page:
    """Does what the page in the browser does, and keeps what it was told."""

    def __init__(self, port, room, name):
        self.port, self.room, self.name = port, room, name
        self.last = self.counter = 0
        self.waiting = {}  # what was said and has not come back
        self.seen = []     # (page, counter)
        self.closed = []   # by which numbers
        self.worker = None
        self.socket = None

    def say(self):
        self.counter += 1
        self.waiting[self.counter] = f'{self.name} says {self.counter}'
        if self.socket:
            self.socket.send('say', self.counter, self.waiting[self.counter])

    async def live(self):
        while True:
            socket = None
            try:
                socket = await WebSocket.connect(self.port)
                socket.send('join', self.room, self.last, self.name, self.name)
                while (what := await socket.receive()) and isinstance(what, list):
                    self.hear(socket, what)
                self.closed.append(what)
            except (OSError, asyncio.IncompleteReadError):
                pass
            self.socket = None
            if socket:
                socket.writer.close()
            await asyncio.sleep(random.random() * 0.2)

    def hear(self, socket, what):
        if what[0] == 'joined':
            self.socket, self.worker = socket, int(what[2])
            for counter, text in self.waiting.items():
                socket.send('say', counter, text)
            return
        assert what[0] != 'gap', 'something is forgotten'
        number, room, page, counter, user, text = what
        assert room == self.room and user == page and text == f'{page} says {counter}', what
        assert int(number) > self.last, f'{what} after {self.last}'
        self.last = int(number)
        self.seen.append((page, int(counter)))
        if page == self.name:
            assert self.waiting.pop(int(counter), None), f'{what} twice'


class Chat(smoke.Program):
    def __init__(self, directory, spread='0.5'):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--history',
                         directory + '/history', '--spread', spread)
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)
        self.primary, self.upgrades = self.process_id(), 0

    async def happens(self, pattern, count=1):
        return await asyncio.to_thread(self.wait_for, pattern, count)

    def kill_worker(self, pages):
        """The one of some page."""
        self.signal(random.choice([page.worker for page in pages if page.socket]), signal.SIGKILL)

    def kill_agent(self):
        agents = [line for line in self.lines('stderr') if re.match(r'agent \S+ ready', line)]
        self.signal(int(re.search(r'pid (\d+)', agents[-1])[1]), signal.SIGKILL)

    def reload(self):
        self.signal(self.primary, signal.SIGHUP) if self.upgrades else self.send_signal(signal.SIGHUP)

    async def upgrade(self):
        self.signal(self.primary, signal.SIGUSR2) if self.upgrades else self.send_signal(signal.SIGUSR2)
        self.upgrades += 1
        self.primary = int((await self.happens(r'^upgraded: primary (\d+) serves', self.upgrades))[-1][1])
        self.hold(self.primary)

    def stop(self):
        self.signal(self.primary, signal.SIGTERM) if self.upgrades else self.terminate()
        if self.upgrades:
            self.wait_gone(self.primary)
        assert self.wait_exit() == 0
        for line in self.lines('stderr'):
            assert not re.search('Sanitizer|runtime error', line), line


async def until(condition, what, patience=smoke.PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f'never: {what()}'
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def living(pages):
    """Fails with the first page that does."""
    tasks = [asyncio.create_task(page.live()) for page in pages]

    def check():
        for task in tasks:
            if task.done():
                task.result()
    try:
        await until(lambda: check() or all(page.socket for page in pages), lambda: 'all pages have joined')
        yield check
        check()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def missing(pages, rooms, each):
    """Of whom what has not come where it should."""
    return [(page.name, len(page.seen)) for page in pages if len(page.seen) < each * len(rooms[page.room])]


def assert_once(pages, rooms, each):
    for page in pages:
        for other in rooms[page.room]:
            heard = [counter for name, counter in page.seen if name == other.name]
            assert heard == list(range(1, each + 1)), (page.name, other.name, heard)
        assert len(page.seen) == each * len(rooms[page.room])


async def converse(chat, pages, each, pause, trouble):
    """Every page says so much; `trouble` happens meanwhile."""
    rooms = {}
    for page in pages:
        rooms.setdefault(page.room, []).append(page)
    async with living(pages) as check:
        async def talk(page):
            for _ in range(each):
                page.say()
                await asyncio.sleep(pause)
        talking = [asyncio.create_task(talk(page)) for page in pages]
        await trouble()
        await asyncio.gather(*talking)
        await until(lambda: check() or not missing(pages, rooms, each), lambda: missing(pages, rooms, each))
        assert_once(pages, rooms, each)


def everything_once():
    with tempfile.TemporaryDirectory() as directory, Chat(directory) as chat:
        pages = [Page(chat.port, f'room {i % 2}', f'page-{i}') for i in range(20)]

        async def trouble():
            await until(lambda: all(page.seen for page in pages), lambda: 'all have heard something')
            chat.kill_worker(pages)
            await chat.happens(r'^worker \d+ ready', WORKERS + 1)
            chat.kill_agent()
            await chat.happens(r'^agent \S+ ready', 2)
            chat.reload()
            await chat.happens(r'^reloaded')
            await chat.upgrade()

        asyncio.run(converse(chat, pages, 60, 0.03, trouble))
        assert 1012 in {number for page in pages for number in page.closed}
        chat.stop()


def worker_hangs():
    """Pages of the other worker go on meanwhile, and its own miss nothing."""
    with tempfile.TemporaryDirectory() as directory, Chat(directory) as chat:
        pages = [Page(chat.port, 'room', f'page-{i}') for i in range(6)]

        async def talk():
            async with living(pages) as check:
                hung = pages[0].worker
                going = [page for page in pages if page.worker != hung]
                chat.signal(hung, signal.SIGSTOP)
                count = 100  # more than there is room for on the way to one worker, all together
                for _ in range(count):
                    for page in going:
                        page.say()
                    await asyncio.sleep(0)
                await until(lambda: check() or not missing(going, {'room': going}, count), lambda: missing(going, {'room': going}, count))
                assert not pages[0].seen
                chat.signal(hung, signal.SIGCONT)
                await until(lambda: check() or not missing(pages, {'room': going}, count), lambda: missing(pages, {'room': going}, count))
                assert_once(pages, {'room': going}, count)
        asyncio.run(talk())
        chat.stop()


def long():
    count, seconds = int(sys.argv[3]), int(sys.argv[4])
    with tempfile.TemporaryDirectory() as directory, Chat(directory, '2') as chat:
        pages = [Page(chat.port, f'room {i // 20}', f'page-{i}') for i in range(count)]
        done = {'kill': 0, 'agent': 0, 'reload': 0, 'upgrade': 0}

        async def trouble():
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                await asyncio.sleep(random.uniform(1, 3))
                what = random.choice(list(done))
                done[what] += 1
                if what == 'kill':
                    chat.kill_worker(pages)
                elif what == 'agent':
                    chat.kill_agent()
                elif what == 'reload':
                    chat.reload()
                else:
                    await chat.upgrade()
        begin = time.monotonic()
        asyncio.run(converse(chat, pages, seconds, 1, trouble))
        print(f'{done}, {sum(len(page.seen) for page in pages)} lines heard once, {time.monotonic() - begin:.1f} s, '
              f'{sum(len(page.closed) for page in pages)} closes')
        chat.stop()


def wrong():
    """Whoever does not speak as a page does is told so, and costs nobody else anything."""
    async def closed_with(port, *messages):
        socket = await WebSocket.connect(port)
        for opcode, payload in messages:
            socket.frame(opcode, payload)
        while isinstance(what := await socket.receive(), list):
            pass
        assert await socket.reader.read() == b''
        return what

    async def try_all(port):
        assert await closed_with(port, (1, b'hello')) == 1008
        assert await closed_with(port, (1, b'say\t1\tbefore I have joined')) == 1008
        assert await closed_with(port, (1, b'join\ta\tb\tc\td')) == 1008
        assert await closed_with(port, (1, b'join\tr\t0\tpage\tuser'), (1, b'say\tmuch\ttext')) == 1008
        assert await closed_with(port, (2, b'binary')) == 1003
        assert await closed_with(port, (1, b'\xff\xff')) == 1007
        assert await closed_with(port, (1, b'x' * 9000)) == 1009
        with smoke.Client(port) as client:
            status, headers, body = client.get('/')
            assert status == 200 and headers['Content-Type'].startswith('text/html') and '/chat' in body
            client.assert_closed()
        with smoke.Client(port) as client:
            assert client.get('/chat')[0] == 404  # no WebSocket

    with tempfile.TemporaryDirectory() as directory, Chat(directory) as chat:
        asyncio.run(try_all(chat.port))
        chat.stop()


sys.exit(smoke.run(globals(), CASE))
