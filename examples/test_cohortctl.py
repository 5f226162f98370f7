# SPDX-License-Identifier: BSL-1.0
"""One case of what cohortctl does with a cluster: test_cohortctl.py COHORTCTL HTTP_CLUSTER CASE"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import smoke

CONTROL, SERVER, CASE = sys.argv[1:]


class Cluster(smoke.Program):
    def __init__(self, directory, workers=2):
        self.path = os.path.join(directory, 'ctl')
        super().__init__(SERVER, '--listen', '127.0.0.1:0', '--workers', str(workers), '--control', self.path)
        self.wait_for(r'^worker \d+ ready', workers)

    def control(self, *words, expected=0):
        """What the program prints, or its complaint."""
        done = subprocess.run([CONTROL, '--socket', self.path, *words], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=smoke.PATIENCE)
        assert done.returncode == expected, (words, done)
        assert (done.stderr == '') == (expected == 0), (words, done)
        return done.stdout if expected == 0 else done.stderr


def cluster(case):
    def run():
        with tempfile.TemporaryDirectory() as directory, Cluster(directory) as server:
            case(server)
            if os.path.exists(server.path):
                assert server.control('stop') == 'stopped\n'
            assert server.wait() == 0
            assert os.listdir(directory) == []
    return run


@cluster
def verbs(server):
    assert server.control('reload') == 'generation 2, 2 new workers\n'
    assert server.control('scale', '3') == 'scaled to 3\n'
    server.wait_for(r'^worker 3 ready')
    assert server.control('kill-worker', '3') == 'worker 3 killed\n'
    server.wait_for(r'^worker 3 exited, pid \d+: killed by SIGKILL')
    assert server.control('kill-worker', '9', expected=1) == 'cohortctl: no worker in slot 9\n'
    assert 'scale: want 1 to 1024 workers' in server.control('scale', '4000000000', expected=1)
    server.wait_for(r'^worker 3 ready', 2)
    text = server.control('metrics')
    assert re.search(r'^cohort_workers_ready 3$', text, re.M), text
    assert re.search(r'^cohort_slot_last_exit_status\{slot="3"\} 137$', text, re.M), text


@cluster
def table(server):
    server.control('kill-worker', '2')
    server.wait_for(r'^worker 2 ready', 2)
    lines = server.control('status').split('\n')
    assert all(len(line) <= 80 and line == line.rstrip() for line in lines), lines
    assert re.fullmatch(r'2 of 2 ready  pid \d+  up \d+s  generation 1  1 restart  0 reloads', lines[0]), lines
    assert re.fullmatch(r'127\.0\.0\.1:\d+  0 of \d+ waiting', lines[1]), lines
    assert lines[2:4] == ['0 open connections', ''], lines
    assert lines[4].split() == 'SLOT PID GEN STATE UP OPEN LEASED SERVED DIED RSS LAG LAST EXIT'.split(), lines
    first, second = lines[5].split(), lines[6].split()
    assert first[0] == '1' and first[2:4] == ['1', 'ready'] and first[8] == '0' and len(first) == 11, lines
    assert second[0] == '2' and second[8] == '1' and second[11] == 'SIGKILL', lines
    assert lines[7:] == [''], lines


@cluster
def leased(server):
    """A connection counts for its worker until it ends."""
    def given():
        rows = server.control('status').split('LAST EXIT\n')[1].splitlines()
        return sum(int(row.split()[6]) for row in rows)
    with smoke.Client(int(server.wait_for(r'^listening on .*:(\d+)$')[0][1])) as one:
        assert one.get('/')[0] == 200
        assert given() == 1
        assert one.get('/')[0] == 200
    smoke.eventually(lambda: given() == 0, 'the connection has ended')
    smoke.eventually(lambda: '\ncounted  requests 2\n' in server.control('status'), 'the requests are counted')
    assert 'cohort_application_total{name="requests"} 2\n' in server.control('metrics')


@cluster
def events(server):
    with smoke.Program(CONTROL, '--socket', server.path, 'events') as follower:
        while not follower.lines('stdout'):  # it is heard of from some moment on
            server.control('reload')
        server.control('stop')
        assert follower.wait() == 0
        assert follower.lines('stderr') == []
        lines = follower.lines('stdout')
        assert all(re.match(r'\d\d:\d\d:\d\d  \S', line) for line in lines), lines
        assert re.search(r'stopping: asked by user \d+, pid \d+$', '\n'.join(lines), re.M), lines
        assert re.search(r'worker \d exited, pid \d+: status 0$', lines[-1]), lines


def upgraded():
    """After an upgrade the control socket is the new primary's."""
    with tempfile.TemporaryDirectory() as directory, Cluster(directory) as server:
        server.send_signal(signal.SIGUSR2)
        new = int(server.wait_for(r'^upgraded: primary (\d+) serves')[0][1])
        server.hold(new)
        assert server.wait_exit() == 0
        deadline = time.monotonic() + smoke.PATIENCE
        while not os.path.exists(server.path):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.control('scale', '3') == 'scaled to 3\n'
        server.wait_for(r'^worker 3 ready')
        assert server.control('stop') == 'stopped\n'
        server.wait_gone(new)
        assert os.listdir(directory) == []


