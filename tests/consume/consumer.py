# SPDX-License-Identifier: BSL-1.0
"""What the ways to consume cohort share: the archive, what is unpacked and installed of it, and the projects."""
import atexit
import functools
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CXX = os.environ.get('CXX', 'c++')
BARE = ['-Dtests=disabled', '-Dexamples=disabled', '-Dbench=disabled']
WAYS = []
WORK = tempfile.mkdtemp(prefix='cohort_consume_')  # removed at the end
atexit.register(shutil.rmtree, WORK, True)


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def way(name, *tools, long=False):
    """Adds a function to the ways, which gets a folder of its own."""
    def add(function):
        WAYS.append((name, tools, long, function))
        return function
    return add


def once(function):
    """Caches what a function returns; whoever asks while it runs waits for it."""
    lock, results = threading.RLock(), {}

    @functools.wraps(function)
    def wrapper(*arguments):
        with lock:
            if arguments not in results:
                results[arguments] = function(*arguments)
            return results[arguments]
    return wrapper


def run(command, cwd, fails=False, **environment):
    """What a command writes. It must succeed, or, with `fails`, must not."""
    variables = {'LC_ALL': 'C', 'CXX': CXX, **environment}
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if (done.returncode != 0) != fails:
        raise Failed(f'{shlex.join(command)}\n{done.stdout}')
    return done.stdout


def version():
    with open(os.path.join(ROOT, 'meson.build'), encoding='utf-8') as file:
        return re.search(r"version: '([0-9.]+)'", file.read())[1]


NAME = f'cohort-{version()}'


@once
def archive():
    """A release archive, as `meson dist` makes one, of the files that are here now."""
    path = os.path.join(WORK, NAME + '.tar.gz')
    with tarfile.open(path, 'w:gz', compresslevel=1) as tar:
        for each in files():
            tar.add(os.path.join(ROOT, each), os.path.join(NAME, each), recursive=False)
    return path


def files():
    if os.path.exists(os.path.join(ROOT, '.git')):
        listed = run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], ROOT).split('\0')
        return [each for each in listed if os.path.isfile(os.path.join(ROOT, each))]
    return [os.path.relpath(os.path.join(folder, each), ROOT)
            for folder, _, names in os.walk(ROOT) for each in names
            if not os.path.relpath(folder, ROOT).startswith(('build', 'subprojects' + os.sep))]


@once
def source():
    """The folder that has been unpacked from the archive."""
    with tarfile.open(archive()) as tar:
        tar.extractall(WORK)
    return os.path.join(WORK, NAME)


@once
def installed(compiled=False):
    """The prefix that `meson install` has filled; with the library only if that is asked for, because it takes long."""
    build = os.path.join(WORK, 'build_compiled' if compiled else 'build')
    prefix = os.path.join(WORK, 'prefix_compiled' if compiled else 'prefix')
    run(['meson', 'setup', build, source(), *BARE, '--prefix', prefix, '-Doptimization=0', '-Ddebug=false',
         f'-Dcompiled={str(compiled).lower()}'], WORK)
    run(['ninja', '-C', build, '-j1', 'install'], WORK)
    return prefix


def project(folder, name):
    """A copy of the project of this name, with the program in it."""
    shutil.copytree(os.path.join(HERE, name), folder, dirs_exist_ok=True)
    shutil.copy(os.path.join(HERE, 'program.cpp'), folder)


def works(folder):
    said = run([os.path.join(folder, 'program')], folder)
    if not re.search(r'cohort ([0-9.]+) of package \1: the child exited with 3', said):
        raise Failed(said)
