// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cohort {

/// What the processes of a cluster have counted (worker::counter), added up; those that are gone stay in it. A total
/// only grows, whatever a process says, and there are so many names and no more (counter::most).
///
/// Distinct objects: safe. Shared objects: unsafe.
class counter_totals {
 public:
  /// What one process has said before, by the numbers of the names. It belongs to one counter_totals.
  using said = std::vector<std::uint64_t>;

  /// A process says what it has counted under a name since it was started. False if that is ignored: there may be no
  /// such name, or no further one; it is less than before; or it is more than the total can take.
  bool take(said& before, std::string_view name, std::uint64_t value);

  std::map<std::string, std::uint64_t> all() const;

 private:
  struct total {
    std::size_t number = 0;
    std::uint64_t value = 0;
  };

  std::map<std::string, total, std::less<>> totals_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "counter_totals.ipp"
#endif
