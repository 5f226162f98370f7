# SPDX-License-Identifier: BSL-1.0
"""Writes inputs for channel_fuzz.cpp to begin with: seeds.py DIRECTORY"""
import os
import struct
import sys

HELLO, FRAMES = 1, 2  # bits of the first byte

MESSAGE, PIECE, HANDLES, LEASE, ADOPTED, REFUSED, REVOKED, GOODBYE, WITHDRAWN, PARCEL = range(2, 12)
SMALL, WIDE, TREE, CARRIER, NUMBERS = range(5)
REQUEST, PROGRESS, REPLY, FAILURE, CANCEL = range(0xffff, 0xfffa, -1)
DESCRIPTOR = b'\1'  # the kind of handle


def frame(kind, payload=b'', handles=0):
    return bytes([kind, handles, len(payload)]) + payload


def typed(number, encoding):
    return struct.pack('<H', number) + encoding


def call(envelope, identity, inside=b''):
    return struct.pack('<HQ', envelope, identity) + inside


def text(value):
    return struct.pack('<I', len(value)) + value


def tree(name, *children):
    return text(name) + struct.pack('<I', len(children)) + b''.join(children) + b'\0'


small = typed(SMALL, struct.pack('<II', 1, 2))
wide = typed(WIDE, b'\1' + b'\1' + b'\1' + text(b'note') + struct.pack('<HHH', 1, 2, 3) +
             struct.pack('<I', 1) + text(b'key') + struct.pack('<Idd', 2, 1, 2) +
             b'\1' + text(b'either') + b'c' + struct.pack('<q', 5))
deep = typed(TREE, tree(b'a', tree(b'b', tree(b'c')), tree(b'd')))
numbers = typed(NUMBERS, struct.pack('<IQQQ', 3, 1, 2, 3))
lease = frame(LEASE, struct.pack('<Q', 1) + DESCRIPTOR + small, 1)
parcel = frame(PARCEL, struct.pack('<Q', 2) + typed(CARRIER, DESCRIPTOR), 1)

SEEDS = {
    'small': frame(MESSAGE, small),
    'wide': frame(MESSAGE, wide),
    'tree': frame(MESSAGE, deep),
    'numbers': frame(MESSAGE, numbers),
    'pieces': frame(PIECE, numbers[:9]) + frame(PIECE, numbers[9:12]) + frame(MESSAGE, numbers[12:]),
    'lease': frame(HANDLES, handles=1) + lease,
    'parcel': frame(HANDLES, handles=1) + parcel,
    'both': frame(HANDLES, handles=2) + lease + frame(MESSAGE, small) + parcel,
    'revoked': frame(HANDLES, handles=1) + lease + frame(REVOKED, struct.pack('<Q', 1)),
    'answers': frame(ADOPTED, struct.pack('<Q', 1)) + frame(REFUSED, struct.pack('<QB', 1, 1)),
    'calls': frame(MESSAGE, call(REQUEST, 1, small)) + frame(MESSAGE, call(CANCEL, 1)) +
             frame(MESSAGE, call(REQUEST, 2, wide)),
    'replies': frame(MESSAGE, call(REPLY, 1, small)) + frame(MESSAGE, call(FAILURE, 2, b'\1why')),
    'goodbye': frame(WITHDRAWN, b'nothing') + frame(MESSAGE, small) + frame(GOODBYE),
}

for name, data in SEEDS.items():
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(os.path.join(sys.argv[1], name), 'wb') as file:
        file.write(bytes([HELLO | FRAMES]) + data)
