# SPDX-License-Identifier: BSL-1.0
"""Runs one of the small examples: test_programs.py PROGRAM CASE [WHAT THE CASE NEEDS…]"""
import os
import re
import signal
import socket
import sys
import tempfile
import time
import urllib.request

import smoke

PROGRAM, CASE, *MORE = sys.argv[1:]


def parent_child():
    with smoke.Program(PROGRAM) as parent:
        assert parent.wait() == 0
        assert parent.lines('stdout') == ['the sum of 1/n² for n from 1 to 1000000 is 1.644933', 'the child exited with 0']
        assert parent.lines('stderr') == []


def exec_pipeline():
    with smoke.Program(PROGRAM) as program:
        assert program.wait() == 0
        lines = program.lines('stdout')
        end = lines.index('the shell exited with 0')
        assert 0 < end <= 5
        assert all(re.fullmatch(r' *\d+ \.[a-z]*', line) for line in lines[:end]), lines
        assert lines[end + 1:2 * end + 1] == lines[:end]
        tools = ['ls', 'grep', 'sort', 'uniq', 'sort', 'head']
        assert lines[2 * end + 1:] == [f'{tool} exited with 0' for tool in tools]
        assert program.lines('stderr') == []


def node_words():
    with smoke.Program(PROGRAM, sys.executable, *MORE) as parent:
        assert parent.wait() == 0
        assert parent.lines('stdout') == ['2 be', '1 not', '1 or', '2 to', 'refused to weigh', 'the child exited with 0']
        assert parent.lines('stderr') == []


def node_heavy():
    node, script = MORE
    with smoke.Program(node, script, PROGRAM, '0') as server:
        port, pid = server.wait_for(r'^listening on 127\.0\.0\.1:(\d+), the heavy work has pid (\d+)$')[0].groups()
        for below, count in ((10, 4), (1000, 168), (100000, 9592)):
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/?below={below}', timeout=smoke.PATIENCE) as answer:
                assert answer.read().decode() == f'{count} primes\n'
        server.kill()
        server.wait_gone(int(pid))  # the child ends with the channel


