// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "unclaimed_handles.hpp"

#include "../../core/config.hpp"

#include <array>
#include <cstring>
#include <iterator>
#include <utility>

#include "../../core/error.hpp"
#include "frame.hpp"

namespace cohort::detail {

COHORT_INLINE void unclaimed_handles::malformed(const std::string& what) {
  throw_error("receive: " + what, errc::malformed);
}

COHORT_INLINE bool unclaimed_handles::take_from(msghdr& message) {
  const bool truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  if (CMSG_FIRSTHDR(&message) == nullptr && !truncated) return false;
  std::array<descriptor, wire::max_handles> here;  // at once: what needs memory may fail
  std::size_t came = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      here.at(came++).reset(fd);
    }
  }
  if (came == 0 && !truncated) return false;
  batch& arrived = batches_.emplace_back();
  arrived.truncated = truncated;
  arrived.handles.assign(std::make_move_iterator(here.begin()),
                         std::make_move_iterator(here.begin() + static_cast<std::ptrdiff_t>(came)));
  return true;
}

COHORT_INLINE descriptor unclaimed_handles::next() {
  if (announced_.empty()) malformed("handle without a descriptor");
  descriptor taken = std::move(announced_.front());
  announced_.pop_front();
  return taken;
}

COHORT_INLINE descriptor unclaimed_handles::ring() {
  if (batches_.empty()) malformed("a ring without memory");
  batch arrived = std::move(batches_.front());
  batches_.pop_front();
  if (arrived.truncated) throw_error("receive: no descriptor is free for the peer's ring", errc::handle_lost);
  if (arrived.handles.size() != 1) malformed("a ring of " + std::to_string(arrived.handles.size()) + " descriptors");
  return std::move(arrived.handles.front());
}

COHORT_INLINE void unclaimed_handles::announce(std::size_t count) {
  if (batches_.empty() || !announced_.empty()) malformed("descriptors announced that did not come");
  batch arrived = std::move(batches_.front());
  batches_.pop_front();
  if (arrived.handles.size() > count || (arrived.handles.size() < count && !arrived.truncated)) {
    malformed(std::to_string(count) + " descriptors announced, " + std::to_string(arrived.handles.size()) + " came");
  }
  for (auto& each : arrived.handles) announced_.push_back(std::move(each));
  announced_.resize(count);  // the lost ones are none
}

}  // namespace cohort::detail
