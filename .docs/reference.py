# SPDX-License-Identifier: BSL-1.0
"""Makes the reference, from the comments of the headers, by Doxygen: reference.py OUTPUT [DOXYGEN]

Ends with 1, and names each place, where a comment is wrong (a warning of Doxygen's), where it names a header that is not
there, and where a class, struct, enum or free function of the public headers has no comment. Members may have none.
"""
import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(os.path.dirname(HERE), 'include')

# Of Doxygen 1.9: it takes our alias of a namespace for a circle, and knows no class that another library declares.
HARMLESS = re.compile(r'possible recursive namespace alias|Internal inconsistency: scope for class (cohort::asio|std|fmt)::')


def run_doxygen(program, output):
    """Returns its warnings."""
    settings = [f'INPUT = {INCLUDE}/cohort', f'STRIP_FROM_PATH = {INCLUDE}', f'OUTPUT_DIRECTORY = {output}']
    with open(os.path.join(HERE, 'Doxyfile'), encoding='utf-8') as file:
        configuration = file.read() + '\n'.join(settings) + '\n'
    for folder in 'html', 'xml':  # nothing stays of what is not there any more
        shutil.rmtree(os.path.join(output, folder), ignore_errors=True)
    os.makedirs(output, exist_ok=True)
    done = subprocess.run([program, '-'], input=configuration, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line and not HARMLESS.search(line)]
    return lines + ([f'{program} has ended with {done.returncode}'] if done.returncode else [])


def has_text(element):
    return any(''.join(each.itertext()).strip() for name in ('briefdescription', 'detaileddescription')
               for each in element.findall(name))


def place(element):
    where = element.find('location')
    return f'{where.get("file")}:{where.get("line")}' if where is not None else '?'


def undocumented(xml):
    """What has no comment. Of functions of one name, one comment speaks for all."""
    functions = {}
    for name in sorted(os.listdir(xml)):
        if not re.match(r'(class|struct|namespace)', name):
            continue
        compound = ElementTree.parse(os.path.join(xml, name)).getroot().find('compounddef')
        scope = compound.findtext('compoundname')
        if 'detail' in scope or not scope.startswith('cohort'):
            continue
        if compound.get('kind') != 'namespace':
            nested = compound.get('prot') != 'public' or '<' in scope  # or a specialization
            if not nested and not has_text(compound):
                yield f'{place(compound)}: {compound.get("kind")} {scope} has no comment'
            continue
        for member in compound.iter('memberdef'):
            key = f'{scope}::{member.findtext("name")}'
            if member.get('kind') == 'enum' and not has_text(member):
                yield f'{place(member)}: enum {key} has no comment'
            if member.get('kind') == 'function' and not member.findtext('name').startswith('operator'):
                functions.setdefault(key, []).append(member)
    for key, overloads in functions.items():
        if not any(map(has_text, overloads)):
            yield f'{place(overloads[0])}: function {key} has no comment'


def stale_headers():
    """Comments that name a header which is not there."""
    headers = [os.path.relpath(os.path.join(folder, name), os.path.join(INCLUDE, 'cohort'))
               for folder, _, names in os.walk(INCLUDE) for name in names]
    for header in sorted(headers):
        with open(os.path.join(INCLUDE, 'cohort', header), encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                comment = line.partition('//')[2]
                for named in re.findall(r'(?<![\w<./*-])(?:cohort/)?([a-z_/]+\.[hi]pp)\b(?!\.)', comment):
                    if not any(('/' + each).endswith('/' + named) for each in headers):
                        yield f'{header}:{number}: there is no {named}'


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    output = os.path.abspath(sys.argv[1])
    wrong = run_doxygen(sys.argv[2] if len(sys.argv) > 2 else 'doxygen', output)
    wrong += undocumented(os.path.join(output, 'xml'))
    wrong += stale_headers()
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f'the reference: {len(wrong)} comments are wrong or missing')
    print(f'the reference is {os.path.join(output, "html", "index.html")}')


main()
