# SPDX-License-Identifier: BSL-1.0
"""unit_file.py SYSTEMD_ANALYZE UNIT.service UNIT.socket: the units are in order, whether the program is installed or not."""
import os
import re
import subprocess
import sys
import tempfile

with tempfile.TemporaryDirectory() as here:
    for path in sys.argv[2:]:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(os.path.join(here, os.path.basename(path)), "w", encoding="utf-8") as file:
            file.write(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    units = [os.path.join(here, os.path.basename(path)) for path in sys.argv[2:]]
    done = subprocess.run([sys.argv[1], "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    print(done.stdout + done.stderr)
    sys.exit(1 if done.returncode != 0 or here in done.stderr else 0)
