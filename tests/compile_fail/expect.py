# SPDX-License-Identifier: BSL-1.0
"""Checks that a file does not compile, and says why as it should.

    expect.py BUILD_DIR REFERENCE CASE

The compiler and its flags are those of REFERENCE, a file that BUILD_DIR compiles. CASE states in its first lines

    // expect: a part of the first line that is an error, which is one of the first 20 lines that the compiler writes
    // also: a part of any of these 20 lines (optional)
    // flags: -std=c++17      (optional: further flags; {here} is the folder of CASE)
    // compiler: gcc<13       (optional: only for these; also gcc, clang, with <, >= and a major version)
"""
import json
import os
import re
import shlex
import subprocess
import sys

SKIPPED = 77
LINES = 20  # what is seen of an error without scrolling


def compiler_of(command):
    macros = subprocess.run([*command, '-dM', '-E', '-x', 'c++', '/dev/null'], capture_output=True, text=True).stdout
    for name, macro in ('clang', '__clang_major__'), ('gcc', '__GNUC__'):
        found = re.search(rf'#define {macro} (\d+)', macros)
        if found:
            return name, int(found[1])
    sys.exit('neither gcc nor clang: ' + shlex.join(command))


def applies(condition, name, version):
    wanted = re.fullmatch(r'(gcc|clang)(?:(<|>=)(\d+))?', condition)
    if not wanted:
        sys.exit(f'not understood: "// compiler: {condition}"')
    if wanted[1] != name:
        return False
    return not wanted[2] or (version < int(wanted[3])) == (wanted[2] == '<')


def flags_of(build, reference):
    """The words of the compile command of `reference`, without its files."""
    with open(os.path.join(build, 'compile_commands.json'), encoding='utf-8') as commands:
        for entry in json.load(commands):
            if os.path.realpath(os.path.join(entry['directory'], entry['file'])) == os.path.realpath(reference):
                words = iter(shlex.split(entry['command']))
                kept = []
                for word in words:
                    if word in ('-o', '-MF', '-MQ', '-MT'):
                        next(words)
                    elif word not in ('-c', '-MD', '-Werror', entry['file']):
                        kept.append(word)
                return kept
    sys.exit(f'{build} does not compile {reference}')


def main():
    build, reference, case = sys.argv[1:]
    with open(case, encoding='utf-8') as file:
        head = dict(re.findall(r'^// (expect|also|flags|compiler): (.+)$', file.read(), re.MULTILINE))
    if 'expect' not in head:
        sys.exit(f'{case}: no line "// expect: ..."')
    words = flags_of(build, reference)
    launcher = 2 if os.path.basename(words[0]) == 'ccache' else 1
    if 'compiler' in head and not applies(head['compiler'], *compiler_of(words[:launcher])):
        return SKIPPED
    words += shlex.split(head.get('flags', '').replace('{here}', os.path.dirname(os.path.realpath(case))))
    result = subprocess.run([*words, '-fdiagnostics-color=never', '-fsyntax-only', case], cwd=build,
                            capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C'})
    if result.returncode == 0:
        sys.exit(f'{case} compiles')
    seen = result.stderr.splitlines()[:LINES]
    first = next((line for line in seen if re.search(r'\berror: ', line)), '')
    if head['expect'] not in first:
        sys.exit(f'{case}: the first error is not "{head["expect"]}":\n{result.stderr}')
    if not any(head.get('also', '') in line for line in seen):
        sys.exit(f'{case}: the first {LINES} lines do not say "{head["also"]}":\n{result.stderr}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
