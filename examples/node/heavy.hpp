// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

// What server.js says in JSON: {"id": 1, "below": 1000}, and the answer {"id": 1, "count": 168}.

struct count_primes {
  std::uint32_t id = 0, below = 0;
};

struct primes {
  std::uint32_t id = 0, count = 0;
};

struct protocol {
  using to_child = count_primes;
  using to_parent = primes;
};
