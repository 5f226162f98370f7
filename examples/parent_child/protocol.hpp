// SPDX-License-Identifier: BSL-1.0
// What parent and child say to each other.
#pragma once

#include <cstdint>
#include <variant>

struct job {
  std::uint64_t from;
  std::uint64_t to;
};

struct stop {};

struct result {
  double sum;
};

struct protocol {
  using to_child = std::variant<job, stop>;
  using to_parent = result;
};