def node_cluster():
    def who():
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=smoke.PATIENCE) as answer:
            return re.fullmatch(r'worker (\d), pid (\d+)\n', answer.read().decode()).groups()
    with smoke.Program(PROGRAM, MORE[0], '0') as primary:
        primary.wait_for(r'^worker \d ready', 2)
        port = int(primary.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
        assert {who()[0] for _ in range(4)} == {'1', '2'}
        primary.send_signal(signal.SIGHUP)
        primary.wait_for('^reloaded')
        assert {who()[0] for _ in range(4)} == {'3', '4'}
        primary.terminate()
        assert primary.wait() == 0


def ask(port):
    """Who answers, and its pid."""
    with socket.create_connection(('127.0.0.1', port), smoke.PATIENCE) as connection:
        connection.sendall(b'GET / HTTP/1.0\r\n\r\n')
        with connection.makefile('rb') as answer:
            head, body = answer.read().decode().split('\r\n\r\n')
    assert head.startswith('HTTP/1.0 200 OK\r\n'), head
    who, pid = re.fullmatch(r'(.+), pid (\d+)\n', body).groups()
    return who, int(pid)


def started(*arguments):
    parent = smoke.Program(PROGRAM, '0', *arguments)
    port = int(parent.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
    children = {f'child {n}': int(pid) for n, pid in
                (found.groups() for found in parent.wait_for(r'^child (\d) has pid (\d+)$', 2))}
    return parent, port, children


def assert_ended(parent, children):
    assert parent.wait() == 0
    for pid in children.values():
        parent.wait_gone(pid)
        parent.wait_for(fr'^pid {pid} exited with 0$')


def handoff():
    parent, port, children = started('--connections', '30')
    with parent:
        assert ask(port) == ('child 1', children['child 1'])
        parent.wait_for('^parent and children listen$')
        for _ in range(4):
            ask(port)
        parent.wait_for('^the parent listens no more$')
        for _ in range(25):
            who, pid = ask(port)
            assert children[who] == pid
        assert_ended(parent, children)


def handoff_stop():
    for connections in (0, 1, 8):
        parent, port, children = started()
        with parent:
            for _ in range(connections):
                ask(port)
            parent.terminate()
            assert_ended(parent, children)


def direct():
    with smoke.Program(PROGRAM) as parent:
        assert parent.wait() == 0
        names = [('bert', 'anna'), ('anna', 'bert')]
        lines = parent.lines('stdout')
        assert lines[:10] == ['%s has ball %d from %s' % (names[n % 2][0], n, names[n % 2][1]) for n in range(10)], lines
        assert lines[10:] == [f'{name} has sent 5, received 5 and exited with 0' for name in ('anna', 'bert')], lines
        assert parent.lines('stderr') == []


def calls():
    with smoke.Program(PROGRAM) as parent:
        assert parent.wait() == 0
        assert parent.lines('stdout') == [
            '25 %', '50 %', '75 %', 'there are 78498 primes below 1000000',
            'no answer within 100 ms',
            'call: at most 100000000: the call failed on the other side',
            'below 10, 100, 1000...: 4, 25, 168, 1229, 9592',
            'the child exited with 0']
        assert parent.lines('stderr') == []


def request(port, *parts):
    """Sends a request in several parts; the status and body of the answer, after which the connection ends."""
    with smoke.Client(port) as client:
        for part in parts:
            client.send(part)
            time.sleep(0.02)  # so that it is likely to be read before the next one
        status, _, text = client.answer()
        client.assert_closed()
    return status, text


def routed():
    router = smoke.Program(PROGRAM, '0')
    port = int(router.wait_for(r'^listening on 127\.0\.0\.1:(\d+)$')[0][1])
    pids = [int(found[1]) for found in router.wait_for(r'^\w+\.localhost has pid (\d+)$', 2)]
    return router, port, pids


def assert_stopped(router, pids, *lines):
    router.terminate()
    assert router.wait() == 0
    for pid in pids:
        router.wait_gone(pid)
    for line in lines:
        assert line in router.lines('stdout'), line


def router():
    program, port, pids = routed()
    with program:
        status, text = request(port, 'GET / HTTP/1.1\r\nHost: time.localhost\r\n\r\n')
        assert status == 200 and re.fullmatch(r'\d+ seconds since 1970\n', text), text
        for parts in (['GET /a/b HTTP/1.1\r\nHost: echo.localhost\r\n\r\n'],
                      ['GET /a/b HTTP/1.1\r\nHo', 'st: Echo.local', 'host:8000\r\nX: y\r\n', '\r\n'],
                      ['POST /a/b HTTP/1.1\r\nhost: echo.localhost\r\nContent-Length: 6\r\n\r\nabc', 'def']):
            assert request(port, *parts) == (200, 'you have asked for /a/b\n'), parts
        assert request(port, 'GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n') == (404, 'no such host\n')
        assert_stopped(program, pids, 'time.localhost has answered 1 times', 'echo.localhost has answered 3 times',
                       'time.localhost exited with 0', 'echo.localhost exited with 0')


def router_without_worker():
    program, port, pids = routed()
    with program:
        program.signal(pids[0], signal.SIGKILL)
        program.wait_for('^time.localhost has answered 0 times$')
        assert request(port, 'GET / HTTP/1.1\r\nHost: time.localhost\r\n\r\n')[0] == 503
        assert request(port, 'GET /x HTTP/1.1\r\nHost: echo.localhost\r\n\r\n') == (200, 'you have asked for /x\n')
        assert_stopped(program, pids, 'time.localhost killed by SIGKILL (9)', 'echo.localhost exited with 0')


def router_bad_requests():
    program, port, pids = routed()
    with program:
        assert request(port, 'HELLO\r\n\r\n')[0] == 404
        assert request(port, 'GET / HTTP/1.0\r\n\r\n')[0] == 404
        assert request(port, 'POST / HTTP/1.1\r\nHost: echo.localhost\r\nTransfer-Encoding: chunked\r\n\r\n',
                       'nonsense\r\n')[0] == 400
        with smoke.Client(port) as client:
            client.send('GET / HTTP/1.1\r\nHost: echo')
        assert_stopped(program, pids)


def daemon_control(directory, verb, expected=0):
    """What the program says, and its error output."""
    with smoke.Program(PROGRAM, verb, directory) as control:
        status = control.wait()
        assert status == expected, (verb, status, control.lines('stderr'))
        return control.lines('stdout'), control.lines('stderr')


def contents(directory, name):
    with open(os.path.join(directory, name), encoding='utf-8') as file:
        return file.read()


def title_of(pid):
    with open(f'/proc/{pid}/cmdline', encoding='utf-8') as file:
        return file.read().rstrip('\0')


def daemon():
    with tempfile.TemporaryDirectory() as directory:
        assert daemon_control(directory, 'status', 3) == (['not running'], [])
        assert daemon_control(directory, 'stop') == (['not running'], [])
        try:
            assert daemon_control(directory, 'start') == ([], [])
            pid = int(contents(directory, 'daemon.pid'))
            assert daemon_control(directory, 'status') == ([f'running, pid {pid}'], [])
            assert os.getsid(pid) == pid
            smoke.eventually(lambda: title_of(pid).startswith('daemon: round 2, up for'), 'the second title')
            smoke.eventually(lambda: contents(directory, 'daemon.log').startswith('round 1\nround 2\n'), 'a log')
            out, err = daemon_control(directory, 'start', 1)
            assert out == [] and f'daemon.pid", pid {pid}: already running' in err[0] and len(err) == 1, err
        finally:
            daemon_control(directory, 'stop')
        assert daemon_control(directory, 'status', 3) == (['not running'], [])
        assert contents(directory, 'daemon.log').endswith('stopped by signal 15\n')
        assert os.listdir(directory) == ['daemon.log']


def daemon_failed():
    out, err = daemon_control('/nope', 'start', 1)
    assert (out, err) == ([], ['daemonize: pid file "/nope/daemon.pid": No such file or directory'])
    daemon_control('/nope', 'nothing', 2)


def daemon_run():
    with tempfile.TemporaryDirectory() as directory, smoke.Program(PROGRAM, 'run', directory) as program:
        program.wait_for('^round 1$')
        assert daemon_control(directory, 'start', 1)[0] == []
        program.terminate()
        assert program.wait() == 0
        assert program.lines('stdout')[-1] == 'stopped by signal 15'
        assert os.listdir(directory) == []


sys.exit(smoke.run(globals(), CASE))
