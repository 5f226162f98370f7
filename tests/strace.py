#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Fails system calls of the main scenes (tests/verbs/scarce.cpp) from outside, one call at a time.

    tests/strace.py HELPER [--all] [SCENE…]

For each scene and each call, the call fails when it is made for the N-th time: a few N, or with --all each up to the
last one that the scene makes. The scene must end by itself, with an error or without one: never by a signal, never
after the time limit, and with no descriptor and no child left, which the helper looks at itself. Without strace, or
where nothing may be traced, it says so and ends with 77.

Of epoll_ctl only the calls count that begin to watch a descriptor: these take memory of the kernel. Asio does not look
at the result of a change (EPOLL_CTL_MOD), which takes none, nor at that for its own two descriptors, which it watches
before anything of ours runs and without EPOLLPRI.
"""
import re
import shutil
import subprocess
import sys
import tempfile

# What a call is made to fail with: what the kernel may say in a process that is short of something.
CALLS = {
    'clone': 'EAGAIN', 'pipe2': 'EMFILE', 'socketpair': 'EMFILE', 'socket': 'EMFILE', 'accept4': 'EMFILE',
    'bind': 'EADDRINUSE', 'listen': 'EADDRINUSE', 'sendmsg': 'ENOBUFS', 'recvmsg': 'ENOMEM',
    'pidfd_open': 'EMFILE', 'pidfd_send_signal': 'EPERM', 'waitid': 'EINTR', 'epoll_ctl': 'ENOMEM',
    'close_range': 'ENOSYS',
}
SCENES = ['spawn', 'exec', 'channel', 'lease', 'peer', 'cluster', 'shared', 'reload', 'messenger']
QUICK = {'spawn': ['clone', 'pipe2', 'epoll_ctl'], 'lease': ['sendmsg', 'recvmsg'], 'cluster': ['accept4', 'sendmsg'],
         'reload': ['socketpair', 'clone']}
LIMIT = 60


def run(helper, scene, call, error, number):
    """What went wrong, if anything, and whether the call was made that often."""
    with tempfile.NamedTemporaryFile('r') as log:
        try:
            # Not with -f: the processes that the scene starts make calls of their own.
            done = subprocess.run(
                ['strace', '-qq', '-o', log.name, '-e', f'trace={call}',
                 '-e', f'inject={call}:error={error}:when={number}', helper, 'scarce-once', scene],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
            status = f'ended with {done.returncode}: {done.stdout.strip()}'
            good = done.returncode in (0, 1)
        except subprocess.TimeoutExpired:
            status, good = f'not ended after {LIMIT} s', False
        made = re.search(r'.*\(INJECTED\)', log.read())
    injected = made is not None
    spared = injected and call == 'epoll_ctl' and not ('EPOLL_CTL_ADD' in made[0] and 'EPOLLPRI' in made[0])
    return None if good or spared else status, injected


def main():
    arguments = [each for each in sys.argv[1:] if each != '--all']
    everything = '--all' in sys.argv
    if not arguments:
        sys.exit(__doc__)
    helper, chosen = arguments[0], arguments[1:]
    if shutil.which('strace') is None:
        print('SKIPPED: there is no strace')
        sys.exit(77)
    if subprocess.run(['strace', '-qq', '-o', '/dev/null', 'true'], capture_output=True).returncode != 0:
        print('SKIPPED: nothing may be traced here')
        sys.exit(77)
    cases, failed = 0, 0
    for scene in chosen or (SCENES if everything else QUICK):
        calls = CALLS if everything or scene not in QUICK else QUICK[scene]
        for call in calls:
            number, injected = 1, True
            while injected and number <= (1000 if everything else 3):
                trouble, injected = run(helper, scene, call, CALLS[call], number)
                cases += injected
                if trouble and (injected or number == 1):
                    failed += 1
                    print(f'{scene}: {call} number {number} fails with {CALLS[call]}: {trouble}')
                number += 1
    print(f'{cases} cases, {failed} failed')
    sys.exit(failed != 0)


main()