def upgrade():
    """The verb waits until the new primary answers."""
    with tempfile.TemporaryDirectory() as directory, Cluster(directory) as server:
        new = int(re.fullmatch(r'primary (\d+) serves\n', server.control('upgrade'))[1])
        server.hold(new)
        assert f'pid {new} ' in server.control('status').split('\n')[0]
        assert server.wait_exit() == 0
        assert server.control('stop') == 'stopped\n'
        server.wait_gone(new)
        assert os.listdir(directory) == []


def read_until(terminal, pattern, text=''):
    deadline = time.monotonic() + smoke.PATIENCE
    while not re.search(pattern, text, re.S):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f'not shown: {pattern!r} in {text!r}'
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            piece = b''
        assert piece, f'ended without {pattern!r}: {text!r}'
        text += piece.decode()
    return text


def watching(server, **environment):
    """A terminal of 80 columns, and the program in it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop('NO_COLOR', None)
        os.environ.update(environment)
        os.execv(CONTROL, [CONTROL, '--socket', server.path, 'status', '--watch', '0.1'])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    return pid, terminal


@cluster
def watch(server):
    pid, terminal = watching(server)
    text = read_until(terminal, '\x1b\\[H.*\x1b\\[H.*\x1b\\[J')
    assert text.startswith('\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H'), text
    assert '\x1b[32m2 of 2 ready\x1b[0m' in text, text
    server.control('kill-worker', '1')
    read_until(terminal, 'SIGKILL')
    os.write(terminal, b'\x03')  # Ctrl-C
    read_until(terminal, '\x1b\\[\\?7h\x1b\\[\\?25h\x1b\\[\\?1049l')
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)

    pid, terminal = watching(server, NO_COLOR='1')
    text = read_until(terminal, 'ready.*\x1b\\[H')
    assert not re.search('\x1b\\[[0-9;]*m', text), text
    server.control('stop')
    text = read_until(terminal, 'cohortctl: [^\r\n]*closed')
    assert '\x1b[?1049l' in text, text
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    os.close(terminal)


@cluster
def watch_pipe(server):
    with smoke.Program(CONTROL, '--socket', server.path, 'status', '--watch', '0.1') as watcher:
        watcher.wait_for('^SLOT', 3)
        assert not any('\x1b' in line for line in watcher.lines('stdout'))
        watcher.interrupt()
        assert watcher.wait() == 0
        assert watcher.lines('stderr') == []


@cluster
def wrong(server):
    for words in ([], ['nothing'], ['scale'], ['scale', '0'], ['scale', 'x'], ['kill-worker'], ['stop', 'now'],
                  ['status', '--watch', '0'], ['--socket']):
        assert '\nusage: cohortctl ' in server.control(*words, expected=2), words
    for path, why in (('/nope/ctl', 'No such file or directory'), ('/', 'Connection refused')):
        done = subprocess.run([CONTROL, '--socket', path, 'status'], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, ''), done
        assert done.stderr == f'cohortctl: connect {path}: {why}\n', done
    bare = {name: value for name, value in os.environ.items() if name != 'COHORT_CONTROL'}
    done = subprocess.run([CONTROL, 'status'], capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 2 and done.stderr.startswith('cohortctl: which one? '), done
    done = subprocess.run([CONTROL, 'reload'], capture_output=True, text=True, check=False,
                          env={**bare, 'COHORT_CONTROL': server.path})
    assert (done.returncode, done.stdout) == (0, 'generation 2, 2 new workers\n'), done
    assert subprocess.run([CONTROL, '--help'], capture_output=True, check=False).returncode == 0


sys.exit(smoke.run(globals(), CASE))
