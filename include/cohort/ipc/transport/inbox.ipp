// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "inbox.hpp"

#include "../../core/config.hpp"

#include <array>

namespace cohort::detail {

COHORT_INLINE void inbox::drop(stored& message) {
  stored_bytes_ -= message.size;
  --stored_;
  if (message.parcel) {
    parcel_handles_ -= message.parcel->handles.size();
    message.parcel.reset();
  }
  if (message.home) return release(*message.home);
  if (message.whole.capacity() <= kept_assembly && message.whole.capacity() > assembly_.spare.capacity()) {
    assembly_.spare = std::move(message.whole);
  }
  message.whole = byte_buffer();
}

COHORT_INLINE void inbox::pop_message() {
  landed_.reset();
  if (pop_of_several()) return;
  stored& first = messages_.front();
  if (first.parcel) parcels_.remove(first.parcel->id);
  drop(first);
  messages_.pop_front();
  if (messages_.empty()) last_end_ = nullptr;
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

COHORT_INLINE bool inbox::is_torn() const noexcept {
  return assembly_.size != 0 || assembly_.missing != 0 ||
         (!chunks_.empty() && chunks_.back()->parsed != chunks_.back()->filled);
}

COHORT_INLINE void inbox::too_large() const {
  throw_error("receive: message of more than " + std::to_string(max_message_) + " bytes", errc::message_too_large);
}

COHORT_INLINE std::size_t inbox::next_room(std::array<iovec, 3>& parts) {
  std::size_t count = 0;
  chunk& into = writable_chunk();
  if (assembly_.missing != 0) {
    const std::size_t landing_now = std::min(assembly_.missing, assembly_.part_missing());
    if (landing_now != 0) {
      if (assembly_.landed == assembly_.room) make_landing_room();
      const std::size_t size = std::min(landing_now, assembly_.room - assembly_.landed);
      parts[count++] = {const_cast<char*>(assembly_.part.data) + assembly_.landed, size};
      if (size < landing_now) return count;
    }
    if (const std::size_t rest = assembly_.missing - landing_now; rest != 0) {
      assembly_.bytes.reserve(rest);
      parts[count++] = {assembly_.bytes.data() + assembly_.bytes.size(), rest};
    }
  }
  std::size_t room = chunk_size - into.filled;
  const bool message_goes_elsewhere =
      assembly_.size != 0 || (landing_ != nullptr && expects_large_ && into.filled == into.parsed);
  if (message_goes_elsewhere) room = std::min(room, first_look);
  parts[count++] = {into.data.get() + into.filled, room};
  return count;
}

COHORT_INLINE std::size_t inbox::count_piece(std::size_t read) {
  const std::size_t size = std::min(read, assembly_.missing);
  if (size == 0) return read;
  const std::size_t landed = std::min(size, assembly_.part_missing());
  assembly_.landed += landed;
  assembly_.bytes.grow(size - landed);
  assembly_.size += size;
  assembly_.missing -= size;
  piece_ended_ = assembly_.missing == 0;
  return read - size;
}

COHORT_INLINE void inbox::put_piece(const char* from, std::size_t size) {
  while (size != 0) {
    // before the part, in it, and after it
    std::size_t step = assembly_.lands && assembly_.size < assembly_.part.offset
                           ? std::min(size, assembly_.part.offset - assembly_.size)
                           : size;
    char* to;
    if (assembly_.part_missing() != 0) {
      if (assembly_.landed == assembly_.room) make_landing_room();
      step = std::min({step, assembly_.part_missing(), assembly_.room - assembly_.landed});
      to = const_cast<char*>(assembly_.part.data) + assembly_.landed;
    } else {
      assembly_.bytes.reserve(step);
      to = assembly_.bytes.data() + assembly_.bytes.size();
    }
    std::memcpy(to, from, step);
    count_piece(step);
    from += step;
    size -= step;
  }
}

COHORT_INLINE bool inbox::lands(const wire::header& header, const char* payload, std::size_t here) const noexcept {
  if (landing_ == nullptr || !messages_.empty() || here < landing_->offset) return false;
  if (wire::load(payload, 2) != landing_->type) return false;
  const std::size_t size = wire::load(payload + landing_->offset - 4, 4) * landing_->each;
  if (size < borrowed_ranges::worth_it || landing_->offset + size > max_message_) return false;
  return header.kind == wire::kind::piece || landing_->offset + size <= header.size;
}

COHORT_INLINE void inbox::begin_message(bool lands, const char* payload) {
  assembly_.bytes = std::move(assembly_.spare);
  assembly_.bytes.clear();
  assembly_.lands = lands;
  expects_large_ = lands;
  if (!lands) return;
  const std::size_t count = wire::load(payload + landing_->offset - 4, 4);
  assembly_.part = {landing_->offset, nullptr, count * landing_->each};
  assembly_.landed = assembly_.room = 0;
}

COHORT_INLINE void inbox::make_landing_room() {
  const std::size_t count = assembly_.part.size / landing_->each;
  const std::size_t least = std::max(2 * assembly_.landed, 2 * std::size_t{wire::max_frame}) / landing_->each + 1;
  const landing::room made = landing_->resize(landing_->object, std::min(least, count), count);
  assembly_.part.data = made.data;
  assembly_.room = made.count * landing_->each;
}

COHORT_INLINE inbox::stored inbox::end_message() {
  if (assembly_.lands && assembly_.landed < assembly_.part.size) lift();  // and so malformed
  if (assembly_.lands) landed_ = assembly_.part;
  stored whole{nullptr, assembly_.size, 0, nullptr, std::move(assembly_.bytes), {}};
  assembly_.bytes = byte_buffer();
  assembly_.size = 0;
  assembly_.lands = false;
  whole.data = whole.whole.data();
  return whole;
}

COHORT_INLINE bool inbox::land(const landing& where) noexcept {
  if (landing_ != nullptr) return false;
  landing_ = &where;
  return true;
}

COHORT_INLINE void inbox::lift() {
  const auto whole = [](const byte_buffer& bytes, const outside_range& part) {
    byte_buffer result;
    const std::size_t before = std::min(part.offset, bytes.size());
    result.reserve(bytes.size() + part.size);
    std::memcpy(result.grow(before), bytes.data(), before);
    if (part.size != 0) std::memcpy(result.grow(part.size), part.data, part.size);
    const std::size_t after = bytes.size() - before;
    if (after != 0) std::memcpy(result.grow(after), bytes.data() + before, after);
    return result;
  };
  if (landed_) {
    stored& first = messages_.front();
    first.whole = whole(first.whole, *landed_);
    first.data = first.whole.data();
    landed_.reset();
  } else if (assembly_.lands) {
    assembly_.bytes = whole(assembly_.bytes, {assembly_.part.offset, assembly_.part.data, assembly_.landed});
    assembly_.lands = false;
  }
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

COHORT_INLINE void inbox::store(const stored& message) {
  if (message.home) ++message.home->live;
  stored_bytes_ += message.size;
  ++stored_;
  if (message.parcel) parcel_handles_ += message.parcel->handles.size();
}

COHORT_INLINE void inbox::keep_plain(chunk& home) {
  if (!greeted_ || said_goodbye_ || assembly_.size != 0) return;
  const char* const begin = home.data.get() + home.parsed;
  const char* const end = home.data.get() + home.filled;
  const std::size_t most = std::min<std::size_t>(max_message_, wire::max_frame);
  const char* at = begin;
  std::size_t count = 0;
  while (static_cast<std::size_t>(end - at) >= wire::header_size + 2) {
    const std::uint64_t header = wire::load(at, wire::header_size);
    const std::size_t size = header & 0xffffffff;
    if (header >> 32 != wire::plain_message || size < 2 || size > most) break;
    if (size > static_cast<std::size_t>(end - at) - wire::header_size) break;
    if (wire::load(at + wire::header_size, 2) >= wire::first_envelope) break;
    at += wire::header_size + size;
    ++count;
  }
  if (count == 0) return;
  if (last_end_ == begin && messages_.back().home == &home) {
    messages_.back().more += count;
  } else {
    const std::size_t first = wire::load(begin, 4);
    messages_.push_back(came_ + 1, stored{begin + wire::header_size, first, count - 1, &home, {}, {}});
    ++home.live;
  }
  last_end_ = at;
  came_ += count;
  stored_ += count;
  stored_bytes_ += static_cast<std::size_t>(at - begin) - count * wire::header_size;
  home.parsed += static_cast<std::size_t>(at - begin);
}

COHORT_INLINE void inbox::keep_message(stored message) {
  store(message);
  last_end_ = nullptr;
  if (message.home) expects_large_ = false;
  ++came_;
  if (message.parcel) parcels_.push_back(message.parcel->id, std::uint64_t{came_});
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

}  // namespace cohort::detail
