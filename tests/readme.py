# SPDX-License-Identifier: BSL-1.0
"""Takes the C++ out of Markdown files, for a build of it: readme.py INPUT.md… OUTPUT.cpp…

Each block with a main is a complete program, and is written into an output of its own, as it stands. All other blocks
are written into the last output, which has no main, each in a namespace of its own. A block's context, which a reader
need not see, stands in an HTML comment before it:

    <!-- context: same -->      the block is in the namespace of the block before
    <!-- context:               declarations before the block, which replaces a "..." in them
    asio::awaitable<void> body(std::string text) { ... }
    -->

A context that begins with "node" is for a block that is compiled only where nlohmann-json is.

A block without a context is the body of a coroutine. A comment that begins with "compiled:" is such a block, too, which
nobody sees: for names that stand in the text.
"""
import re
import sys

MARKS = re.compile(r"^<!-- (context|compiled):(.*?)-->$|^```cpp\n(.*?)^```$", re.MULTILINE | re.DOTALL)

HEAD = """#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <signal.h>
#include <unistd.h>

#include <asio/write.hpp>
#include <fmt/format.h>

#include <cohort/cohort.hpp>
#include <cohort/cluster/control/metrics.hpp>

#if __has_include(<nlohmann/json.hpp>)
#include <cohort/ipc/node/peer.hpp>
#endif

using asio::ip::tcp;
using namespace std::chrono_literals;
"""


def in_coroutine(block):
    return f"asio::awaitable<void> body() {{\n{block}\nco_return;\n}}\n"


def in_context(context, block):
    if context is None:
        return in_coroutine(block)
    with_node = context.startswith("node\n")
    before, _, after = context.removeprefix("node\n").partition("...")
    code = f"{before}\n{block}\n{after}\n"
    return f"#if __has_include(<nlohmann/json.hpp>)\n{code}\n#endif\n" if with_node else code


def read(path, programs, snippets):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    context = None
    for mark in MARKS.finditer(text):
        kind, comment, block = mark.groups()
        if kind == "context":
            context = comment.strip()
            continue
        where = f"// {path}:{text.count(chr(10), 0, mark.start()) + 1}\n"
        if kind == "compiled":
            snippets.append([where + in_coroutine(comment.strip())])
        elif "\nint main(" in block:
            programs.append(block)
        elif context == "same":
            snippets[-1].append(where + block)
        else:
            snippets.append([in_context(context, where + block)])
        context = None


inputs = [each for each in sys.argv[1:] if each.endswith(".md")]
outputs = [each for each in sys.argv[1:] if not each.endswith(".md")]
programs, snippets = [], []
for each in inputs:
    read(each, programs, snippets)
if len(programs) + 1 != len(outputs):
    sys.exit(f"{' '.join(inputs)}: {len(programs)} complete programs and the other blocks, and not {len(outputs)} files")
for program, output in zip(programs, outputs):
    with open(output, "w", encoding="utf-8") as file:
        file.write(program)
with open(outputs[-1], "w", encoding="utf-8") as file:
    file.write(HEAD)
    for number, parts in enumerate(snippets, 1):
        file.write(f"\nnamespace snippet_{number} {{\n" + "\n".join(parts) + "\n}\n")
