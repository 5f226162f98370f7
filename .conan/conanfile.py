# SPDX-License-Identifier: BSL-1.0
"""The recipe for Conan 2: `conan create .conan` builds the checkout that this folder lies in."""
import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load, rmdir
from conan.tools.gnu import PkgConfigDeps
from conan.tools.layout import basic_layout
from conan.tools.meson import Meson, MesonToolchain

required_conan_version = ">=2.0"


class CohortConan(ConanFile):
    name = "cohort"
    description = "Coroutine toolkit on Asio for servers made of several processes"
    license = "BSL-1.0"
    topics = ("asio", "coroutines", "process", "ipc", "cluster")
    package_type = "static-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"compiled": [True, False]}
    default_options = {"compiled": False}
    languages = "C++"

    @property
    def _root(self):
        return os.path.dirname(self.recipe_folder)

    def set_version(self):
        text = load(self, os.path.join(self._root, "meson.build"))
        self.version = re.search(r"version: '([0-9.]+)'", text)[1]

    def export_sources(self):
        for each in "meson.build", "meson_options.txt", "LICENSE", "include/*", ".cmake/*":
            copy(self, each, self._root, self.export_sources_folder)

    def configure(self):
        if not self.options.compiled:
            self.package_type = "header-library"

    def layout(self):
        basic_layout(self, src_folder=".")

    def requirements(self):
        self.requires("asio/[>=1.22 <2]", transitive_headers=True)
        self.requires("fmt/[>=9]", transitive_headers=True, transitive_libs=True)

    def build_requirements(self):
        self.tool_requires("meson/[>=1.0 <2]")
        self.tool_requires("pkgconf/[>=2.0 <3]")

    def package_id(self):
        if not self.options.compiled:
            self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("cohort needs Linux")

    def generate(self):
        PkgConfigDeps(self).generate()
        toolchain = MesonToolchain(self)
        toolchain.project_options["compiled"] = bool(self.options.compiled)
        for each in "tests", "examples", "bench":
            toolchain.project_options[each] = "disabled"
        toolchain.generate()

    def build(self):
        meson = Meson(self)
        meson.configure()
        meson.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        Meson(self).install()
        rmdir(self, os.path.join(self.package_folder, "share"))  # Conan makes such files itself

    def package_info(self):
        headers = self.cpp_info.components["headers"]
        headers.set_property("cmake_target_name", "cohort::cohort")
        headers.set_property("pkg_config_name", "cohort")
        headers.requires = ["asio::asio", "fmt::fmt"]
        headers.system_libs = ["pthread"]
        headers.bindirs = headers.libdirs = []
        if self.options.compiled:
            library = self.cpp_info.components["compiled"]
            library.set_property("cmake_target_name", "cohort::compiled")
            library.set_property("pkg_config_name", "cohort-compiled")
            library.requires = ["headers"]
            library.libs = ["cohort"]
            library.defines = ["COHORT_SEPARATE_COMPILATION"]
