# SPDX-License-Identifier: BSL-1.0
"""Takes the complete programs out of README.md, for a build of them: readme.py README.md OUTPUT…"""
import re
import sys

readme, *outputs = sys.argv[1:]
with open(readme, encoding="utf-8") as file:
    blocks = re.findall(r"^```cpp\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
programs = [block for block in blocks if "\nint main(" in block]
if len(programs) != len(outputs):
    sys.exit(f"{readme}: {len(programs)} complete programs, and not {len(outputs)}")
for program, output in zip(programs, outputs):
    with open(output, "w", encoding="utf-8") as file:
        file.write(program)
