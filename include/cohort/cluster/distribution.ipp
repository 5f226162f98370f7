// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "distribution.hpp"

#include "../core/config.hpp"

#include <fmt/format.h>

#include "../core/error.hpp"

namespace cohort {

COHORT_INLINE std::string_view to_string(distribution how) noexcept {
  switch (how) {
    case distribution::round_robin: return "round_robin";
    case distribution::least_connections: return "least_connections";
    case distribution::by_address: return "by_address";
    case distribution::custom: return "custom";
    case distribution::shared: return "shared";
    case distribution::reuse_port: return "reuse_port";
  }
  return "unknown";
}

COHORT_INLINE distribution parse_distribution(std::string_view name) {
  for (const auto each : {distribution::round_robin, distribution::least_connections, distribution::by_address,
                          distribution::custom, distribution::shared, distribution::reuse_port}) {
    if (to_string(each) == name) return each;
  }
  throw_error(fmt::format("distribution: unknown: {}", name), errc::invalid_option);
}

}  // namespace cohort
