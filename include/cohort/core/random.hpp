// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <random>

namespace cohort::detail {

/// The random numbers of this thread: for choices and jitter, not for secrets.
inline std::minstd_rand& random_engine() {
  static thread_local std::minstd_rand engine{std::random_device{}()};
  return engine;
}

/// In [0, 1).
inline double random_fraction() { return std::uniform_real_distribution<double>(0, 1)(random_engine()); }

/// In [0, size).
inline std::size_t random_index(std::size_t size) {
  return std::uniform_int_distribution<std::size_t>(0, size - 1)(random_engine());
}

}  // namespace cohort::detail
