// SPDX-License-Identifier: BSL-1.0
// What parent and children say to each other.
#pragma once

#include <variant>

/// With an acceptor: accept on it too.
struct share {};

/// With an accepted socket: answer it.
struct take {};

/// A connection has been answered.
struct answered {};

struct protocol {
  using to_child = std::variant<share, take>;
  using to_parent = answered;
};
