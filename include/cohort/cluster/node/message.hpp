// SPDX-License-Identifier: BSL-1.0
/// Reading and making messages of Node's cluster protocol, whoever they come from: nothing in them is to be trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "../../ipc/node/json.hpp"

namespace cohort::node_cluster::detail {

/// A member of an object; null if there is none.
inline const json& member_of(const json& message, const char* name) {
  static const json none;
  const auto at = message.find(name);
  return at == message.end() ? none : *at;
}

/// A number that names a message; none if there is not one.
inline std::optional<std::uint64_t> number_in(const json& message, const char* name) {
  const json& value = member_of(message, name);
  if (!value.is_number_integer() || value < 0) return std::nullopt;
  return value.get<std::uint64_t>();
}

inline std::string text_in(const json& message, const char* name) {
  const json& value = member_of(message, name);
  return value.is_string() ? value.get<std::string>() : std::string();
}

/// Makes these fields a message with the next number of its sender.
inline json cluster_message(json fields, std::uint64_t& next_number) {
  fields["cmd"] = "NODE_CLUSTER";
  fields["seq"] = next_number++;
  return fields;
}

}  // namespace cohort::node_cluster::detail
