// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "counter_set.hpp"

#include <fmt/format.h>

#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/text_of.hpp"

namespace cohort::detail {

COHORT_INLINE counter& counter_set::named(std::string_view name) {
  const auto at = all_.find(name);
  if (at != all_.end()) return at->second.here;
  const auto refuse = [name](std::string_view why) {
    throw_error(fmt::format("counter \"{}\": {}", one_line(std::string(name)), why), errc::invalid_option);
  };
  if (!counter::is_name(name)) {
    refuse(fmt::format("want letters, digits and _, no digit first, at most {} bytes", counter::max_name));
  }
  if (all_.size() >= counter::most) refuse(fmt::format("there are {} already", counter::most));
  return all_[std::string(name)].here;
}

}  // namespace cohort::detail
