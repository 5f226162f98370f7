// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "schema.hpp"

#include "../../core/config.hpp"

#include <algorithm>

#include "../../core/error.hpp"
#include "../transport/frame.hpp"

namespace cohort {

COHORT_INLINE hello make_hello(const message_table& out, const message_table& in, std::uint32_t max_message) {
  // with each name go its length and the fingerprint, and in front of all the other members
  const std::size_t room = (wire::max_frame - 64) / (out.names.size() + in.names.size()) - 12;
  const std::size_t longest = std::min(room, max_announced_name);
  hello mine;
  mine.max_message = max_message;
  for (std::size_t i = 0; i < out.names.size(); ++i) {
    mine.sends.push_back({out.fingerprints[i], std::string(out.names[i].substr(0, longest))});
  }
  for (std::size_t i = 0; i < in.names.size(); ++i) {
    mine.understands.push_back({in.fingerprints[i], std::string(in.names[i].substr(0, longest))});
  }
  return mine;
}

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

namespace detail {

[[noreturn]] COHORT_INLINE void fail_single(const char* we_do, std::string_view ours, const char* they_do,
                                            const announced& theirs) {
  std::string text = std::string("channel: this side ").append(we_do).append(" ").append(ours);
  text.append(", the peer ").append(they_do).append(" ");
  text.append(theirs.name == ours.substr(0, max_announced_name) ? "one of another shape: its members differ"
                                                                : theirs.name);
  throw_error(text, errc::schema_mismatch);
}

}  // namespace detail

COHORT_INLINE negotiation negotiate(const message_table& out, const message_table& in, const hello& theirs) {
  negotiation result;
  result.incoming.reserve(theirs.sends.size());
  for (const announced& sent : theirs.sends) {
    int ours = -1;
    for (std::size_t i = 0; i < in.fingerprints.size(); ++i) {
      if (in.fingerprints[i] == sent.fingerprint) ours = static_cast<int>(i);
    }
    if (in.is_single && theirs.sends.size() == 1 && ours < 0) {
      detail::fail_single("receives", in.names[0], "sends", sent);
    }
    result.incoming.push_back(ours);
  }
  result.outgoing.assign(out.fingerprints.size(), false);
  for (std::size_t i = 0; i < out.fingerprints.size(); ++i) {
    for (const announced& known : theirs.understands) {
      if (known.fingerprint == out.fingerprints[i]) result.outgoing[i] = true;
    }
    if (out.is_single && theirs.understands.size() == 1 && !result.outgoing[i]) {
      detail::fail_single("sends", out.names[0], "receives", theirs.understands[0]);
    }
  }
  return result;
}

}  // namespace cohort
