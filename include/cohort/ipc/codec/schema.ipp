// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "schema.hpp"

#include "../../core/config.hpp"

namespace cohort {

COHORT_INLINE hello decode_hello(const char* data, std::size_t size) {
  const auto version = reader(data, size).get<std::uint16_t>();
  if (version != wire_version) {
    throw_error("channel: the peer speaks wire version " + std::to_string(version) + ", this side " +
                    std::to_string(wire_version),
                errc::schema_mismatch);
  }
  hello theirs = decode<hello>(data, size);
  for (const auto* list : {&theirs.sends, &theirs.understands}) {
    if (list->size() > max_announced) {
      throw_error("hello: " + std::to_string(list->size()) + " message types", errc::malformed);
    }
    for (const announced& each : *list) {
      if (each.name.size() > max_announced_name) {
        throw_error("hello: name of " + std::to_string(each.name.size()) + " bytes", errc::malformed);
      }
    }
  }
  return theirs;
}

}  // namespace cohort
