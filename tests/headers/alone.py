# SPDX-License-Identifier: BSL-1.0
"""Checks that each header and each .ipp file of some rooms (folders of include/cohort) compiles alone.

    alone.py BUILD_DIR REFERENCE ROOM… [--without [NAME…]]

The compiler and its flags are those of REFERENCE, a file that BUILD_DIR compiles for the separately compiled mode: with
all bodies behind it, each header would cost a hundred times as much.

A header's text comes after all of its includes. So it is enough that the headers that it includes compile alone, and
that its own text compiles after them, in whatever order they come. That is why some of them may come precompiled. For
the same reason a header is not tried by itself whose .ipp file includes it first.

What is looked for is a name that is not declared where it is written. So the compiler is stopped at the end of the text,
by an assertion that fails, before it makes functions from templates, which takes half of its time.
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "compile_fail"))
from expect import flags_of  # noqa: E402

ROOT = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", "..", "include"))

# Which to precompile, for those that include them: the last that serves is taken.
PRECOMPILED = [
    "cohort/core/asio.hpp",
    "cohort/ipc/channel.hpp",
    "cohort/ipc/node/link.hpp",
    "cohort/worker/worker.hpp",
]

END = "the text has ended"

INCLUDE = re.compile(r'^#include "([^" ]+)"', re.MULTILINE)  # no file's name has a space: see core/requirements.hpp
HEADER_ONLY = re.compile(r"^#ifndef COHORT_SEPARATE_COMPILATION\n#include .*\n", re.MULTILINE)


def includes_of(name, known={}):
    """What a file includes of cohort's, in order, as it stands in the separately compiled mode."""
    if name not in known:
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            text = HEADER_ONLY.sub("", file.read())
        known[name] = [os.path.normpath(os.path.join(os.path.dirname(name), each)) for each in INCLUDE.findall(text)]
    return known[name]


def all_of(name, seen):
    for each in includes_of(name):
        if each not in seen:
            seen.add(each)
            all_of(each, seen)
    return seen


def files_of(room, without):
    for folder, inside, names in os.walk(os.path.join(ROOT, "cohort", room)):
        inside[:] = [each for each in inside if each not in without]
        for name in (each for each in names if each not in without):
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            bodies = os.path.splitext(path)[0] + ".ipp"
            if path.endswith(".ipp"):
                yield path
            elif path.endswith(".hpp"):
                beside = os.path.exists(os.path.join(ROOT, bodies))
                if not beside or includes_of(bodies)[:1] != [path]:
                    yield path


def main():
    build, reference, *rooms = sys.argv[1:]
    without = []  # folders and files
    if "--without" in rooms:
        at = rooms.index("--without")
        without, rooms = rooms[at + 1:], rooms[:at]
    command = [each for each in flags_of(build, reference) if not each.startswith("-O")]
    command += ["-O0", "-g0"]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        ready = {}
        for path in sorted(path for room in rooms for path in files_of(room, without)):
            reached = all_of(path, {path})
            first = [each for each in PRECOMPILED if each in reached and each != path][-1:]
            for each in first:
                if each not in ready:
                    ready[each] = os.path.join(folder, os.path.basename(each))
                    with open(ready[each], "w", encoding="utf-8") as file:
                        file.write(f"#include <{each}>\n")
                    subprocess.run([*command, "-w", "-x", "c++-header", ready[each], "-o", ready[each] + ".gch"],
                                   cwd=build, check=True)
            tried = os.path.join(folder, "tried.cpp")
            with open(tried, "w", encoding="utf-8") as file:
                file.write(f"#include <{path}>\n" * 2)  # twice, because the include guard is part of what is tested
                file.write(f'static_assert(false, "{END}");\n')
            options = [word for each in first for word in ("-include", ready[each])]
            options += ["-fsyntax-only", "-Wfatal-errors", "-Winvalid-pch", "-Wno-subobject-linkage"]
            said = subprocess.run([*command, *options, tried], cwd=build, check=False, stderr=subprocess.PIPE,
                                  text=True).stderr
            if f"static assertion failed: {END}" not in said:
                print(f"{said}{path} does not compile alone", flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
