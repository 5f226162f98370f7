# SPDX-License-Identifier: BSL-1.0
"""Writes inputs for channel_fuzz.cpp and ring_fuzz.cpp to begin with: seeds.py DIRECTORY RING_DIRECTORY"""
import os
import struct
import sys

HELLO, FRAMES, MEMORY, LENDS, COPIES = 1, 2, 4, 8, 16  # bits of the first byte

MESSAGE, PIECE, HANDLES, LEASE, ADOPTED, REFUSED, REVOKED, GOODBYE, WITHDRAWN, PARCEL, RING, POOL, LOAN, RETURNED = range(2, 16)
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


def mix(number, value):
    number = (number ^ value) * 0x9e3779b97f4a7c15 & 0xffffffffffffffff
    return number ^ number >> 29


WORDS = mix(mix(2, 0), 8)  # the type of a loan of std::uint64_t


def loan(identity, offset, count, each=8, kind=WORDS):
    return frame(LOAN, struct.pack('<QQQQI', identity, offset, count, kind, each) + small)


def returned(*identities):
    return b''.join(frame(RETURNED, struct.pack('<Q', each)) for each in identities)


LOANS = {
    'loans': loan(1, 0, 8) + loan(2, 64, 100) + loan(3, 4096, 512) + loan(4, 1024, 0),
    'again': b''.join(loan(i, 64 * (i % 4), 8) for i in range(1, 12)),
    'other': loan(1, 0, 8, 4) + loan(2, 0, 8, 8, 1),
    'overlapping': loan(1, 0, 100) + loan(2, 64, 1),
    'outside': loan(1, 8128, 9),
    'returned': returned(1, 3, 2),
    'twice': returned(1, 1),
}
POOL_OF_FRAMES = frame(HANDLES, handles=1) + frame(POOL, struct.pack('<Q', 8192), 1) + loan(1, 0, 8)
CHANNEL = {
    **{name: (HELLO | FRAMES, data) for name, data in SEEDS.items()},
    **{name: (HELLO | FRAMES | LENDS, data) for name, data in LOANS.items()},
    'copied': (HELLO | FRAMES | LENDS | COPIES, LOANS['again']),
    'pool': (HELLO | FRAMES | MEMORY, POOL_OF_FRAMES),
    'bytes': (HELLO, struct.pack('<IBBBB', len(small), 1, MESSAGE, 0, 0) + small),
}

# Steps of ring_fuzz.cpp.
(SAY, FRAME, SIZED, SCRIBBLE, SCRIBBLE_THEIRS, TAIL, ADVANCE, HEAD, READ, HANDLES_AT, FLAGS, ANY_AT, BELL, HAND, POST,
 RUN) = range(16)
MINE, RUNS = 64, 128  # bits of a step


def steps(frames):
    result = b''
    while frames:
        size = 3 + frames[2]
        result += bytes([FRAME | RUNS]) + frames[:size]
        frames = frames[size:]
    return result


RINGS = {
    **{name: steps(data) for name, data in SEEDS.items()},
    **{name: bytes([HAND | RUNS, 128 + 1]) + steps(data) for name, data in LOANS.items()},
    'hands': bytes([HAND, 1]) + steps(lease),
    'posts': bytes([POST, 15, RUN, READ, BELL, RUN] * 20),
    'full': bytes([POST, 15, RUN] * 40 + [READ, BELL, RUN]),
    'positions': bytes([TAIL] + [255] * 8 + [RUN, HEAD] + [1] * 8 + [POST, 1, RUN]),
    'torn': bytes([SIZED, MESSAGE]) + struct.pack('<I', 3000) + bytes([ADVANCE, 0, 4, BELL, RUN, ADVANCE, 0, 8, RUN]),
    'changed': bytes([SAY, 40]) + struct.pack('<IBBBB', 32, 1, MESSAGE, 0, 0) + small + bytes(22) +
               bytes([SCRIBBLE, 0, 0, 4, 9, 9, 9, 0, RUN]),
    'flags': bytes([FLAGS, 1, 0, 1, FLAGS | MINE, 1, 255, 255, HANDLES_AT, 3, ANY_AT] + [0] * 8 + [BELL, RUN, POST, 3, RUN]),
    'theirs': bytes([POST, 9, SCRIBBLE_THEIRS, 0, 0, 8] + [0] * 8 + [RUN, READ, RUN]),
}


def write(directory, inputs):
    os.makedirs(directory, exist_ok=True)
    for name, data in inputs.items():
        with open(os.path.join(directory, name), 'wb') as file:
            file.write(data)


write(sys.argv[1], {name: bytes([first]) + data for name, (first, data) in CHANNEL.items()})
write(sys.argv[2], RINGS)
