# SPDX-License-Identifier: BSL-1.0
"""What the dashboard promises: test_dashboard.py PROGRAM CASE"""
import json
import os
import re
import sys
import tempfile

import smoke

PROGRAM, CASE = sys.argv[1:]
WORKERS = 2


class Dashboard(smoke.Program):
    def __init__(self, directory):
        super().__init__(PROGRAM, '--listen', '127.0.0.1:0', '--workers', str(WORKERS), '--control', directory + '/ctl')
        self.port = int(self.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        self.wait_for(r'^worker \d+ ready', WORKERS)

    def get(self, path):
        with smoke.Client(self.port) as client:
            return client.get(path)

    def post(self, path, *headers):
        with smoke.Client(self.port) as client:
            client.send('\r\n'.join([f'POST {path} HTTP/1.1', 'Host: localhost', 'Content-Length: 0', *headers, '', '']))
            return client.answer()

    def stop(self):
        self.terminate()
        assert self.wait() == 0
        for line in self.lines('stderr'):
            assert not re.search('Sanitizer|runtime error', line), line


class Events(smoke.Client):
    """As EventSource in a page, which comes again when the stream ends."""

    def __init__(self, port):
        super().__init__(port)
        self.send('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n')
        while self.file.readline() != b'\r\n':
            pass

    def next(self):
        """The kind of the next event and its data; nothing when the stream has ended."""
        kind = None
        while line := self.file.readline().decode().rstrip('\n'):
            name, _, text = line.partition(': ')
            if name == 'data':
                self.file.readline()
                return kind, json.loads(text)
            kind = text
            if name == 'retry':
                self.file.readline()
        return None

    def until(self, wanted):
        while event := self.next():
            if wanted(*event):
                return event[1]
        raise AssertionError('the stream has ended')


def live():
    with tempfile.TemporaryDirectory() as directory, Dashboard(directory) as server:
        status, headers, body = server.get('/')
        assert status == 200 and headers['Content-Type'].startswith('text/html') and 'EventSource' in body
        with Events(server.port) as events:
            stats = events.until(lambda kind, data: kind == 'stats' and data['ready'] == WORKERS)
            assert [each['slot'] for each in stats['workers']] == [1, 2]
            assert {each['state'] for each in stats['workers'] + stats['agents']} == {'ready'}
            assert [each['name'] for each in stats['agents']] == ['idle']
            victim = stats['workers'][0]['pid']
            assert server.get('/hello')[2] == 'hello\n'

            assert server.post('/scale?workers=3')[0] == 403  # as another site's page would do it
            assert server.post('/reload')[0] == 403
            assert server.post('/scale?workers=0', 'X-Dashboard: yes')[0] == 400
            assert server.post('/scale?workers=3', 'X-Dashboard: yes')[0] == 200
            events.until(lambda kind, data: kind == 'happened' and data.startswith('worker 3 ready'))

            assert server.post('/reload', 'X-Dashboard: yes')[0] == 200
            while events.next():  # the worker that shows it is replaced, too
                pass
        with Events(server.port) as events:
            stats = events.until(lambda kind, data: kind == 'stats' and data['generation'] == 2)
            assert (stats['reloads'], stats['wanted']) == (1, 3)
            assert victim not in [each['pid'] for each in stats['workers'] if each['state'] == 'ready']
        assert os.path.exists(directory + '/ctl')
        server.stop()


def socket_away():
    """Where the control socket is away, the page says so, and works when there is one again."""
    with tempfile.TemporaryDirectory() as directory, Dashboard(directory) as server:
        os.rename(directory + '/ctl', directory + '/away')
        status, _, body = server.post('/scale?workers=3', 'X-Dashboard: yes')
        assert status == 503 and 'No such file or directory' in body, body
        with Events(server.port) as events:
            events.until(lambda kind, data: kind == 'gone' and 'No such file' in data)
            os.rename(directory + '/away', directory + '/ctl')
            events.until(lambda kind, data: kind == 'stats')
        server.stop()


sys.exit(smoke.run(globals(), CASE))
