// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "inbox.hpp"

#include "../../core/config.hpp"

#include <array>
#include <iterator>

namespace cohort::detail {

COHORT_INLINE void inbox::drop(stored& message) {
  stored_bytes_ -= message.size;
  --stored_;
  if (message.parcel) parcel_handles_ -= message.parcel->handles.size();
  if (message.home) {
    release(*message.home);
  } else if (message.whole.capacity() <= kept_assembly && message.whole.capacity() > assembly_.spare.capacity()) {
    assembly_.spare = std::move(message.whole);
  }
  message.whole = byte_buffer();
  message.parcel.reset();
}

COHORT_INLINE void inbox::pop_message() {
  stored& first = messages_.front();
  if (first.parcel) parcels_.remove(first.parcel->id);
  drop(first);
  messages_.pop_front();
}

COHORT_INLINE void inbox::drop_messages() {
  while (has_message()) pop_message();
  for (; !requests.empty(); requests.pop_front()) drop(requests.front());
}

COHORT_INLINE bool inbox::drop_request(std::uint64_t id) {
  stored* const found = requests.find(id);
  if (found == nullptr) return false;
  drop(*found);
  requests.remove(id);
  return true;
}

COHORT_INLINE void inbox::drop_parcel(std::uint64_t id) {
  const std::uint64_t* const found = parcels_.find(id);
  if (found == nullptr) return;
  const std::uint64_t number = *found;
  parcels_.remove(id);
  drop(*messages_.find(number));
  messages_.remove(number);
}

COHORT_INLINE void inbox::keep_lease(arrived_lease lease) {
  const std::size_t size = lease.message.size();
  leases_.push_back(lease.id, std::move(lease));
  stored_bytes_ += size;
  ++stored_;
}

COHORT_INLINE arrived_lease inbox::pop_lease() {
  arrived_lease first = std::move(leases_.front());
  leases_.pop_front();
  stored_bytes_ -= first.message.size();
  --stored_;
  return first;
}

COHORT_INLINE void inbox::drop_lease(std::uint64_t id) {
  const arrived_lease* const found = leases_.find(id);
  if (found == nullptr) return;
  stored_bytes_ -= found->message.size();
  --stored_;
  leases_.remove(id);
}

COHORT_INLINE void inbox::drop_handles() {
  drop_unclaimed();
  drop_leases([](std::uint64_t) {});
  while (!parcels_.empty()) {
    const std::uint64_t number = parcels_.front();
    parcels_.pop_front();
    drop(*messages_.find(number));
    messages_.remove(number);
  }
}

COHORT_INLINE void inbox::drop_unclaimed() {
  batches_.clear();
  announced_.clear();
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

COHORT_INLINE void inbox::store(const stored& message) {
  if (message.home) ++message.home->live;
  stored_bytes_ += message.size;
  ++stored_;
  if (message.parcel) parcel_handles_ += message.parcel->handles.size();
}

COHORT_INLINE void inbox::keep_message(stored message) {
  store(message);
  ++came_;
  if (message.parcel) parcels_.push_back(message.parcel->id, came_);
  messages_.push_back(came_, std::move(message));
}

COHORT_INLINE void inbox::keep_request(std::uint64_t id, stored message) {
  last_request_ = check_rising(id, last_request_, "call");
  ++not_cancelled_;
  store(message);
  requests.push_back(id, std::move(message));
}

COHORT_INLINE void inbox::count_cancel(std::uint64_t id) {
  check_seen(id, last_request_, "call");
  if (not_cancelled_ == 0) malformed("more cancellations than calls");
  --not_cancelled_;
}

COHORT_INLINE std::uint64_t inbox::check_rising(std::uint64_t id, std::uint64_t last, const char* what) {
  if (id > last) return id;
  malformed(std::string(what) + " of number " + std::to_string(id) + " after " + std::to_string(last));
}

COHORT_INLINE std::uint64_t inbox::check_seen(std::uint64_t id, std::uint64_t last, const char* what) {
  if (id != 0 && id <= last) return id;
  malformed(std::string(what) + " taken back that was not sent");
}

COHORT_INLINE descriptor inbox::take_announced() {
  if (announced_.empty()) malformed("handle without a descriptor");
  descriptor taken = std::move(announced_.front());
  announced_.pop_front();
  return taken;
}

COHORT_INLINE descriptor inbox::take_ring() {
  if (batches_.empty()) malformed("a ring without memory");
  batch arrived = std::move(batches_.front());
  batches_.pop_front();
  if (arrived.truncated) throw_error("receive: no descriptor is free for the peer's ring", errc::handle_lost);
  if (arrived.handles.size() != 1) malformed("a ring of " + std::to_string(arrived.handles.size()) + " descriptors");
  return std::move(arrived.handles.front());
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
