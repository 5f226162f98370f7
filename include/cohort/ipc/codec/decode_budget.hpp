// SPDX-License-Identifier: BSL-1.0
/// What decoding may cost, in proportion to the bytes that came: see decode_budget and probe_budget.
#pragma once

#include <cstddef>

namespace cohort {

/// How many bytes of memory a message may take for each byte of its encoding, beyond the first MiB. A vector of empty
/// strings takes 8, a set of 16-bit numbers 24, a vector of structs of 20 empty optional strings 40.
inline constexpr std::size_t max_expansion = 64;

namespace detail {

[[noreturn, gnu::cold]] void fail_budget(std::size_t wanted, std::size_t left);
[[noreturn, gnu::cold]] void fail_probes();

/// Memory that the containers of one message may take. Without it, a byte that says "an empty optional" would take as
/// much memory as the largest value that could have come.
class decode_budget {
 public:
  static constexpr std::size_t for_any = 1024 * 1024;

  explicit decode_budget(std::size_t encoded) noexcept : left_(encoded * max_expansion + for_any) {}

  /// Throws errc::malformed when the message takes more than it may; to be called before the memory is taken.
  void take(std::size_t bytes) {
    if (bytes > left_) [[unlikely]]
      fail_budget(bytes, left_);
    left_ -= bytes;
  }

 private:
  std::size_t left_;
};

/// Steps from one element of a hash table to the next in the same bucket, while the table is filled. A peer that knows
/// the hash function can choose keys that all fall into one bucket, where each is compared with all before it. This
/// ends the decoding before it takes much longer than other keys would. Keys that nobody has chosen need about one
/// step.
class probe_budget {
 public:
  explicit probe_budget(std::size_t elements) noexcept : left_(32 * elements + 64 * 1024) {}

  /// Throws errc::malformed.
  void take(std::size_t steps) {
    if (steps > left_) [[unlikely]]
      fail_probes();
    left_ -= steps;
  }

 private:
  std::size_t left_;
};

}  // namespace detail
}  // namespace cohort
