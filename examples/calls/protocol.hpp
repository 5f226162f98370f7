// SPDX-License-Identifier: BSL-1.0
// What is asked, and what is answered.
#pragma once

#include <cstdint>
#include <variant>

/// How many primes are there below?
struct count_primes {
  std::uint32_t below;
};

struct primes {
  std::uint32_t count;
};

/// On the way to an answer.
struct progress {
  std::uint32_t percent;
};

struct protocol {
  using to_child = count_primes;
  using to_parent = std::variant<primes, progress>;
};
