// SPDX-License-Identifier: BSL-1.0
/// The one place of the library that names nlohmann-json. Only the headers of this folder and of cluster/node include
/// it.
#pragma once

#if !__has_include(<nlohmann/json.hpp>)
#error "cohort/ipc/node needs nlohmann-json (Debian: nlohmann-json3-dev)"
#endif

#include <nlohmann/json.hpp>

namespace cohort {

/// A JSON value. Members of an object are sorted by name: JavaScript tells their order, but nothing on this wire
/// depends on it.
using json = nlohmann::json;

}  // namespace cohort
