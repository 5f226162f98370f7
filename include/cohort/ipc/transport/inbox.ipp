// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "inbox.hpp"

#include "../../core/config.hpp"

namespace cohort::detail {

COHORT_INLINE void inbox::drop(stored& message) {
  stored_bytes_ -= message.size;
  if (message.home) {
    release(*message.home);
  } else if (message.whole.capacity() <= kept_assembly && message.whole.capacity() > assembly_.spare.capacity()) {
    assembly_.spare = std::move(message.whole);
  }
  message.whole = byte_buffer();
  message.parcel.reset();
}

COHORT_INLINE void inbox::pop_message() {
  drop(messages_.front());
  messages_.pop_front();
}

COHORT_INLINE void inbox::drop_messages() {
  while (has_message()) pop_message();
  for (; !requests.empty(); requests.pop_front()) drop(requests.front());
}

COHORT_INLINE bool inbox::drop_request(std::uint64_t id) {
  const auto at = std::find_if(requests.begin(), requests.end(),
                               [id](const stored& each) { return wire::load(each.data + 2, 8) == id; });
  if (at == requests.end()) return false;
  drop(*at);
  requests.erase(at);
  return true;
}

COHORT_INLINE void inbox::drop_parcel(std::uint64_t id) {
  const auto at = std::find_if(messages_.begin(), messages_.end(),
                               [id](const stored& each) { return each.parcel && each.parcel->id == id; });
  if (at == messages_.end()) return;
  drop(*at);
  messages_.erase(at);
}

COHORT_INLINE bool inbox::is_torn() const noexcept {
  return assembly_.bytes.size() != 0 || assembly_.missing != 0 ||
         (!chunks_.empty() && chunks_.back()->parsed != chunks_.back()->filled);
}

COHORT_INLINE void inbox::too_large() const {
  throw_error("receive: message of more than " + std::to_string(max_message_) + " bytes", errc::message_too_large);
}

COHORT_INLINE iovec inbox::next_room() {
  if (assembly_.missing != 0) return {assembly_.bytes.data() + assembly_.bytes.size(), assembly_.missing};
  chunk& into = writable_chunk();
  std::size_t room = chunk_size - into.filled;
  if (assembly_.bytes.size() != 0)
    room = std::min(room, next_header);  // most of what follows it goes to the message, too
  return {into.data.get() + into.filled, room};
}

COHORT_INLINE inbox::chunk& inbox::writable_chunk() {
  if (!chunks_.empty()) {
    chunk& last = *chunks_.back();
    const std::size_t partial = last.filled - last.parsed;
    if (last.live == 0) {
      if (partial != 0 && last.parsed != 0) std::memmove(last.data.get(), last.data.get() + last.parsed, partial);
      last.parsed = 0;
      last.filled = partial;
      return last;
    }
    if (chunk_size - last.parsed >= wire::header_size + wire::max_frame) return last;
  }
  auto next = spare_ ? std::move(spare_) : std::make_unique<chunk>();
  next->parsed = next->filled = next->live = 0;
  if (!chunks_.empty()) {
    chunk& last = *chunks_.back();
    next->filled = last.filled - last.parsed;
    std::memcpy(next->data.get(), last.data.get() + last.parsed, next->filled);
    last.filled = last.parsed;
  }
  chunks_.push_back(std::move(next));
  return *chunks_.back();
}

COHORT_INLINE void inbox::release(chunk& home) {
  if (--home.live != 0 || &home == chunks_.back().get()) return;
  for (auto at = chunks_.begin(); at != chunks_.end(); ++at) {
    if (at->get() != &home) continue;
    spare_ = std::move(*at);
    chunks_.erase(at);
    return;
  }
}

COHORT_INLINE bool inbox::take_handles(msghdr& message) {
  const bool truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  batch arrived;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      arrived.handles.emplace_back(fd);
    }
  }
  if (arrived.handles.empty() && !truncated) return false;
  arrived.truncated = truncated;
  batches_.push_back(std::move(arrived));
  return true;
}

COHORT_INLINE void inbox::store(const stored& message) {
  if (message.home) ++message.home->live;
  stored_bytes_ += message.size;
}

COHORT_INLINE descriptor inbox::take_announced() {
  if (announced_.empty()) malformed("handle without a descriptor");
  descriptor taken = std::move(announced_.front());
  announced_.pop_front();
  return taken;
}

COHORT_INLINE void inbox::announce(std::size_t count) {
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
