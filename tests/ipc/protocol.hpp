// SPDX-License-Identifier: BSL-1.0
/// What the tests of channels and their children say to each other.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

namespace cohort::test {

struct number {
  std::uint64_t value;
};

struct text {
  std::string value;
};

struct nothing {};

/// What the helper is to do; see tests/verbs/ipc.cpp.
struct order {
  std::string what;
  std::uint64_t count;
};

/// Everything but `order` comes back as it is.
struct talk {
  using to_child = std::variant<number, text, nothing, order>;
  using to_parent = std::variant<number, text, nothing>;
};

/// A single type in each direction.
struct sums {
  using to_child = text;
  using to_parent = number;
};

}  // namespace cohort::test
