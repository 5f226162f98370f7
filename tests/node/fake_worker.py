#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""In place of Node: a worker of Node's cluster protocol that does what no good worker does. FAKE says what."""
import json
import os
import signal
import socket
import sys

WHAT = os.environ['FAKE']
ID = int(os.environ['NODE_UNIQUE_ID'])
channel = socket.socket(fileno=int(os.environ['NODE_CHANNEL_FD']))
messages = []
descriptors = []
rest = b''


def say(**message):
    channel.sendall((json.dumps(message) + '\n').encode())


def tell(**message):
    say(cmd='NODE_CLUSTER', **message)


def hear():
    """The next message, and the descriptor that came with it."""
    global rest
    while not messages:
        data, found, _, _ = socket.recv_fds(channel, 65536, 60)
        descriptors.extend(found)
        if not data:
            sys.exit(0)
        rest += data
        *lines, rest = rest.split(b'\n')
        messages.extend(json.loads(line) for line in lines)
    message = messages.pop(0)
    if message['cmd'] != 'NODE_HANDLE':
        return message, None
    say(cmd='NODE_HANDLE_ACK')
    return message['msg'], descriptors.pop(0)


def query(**fields):
    tell(act='queryServer', seq=1, **fields)
    while True:
        message, fd = hear()
        if message.get('ack') == 1:
            return message, fd


TCP = dict(index=0, data=None, address='127.0.0.1', port=0, addressType=4, backlog=0)
tell(act='online', seq=0)

if WHAT == 'garbage' and ID == 1:
    channel.sendall(b'{"cmd":"NODE_CLUSTER",\n')
    signal.pause()
if WHAT == 'floods' and ID == 1:
    while True:  # and reads nothing
        tell(act='queryServer', seq=9, **{**TCP, 'data': 'x' * 10000})
        tell(act='exitedAfterDisconnect', seq=9)
if WHAT == 'nonsense':
    for nonsense in (None, True, -1, 1e300, 'a' * 70000, [], {}, [None] * 100):
        for name in ('act', 'ack', 'seq', 'key', 'accepted'):
            tell(**{'act': 'close', name: nonsense})
            tell(**{name: nonsense})
        say(cmd='NODE_HANDLE_ACK')
        say(cmd='NODE_HANDLE_NACK')
        for name in ('address', 'port', 'addressType', 'fd', 'index', 'data', 'backlog', 'flags'):
            tell(act='queryServer', seq=9, **{**TCP, name: nonsense, 'port': nonsense if name == 'port' else -7})
if WHAT == 'shared' and ID == 1:
    print('query', json.dumps(query(**{**TCP, 'data': {'ticketKeys': '1' * 96}})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'data': {'ticketKeys': '2' * 96}})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'index': 1})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'address': None})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'address': '1.2.3.4'})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'fd': 3})[0]), flush=True)
    print('query', json.dumps(query(**{**TCP, 'addressType': 'udp5'})[0]), flush=True)

reply, _ = query(**TCP)
port = reply['sockname']['port']
tell(act='listening', seq=2, **{**TCP, 'port': port})
print('listening at', port, flush=True)
while True:
    message, fd = hear()
    act = message.get('act')
    if act == 'disconnect':
        tell(act='close', key=reply['key'], seq=3)
        sys.exit(0)
    if act != 'newconn':
        continue
    connection = socket.socket(fileno=fd)
    connection.setblocking(True)
    if WHAT == 'dies' and ID == 1:  # it has the descriptor, and has not said that it takes the connection
        os.kill(os.getpid(), signal.SIGKILL)
    if WHAT == 'torn' and ID == 1:  # it has begun to say so
        channel.sendall(b'{"cmd":"NODE_CLUSTER","accepted":true,"ack":')
        os.kill(os.getpid(), signal.SIGKILL)
    if WHAT == 'refuses' and ID == 1:
        connection.close()
        print('refused', flush=True)
        tell(ack=message['seq'], accepted=False, seq=4)
        continue
    tell(ack=message['seq'], accepted=True, seq=4)
    connection.recv(65536)
    text = f'worker {ID} pid {os.getpid()}\n'
    connection.sendall(f'HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}'.encode())
    connection.close()
