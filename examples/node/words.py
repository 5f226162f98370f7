# SPDX-License-Identifier: BSL-1.0
# Counts words for its parent: a child on Node's wire, which is lines of JSON on the socket that NODE_CHANNEL_FD names.
import collections
import json
import os
import socket

channel = socket.socket(fileno=int(os.environ.pop('NODE_CHANNEL_FD')))
answers = channel.makefile('w', encoding='utf-8')
for line in channel.makefile('r', encoding='utf-8'):  # until the parent disconnects
    question = json.loads(line)
    if question['type'] == 'count':
        words = collections.Counter(question['text'].split())
        answer = {'type': 'counted', 'words': dict(words), 'by': f'Python, pid {os.getpid()}'}
    else:
        answer = {'type': 'refused', 'what': question['type']}
    print(json.dumps(answer), file=answers, flush=True)
