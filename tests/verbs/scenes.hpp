// SPDX-License-Identifier: BSL-1.0
/// The main scenes of the library, for verbs that try each of them with something refused to it.
#pragma once

#include <string>

#include "../../include/cohort/core/asio.hpp"

namespace cohort::test::scarce_verbs {

/// How many seconds a scene may take before it counts as hanging.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr unsigned patience_s = 60;
#else
inline constexpr unsigned patience_s = 20;
#endif

/// What tells a worker which of its requests for memory is refused, and which file to write when it has been.
inline constexpr const char* count_variable = "COHORT_TEST_SCARCE_COUNT";
inline constexpr const char* mark_variable = "COHORT_TEST_SCARCE_MARK";

/// The file of this case.
inline std::string mark;

struct scene {
  const char* name;
  asio::awaitable<void> (*run)();
  bool refuses_itself = false;  // in its own time or place; otherwise memory is refused from its beginning
};

/// Throws if there is no such scene.
const scene& scene_of(const std::string& name);

}  // namespace cohort::test::scarce_verbs
