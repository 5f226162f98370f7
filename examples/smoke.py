# SPDX-License-Identifier: BSL-1.0
"""What the tests of the examples share: a program that runs, what it has printed, and the processes that it has named."""
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

PATIENCE = 30  # seconds until a test gives up waiting; never a measure of speed


class Program:
    """A running example, and every process that it names in a line with `pid N`. Leaving the block ends them all."""

    def __init__(self, *command, **options):
        self._news = threading.Condition()
        self._lines = []  # (stream, text)
        self._pidfds = {}
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True, **options)
        self._readers = [threading.Thread(target=self._read, args=(name, stream), daemon=True)
                         for name, stream in (('stdout', self._process.stdout), ('stderr', self._process.stderr))]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if self._process.poll() is None:
            self._process.kill()
        for pid in self.pids():
            self.signal(pid, signal.SIGKILL)
        self._process.wait()
        if failed:
            for stream, text in self._lines:
                print(f'{stream}: {text}')

    def _read(self, name, stream):
        for line in stream:
            with self._news:
                self._lines.append((name, line.rstrip('\n')))
                # Held at once, so that the number cannot come to mean another process.
                for pid in re.findall(r'(?:started, |has )pid (\d+)', line):
                    try:
                        self._pidfds[int(pid)] = os.pidfd_open(int(pid))
                    except ProcessLookupError:
                        pass
                self._news.notify_all()

    def lines(self, stream):
        with self._news:
            return [text for name, text in self._lines if name == stream]

    def wait_for(self, pattern, count=1):
        """Waits until `count` lines match; the matches in their order."""
        with self._news:
            def matches():
                return [found for found in (re.search(pattern, text) for _, text in self._lines) if found]
            if not self._news.wait_for(lambda: len(matches()) >= count, PATIENCE):
                raise AssertionError(f'not printed {count} times: {pattern}')
            return matches()

    def wait(self):
        """Waits until the program has ended and all of its output is here; its status."""
        status = self._process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def wait_exit(self):
        """Waits until the program itself has ended, though others may hold its output; its status."""
        return self._process.wait(PATIENCE)

    def process_id(self):
        return self._process.pid

    def send_signal(self, number):
        self._process.send_signal(number)

    def interrupt(self):
        self._process.send_signal(signal.SIGINT)

    def terminate(self):
        self._process.terminate()

    def kill(self):
        self._process.kill()

    def pids(self):
        with self._news:
            return list(self._pidfds)

    def hold(self, pid):
        """Adds a process that the program has not named."""
        with self._news:
            self._pidfds[pid] = os.pidfd_open(pid)

    def signal(self, pid, number):
        try:
            signal.pidfd_send_signal(self._pidfds[pid], number)
        except ProcessLookupError:
            pass

    def wait_gone(self, pid):
        ready, _, _ = select.select([self._pidfds[pid]], [], [], PATIENCE)
        assert ready, f'process {pid} is still there'


class Client:
    """One connection that speaks HTTP."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), PATIENCE)
        self.file = self.socket.makefile('rb')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode())

    def get(self, path, *headers):
        self.send('\r\n'.join([f'GET {path} HTTP/1.1', 'Host: localhost', *headers, '', '']))
        return self.answer()

    def answer(self, body=True):
        """Reads one answer: its status, its headers and its body."""
        line = self.file.readline().decode()
        assert line, 'closed instead of an answer'
        status = int(line.split()[1])
        headers = http.client.parse_headers(self.file)
        size = int(headers['Content-Length'])
        text = self.file.read(size).decode() if body else ''
        assert not body or len(text) == size, 'cut off'
        return status, headers, text

    def assert_closed(self):
        assert self.file.read() == b'', 'more than was asked for'  # a reset raises


def make_certificate(path, name):
    """A file with a certificate and its key, in place of the one before all at once."""
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-subj', f'/CN={name}', '-addext', f'subjectAltName=DNS:{name}', '-days', '1',
                    '-keyout', path + '.new', '-out', path + '.new'], check=True, capture_output=True)
    os.rename(path + '.new', path)


def eventually(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f'never: {what}'
        time.sleep(0.01)


def run(cases, name, *arguments):
    """Runs the case of that name; the status to exit with."""
    try:
        cases[name](*arguments)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0
