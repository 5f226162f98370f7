# SPDX-License-Identifier: BSL-1.0
# shellcheck shell=bash
# What the scripts `run` in tests/, examples/, bench/ and here share. To be sourced from the project's root.

stop() {
  echo "$0: $*" >&2
  exit 1
}

# has_package PACKAGE: whether what the package brings is there, wherever it comes from.
has_package() {
  case $1 in
    ninja-build) command -v ninja ;;
    libasio-dev) has_header asio/version.hpp ;;
    libboost-dev) has_header boost/asio.hpp && echo '#if BOOST_VERSION < 108100
#error
#endif' | c++ -E -x c++ -include boost/version.hpp - ;;
    libfmt-dev) has_header fmt/core.h && pkg-config --exists fmt ;;
    doctest-dev) has_header doctest/doctest.h ;;
    libhttp-parser-dev) has_header http_parser.h ;;
    libhiredis-dev) has_header hiredis/async.h && pkg-config --exists hiredis ;;
    libwslay-dev) has_header wslay/wslay.h ;;
    libnghttp2-dev) has_header nghttp2/nghttp2.h && pkg-config --exists libnghttp2 ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp && pkg-config --exists nlohmann_json ;;
    libssl-dev) has_header openssl/ssl.h && pkg-config --exists 'openssl >= 3' ;;
    nodejs) command -v node || command -v nodejs ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

has_header() {
  echo "#include <$1>" | c++ -E -x c++ -
}

# Debian 12 has a newer Boost beside the one of that name, which is too old.
boost_package() {
  if apt-cache show libboost1.81-dev >/dev/null 2>&1; then echo libboost1.81-dev; else echo libboost-dev; fi
}

# need PACKAGE…: installs those that are missing.
need() {
  local package missing=() as_root=()
  for package in "$@"; do
    has_package "$package" && continue
    [ "$package" != libboost-dev ] || package=$(boost_package)
    missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || stop "missing, and there is no apt-get to install them: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || stop "missing: ${missing[*]}; install them as root, or allow sudo without a password"
    as_root=(sudo -n)
  fi
  echo "installing: ${missing[*]}"
  # An update that fails may still leave a usable index.
  "${as_root[@]}" apt-get update -q || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" ||
    stop "apt-get could not install: ${missing[*]}"
}

# want PACKAGE…: the same, but goes on without those that cannot be installed.
want() {
  (need "$@") || echo "going on without what these are for: $*"
}

# configure DIRECTORY OPTION…: makes a build directory, or brings it up to date.
configure() {
  if [ -f "$1/build.ninja" ]; then
    meson setup --reconfigure "$@" && return
    rm -rf "$1"
  fi
  meson setup "$@"
}
