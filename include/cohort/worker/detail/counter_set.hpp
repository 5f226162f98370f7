// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "../counter.hpp"

namespace cohort::detail {

/// The counters of a process, and what its primary knows of them. The parent_link owns it.
///
/// Distinct objects: safe. Shared objects: unsafe, but for the counters themselves.
class counter_set {
 public:
  /// See worker::counter().
  counter& named(std::string_view name);

  /// Calls `say(name, value)` for each counter that is new, or has another value than the last one that was said. It
  /// returns whether it has said so; if not, it is asked again the next time.
  template <class Say>
  void say_changes(Say say) {
    for (auto& [name, each] : all_) {
      const auto value = each.here.value();
      if (each.said != value && say(name, value)) each.said = value;
    }
  }

 private:
  struct entry {
    counter here;
    std::optional<std::uint64_t> said;
  };

  std::map<std::string, entry, std::less<>> all_;  // a map: references to counters stay what they are
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "counter_set.ipp"
#endif
