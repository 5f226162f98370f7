# SPDX-License-Identifier: BSL-1.0
"""test.py SERVER: starts the server, has it echo, and stops it as a service manager does."""
import os
import signal
import socket
import subprocess
import sys
import tempfile

with tempfile.TemporaryDirectory() as folder:
    # The server says at this socket that all workers are ready, as it says it to systemd.
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(os.path.join(folder, 'notify'))
    ready.settimeout(30)
    with socket.create_server(('127.0.0.1', 0)) as unused:
        port = unused.getsockname()[1]
    server = subprocess.Popen([sys.argv[1], f'127.0.0.1:{port}'],
                              env={**os.environ, 'NOTIFY_SOCKET': os.path.join(folder, 'notify')})
    try:
        while b'READY=1' not in ready.recv(4096):
            pass
        with socket.create_connection(('127.0.0.1', port), timeout=30) as client:
            client.sendall(b'hello')
            assert client.recv(5, socket.MSG_WAITALL) == b'hello'
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
