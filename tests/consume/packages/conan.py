# SPDX-License-Identifier: BSL-1.0
"""Plays Conan 2 for the recipe, where there is none: conan.py CONANFILE FOLDER

Exports the sources, builds and packages the header-only package in FOLDER, and prints the version and the targets.
"""
import importlib.util
import os
import shutil
import subprocess
import sys
import types


class Anything:
    """What the recipe makes of a class of Conan, and what this does not play."""
    def __init__(self, *_):
        self.project_options = {}
        OPTIONS.append(self.project_options)

    def generate(self):
        pass


class Meson:
    def __init__(self, recipe):
        self.recipe = recipe

    def configure(self):
        options = [f'-D{key}={str(value).lower()}' for each in OPTIONS for key, value in each.items()]
        subprocess.run(['meson', 'setup', self.recipe.build_folder, self.recipe.source_folder, *options,
                        '--prefix', self.recipe.package_folder, '--libdir', 'lib'], check=True)

    def build(self):
        subprocess.run(['ninja', '-C', self.recipe.build_folder, '-j1'], check=True)

    def install(self):
        subprocess.run(['ninja', '-C', self.recipe.build_folder, 'install'], check=True)


class Component:
    def __init__(self):
        self.properties = {}

    def set_property(self, name, value):
        self.properties[name] = value


class Info:
    def __init__(self):
        self.components = {}

    def __getitem__(self, name):
        return self.components.setdefault(name, Component())


class Options(dict):
    __getattr__ = dict.__getitem__


class ConanFile:
    def __init__(self):
        self.options = Options(self.default_options)
        self.settings = types.SimpleNamespace(os='Linux')
        self.cpp_info = types.SimpleNamespace(components=Info())
        self.required = []

    def requires(self, what, **_):
        self.required.append(what)

    tool_requires = requires


def copy(_, pattern, source, into):
    """Conan's: the pattern is of paths below the source."""
    where = os.path.join(source, pattern.removesuffix('/*'))
    to = os.path.join(into, pattern.removesuffix('/*'))
    if os.path.isdir(where):
        shutil.copytree(where, to)
    else:
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(where, to)


def load(_, path):
    with open(path, encoding='utf-8') as file:
        return file.read()


OPTIONS = []
MODULES = {
    'conan': {'ConanFile': ConanFile},
    'conan.errors': {'ConanInvalidConfiguration': Exception},
    'conan.tools': {},
    'conan.tools.build': {'check_min_cppstd': lambda *_: None},
    'conan.tools.files': {'copy': copy, 'load': load, 'rmdir': lambda _, path: shutil.rmtree(path)},
    'conan.tools.gnu': {'PkgConfigDeps': Anything},
    'conan.tools.layout': {'basic_layout': lambda *_, **__: None},
    'conan.tools.meson': {'Meson': Meson, 'MesonToolchain': Anything},
}


def main():
    conanfile, folder = sys.argv[1:]
    for name, members in MODULES.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(members)
    loaded = importlib.util.spec_from_file_location('conanfile', conanfile)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    recipe = module.CohortConan()
    recipe.recipe_folder = os.path.dirname(conanfile)
    recipe.export_sources_folder = recipe.source_folder = os.path.join(folder, 'sources')
    recipe.build_folder = os.path.join(folder, 'build')
    recipe.package_folder = os.path.join(folder, 'package')
    for step in ('set_version', 'export_sources', 'configure', 'layout', 'requirements', 'build_requirements',
                 'validate', 'generate', 'build', 'package', 'package_info'):
        getattr(recipe, step)()
    print('requires', *recipe.required)
    for component in recipe.cpp_info.components.components.values():
        print('target', component.properties['cmake_target_name'])
    print('the recipe packages version', recipe.version)


main()
