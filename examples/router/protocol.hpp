// SPDX-License-Identifier: BSL-1.0
// What the router and its workers say to each other.
#pragma once

#include <string>

/// With a connection: answer it. What the client has sent so far has been read, and stands here.
struct visit {
  std::string read;
};

/// A visit has been answered.
struct answered {};

struct protocol {
  using to_child = visit;
  using to_parent = answered;
};
