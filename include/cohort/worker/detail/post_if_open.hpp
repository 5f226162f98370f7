// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <system_error>

namespace cohort::detail {

/// Posts a message, and does not mind if the channel is closed or the peer is gone. False if it was not queued.
template <class Channel, class M>
bool post_if_open(Channel& to, const M& message) {
  if (!to.is_open()) return false;
  try {
    return to.post(message);
  } catch (const std::system_error&) {
    return false;
  }
}

}  // namespace cohort::detail
