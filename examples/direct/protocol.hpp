// SPDX-License-Identifier: BSL-1.0
// What parent and children say to each other, and what the children say among themselves.
#pragma once

#include <cstdint>
#include <string>

#include <cohort/ipc/handle.hpp>

/// From the parent: the end of a channel, whose other end another child gets.
struct introduction {
  std::string name;  // of that child
  cohort::handle<cohort::descriptor> channel;
};

/// To the parent: what a child has done.
struct report {
  std::uint32_t sent = 0;
  std::uint32_t received = 0;
};

struct protocol {
  using to_child = introduction;
  using to_parent = report;
};

/// Between the children, both ways.
struct ball {
  std::uint32_t number = 0;
};
