# SPDX-License-Identifier: BSL-1.0
"""Runs one of the examples that are a parent with children: test_programs.py PROGRAM CASE"""
import re
import socket
import sys

import smoke

PROGRAM, CASE = sys.argv[1:]


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


sys.exit(smoke.run(globals(), CASE))
