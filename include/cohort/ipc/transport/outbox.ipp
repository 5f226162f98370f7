// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "outbox.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

namespace cohort::detail {

COHORT_INLINE outbox::outbox() {
  // All that write() needs: it cannot fail for lack of memory, which nobody could be told.
  batch_.vectors.reserve(batch_vectors + 1);
  batch_.handles.reserve(wire::max_handles);
}

COHORT_INLINE void outbox::control(wire::kind kind, const void* payload, std::size_t size) {
  char* to = control_.grow(wire::header_size + size);
  wire::put_header(to, kind, static_cast<std::uint32_t>(size));
  std::memcpy(to + wire::header_size, payload, size);
  waiting_bytes_ += wire::header_size + size;
}

COHORT_INLINE outbox::ticket outbox::append(wire::kind kind, byte_buffer payload) {
  constexpr std::size_t worth_a_copy = 16 * 1024;
  const std::size_t size = payload.size();
  if (size <= worth_a_copy || kind != wire::kind::message) {
    return append(kind, [&](byte_buffer& run) {
      if (size != 0) std::memcpy(run.grow(size), payload.data(), size);
    });
  }
  return append(std::move(payload), {});
}

COHORT_INLINE outbox::ticket outbox::append(byte_buffer payload, std::vector<outside_range> parts) {
  segment& own = segments_.emplace_back();
  own.size = payload.size();
  for (const outside_range& each : parts) own.size += each.size;
  own.bytes = std::move(payload);
  own.parts = std::move(parts);
  own.large = true;
  waiting_bytes_ += own.size;
  return own.first = own.last = ++appended_;
}

COHORT_INLINE outbox::ticket outbox::append_handles(wire::kind kind, const byte_buffer& payload,
                                                    std::span<const int> fds) {
  if (!segments_.empty() && segments_.back().handles.size() + fds.size() > wire::max_handles) {
    segments_.back().sealed = true;
  }
  const ticket result =
      append(kind, [&](byte_buffer& run) { std::memcpy(run.grow(payload.size()), payload.data(), payload.size()); });
  segment& run = segments_.back();
  const std::size_t start = run.bytes.size() - payload.size() - wire::header_size;
  run.bytes.data()[start + 6] = static_cast<char>(fds.size());
  for (const int fd : fds) run.handles.emplace_back(start, fd);
  return result;
}

COHORT_INLINE bool outbox::withdraw(ticket which) {
  if (which <= begun_) return false;
  auto at = std::find_if(segments_.begin(), segments_.end(), [&](const segment& s) { return s.last >= which; });
  if (at == segments_.end()) return false;
  if (at->large) {
    waiting_bytes_ -= at->size;
    at->bytes = byte_buffer();
    at->parts.clear();
    at->dropped = true;
    return true;
  }
  // A frame in the middle of a run stays where it is, marked as nothing.
  std::size_t offset = 0;
  for (ticket each = at->first; each < which; ++each) {
    offset += wire::header_size + wire::get_header(at->bytes.data() + offset).size;
  }
  wire::put_header(at->bytes.data() + offset, wire::kind::withdrawn, wire::get_header(at->bytes.data() + offset).size);
  std::erase_if(at->handles, [&](const auto& entry) { return entry.first == offset; });
  return true;
}

COHORT_INLINE void outbox::keep(ticket which) {
  const auto at = std::find_if(segments_.begin(), segments_.end(), [&](const segment& s) { return s.last >= which; });
  if (at == segments_.end() || at->parts.empty()) return;
  const std::size_t gone = at->sent_before;  // of the message; what is in the batch may be with the kernel or not
  const auto left_of = [gone](const outside_range& part, std::size_t start) {
    return std::min(part.size, std::max(start + part.size, gone) - gone);
  };
  byte_buffer kept;
  std::size_t before = 0, needed = 0;
  for (const outside_range& each : at->parts) {
    needed += left_of(each, each.offset + before);
    before += each.size;
  }
  kept.reserve(needed);
  before = 0;
  for (outside_range& each : at->parts) {
    const std::size_t left = left_of(each, each.offset + before);
    const char* const from = each.data + (each.size - left);
    char* const to = kept.grow(left);
    if (left != 0) std::memcpy(to, from, left);
    for (std::size_t i = batch_.next; i < batch_.vectors.size(); ++i) {
      iovec& vector = batch_.vectors[i];
      const auto* const base = static_cast<const char*>(vector.iov_base);
      if (vector.iov_len != 0 && base >= from && base < from + left) vector.iov_base = to + (base - from);
    }
    before += each.size;
    each.data = to - (each.size - left);
  }
  at->kept = std::move(kept);
}

COHORT_INLINE bool outbox::has_lent() noexcept {
  return std::any_of(segments_.begin(), segments_.end(),
                     [](const segment& each) { return !each.parts.empty() && each.kept.empty(); });
}

COHORT_INLINE outbox::ticket outbox::mark() {
  if (control_.size() == 0 && batch_.control.size() == 0) return appended_;
  return append(wire::kind::withdrawn, byte_buffer());  // which goes behind the control lane, as all messages do
}

COHORT_INLINE outbox::outcome outbox::write(byte_transport& to) {
  std::size_t written = 0;
  for (;;) {
    if (batch_.next == batch_.vectors.size() && to.has_offer() && !to.send_offer()) return outcome_of(errno);
    if (!form_batch()) break;
    alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))];
    msghdr message{};
    message.msg_iov = batch_.vectors.data() + batch_.next;
    message.msg_iovlen = batch_.vectors.size() - batch_.next;
    if (!batch_.handles.empty()) put_handles(message, ancillary);
    const ssize_t sent = to.write(message);
    if (sent < 0) {
      const int error = errno;
      // Descriptors that the kernel has not taken may be withdrawn and closed by their owners.
      if (!batch_.handles.empty()) {
        dissolve_batch();
        if (is_about_handles(error)) {
          try {
            find_refused(error);
          } catch (const std::bad_alloc&) {
            return outcome::starved;
          }
          continue;
        }
      }
      return outcome_of(error);
    }
    batch_.handles.clear();
    advance(static_cast<std::size_t>(sent));
    written += static_cast<std::size_t>(sent);
    if (written >= turn_bytes && !empty()) return outcome::more;
  }
  one_at_a_time_ = false;
  return to.ring_due() ? outcome::done : outcome::starved;
}

COHORT_INLINE outbox::outcome outbox::outcome_of(int error) noexcept {
  errno = error;
  if (error == EAGAIN || error == EWOULDBLOCK) return outcome::blocked;
  if (error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM) return outcome::starved;
  return outcome::failed;
}

COHORT_INLINE bool outbox::is_about_handles(int error) noexcept {
  return error == EINVAL || error == EBADF || error == EPERM || error == EACCES || error == ELOOP ||
         error == EOPNOTSUPP;
}

COHORT_INLINE void outbox::find_refused(int error) {
  const auto has_handles = [](const segment& each) { return !each.handles.empty(); };
  const auto run = std::find_if(segments_.begin(), segments_.end(), has_handles);
  const bool one_message = run->handles.front().first == run->handles.back().first;
  if (one_at_a_time_ && one_message) {
    const ticket which = ticket_at(*run, run->handles.front().first);
    refused_.push_back(refused{which, error});
    withdraw(which);
    one_at_a_time_ = false;
    return;
  }
  if (!one_message) cut_behind_handles(run);
  one_at_a_time_ = true;
}

COHORT_INLINE void outbox::cut_behind_handles(fifo<segment>::iterator run) {
  const auto position = run - segments_.begin();
  const std::size_t frame = run->handles.front().first;
  const std::size_t end = frame + wire::header_size + wire::get_header(run->bytes.data() + frame).size;
  segment rest;
  const std::size_t size = run->bytes.size() - end;
  std::memcpy(rest.bytes.grow(size), run->bytes.data() + end, size);
  rest.first = ticket_at(*run, end);
  rest.last = run->last;
  for (const auto& [offset, fd] : run->handles) {
    if (offset >= end) rest.handles.emplace_back(offset - end, fd);
  }
  const ticket last = rest.first - 1;
  segments_.insert(run + 1, std::move(rest));
  segment& cut = *(segments_.begin() + position);
  cut.bytes.truncate(end);
  cut.last = last;
  std::erase_if(cut.handles, [end](const auto& each) { return each.first >= end; });
}

COHORT_INLINE outbox::ticket outbox::ticket_at(const segment& run, std::size_t offset) noexcept {
  ticket result = run.first;
  for (std::size_t at = 0; at < offset; ++result) {
    at += wire::header_size + wire::get_header(run.bytes.data() + at).size;
  }
  return result;
}

COHORT_INLINE outbox::segment& outbox::open_run() {
  if (segments_.empty() || segments_.back().large || segments_.back().sealed ||
      segments_.back().bytes.size() >= batch_bytes) {
    segments_.emplace_back();
    segments_.back().bytes = std::move(spare_);
    segments_.back().bytes.clear();
    segments_.back().first = appended_ + 1;
    segments_.back().last = appended_;
    spare_ = byte_buffer();
  }
  return segments_.back();
}

COHORT_INLINE void outbox::add(const void* data, std::size_t size) {
  batch_.vectors.push_back(iovec{const_cast<void*>(data), size});
  batch_.size += size;
}

COHORT_INLINE bool outbox::form_batch() {
  if (batch_.next < batch_.vectors.size()) return true;
  batch_.vectors.clear();
  batch_.next = 0;
  batch_.size = 0;
  batch_.last = completed_;
  batch_.begun_before = begun_;
  batch_.segments = 0;
  batch_.pieces = 0;

  batch_.vectors.push_back(iovec{});  // room for the frame that announces descriptors
  batch_.control.clear();
  std::swap(control_, batch_.control);
  if (batch_.control.size() != 0) add(batch_.control.data(), batch_.control.size());

  while (!segments_.empty() && segments_.front().dropped) {
    batch_.last = completed_ = segments_.front().last;
    segments_.pop_front();
  }
  for (segment& each : segments_) {
    if (batch_.size >= batch_bytes || batch_.vectors.size() + 2 > batch_vectors) break;
    if (each.dropped) {
      batch_.last = each.last;
    } else if (each.large) {
      if (!add_pieces(each)) break;
    } else {
      if (batch_.handles.size() + each.handles.size() > wire::max_handles) break;
      if (one_at_a_time_ && !batch_.handles.empty() && !each.handles.empty()) break;
      for (const auto& entry : each.handles) batch_.handles.push_back(entry.second);
      each.sealed = true;
      begun_ = batch_.last = each.last;
      if (each.bytes.size() != 0) add(each.bytes.data(), each.bytes.size());
    }
    ++batch_.segments;
  }

  if (!batch_.handles.empty()) {
    wire::put_header(batch_.announcement.data(), wire::kind::handles, 0,
                     static_cast<std::uint8_t>(batch_.handles.size()));
    batch_.vectors.front() = iovec{batch_.announcement.data(), batch_.announcement.size()};
  } else {
    batch_.next = 1;
  }
  if (batch_.next < batch_.vectors.size()) return true;
  finish_batch();
  return false;
}

COHORT_INLINE bool outbox::add_pieces(segment& large) {
  large.sent_before = large.sent;
  const std::size_t vectors = 2 + 2 * large.parts.size();  // for a piece, at most
  while (large.sent < large.size) {
    if (batch_.size >= batch_bytes || batch_.vectors.size() + vectors > batch_vectors ||
        batch_.pieces == batch_.headers.size())
      return false;
    begun_ = large.last;
    const std::size_t left = large.size - large.sent;
    const std::size_t size = std::min<std::size_t>(left, wire::max_frame);
    auto& header = batch_.headers[batch_.pieces++];
    wire::put_header(header.data(), size == left ? wire::kind::message : wire::kind::piece,
                     static_cast<std::uint32_t>(size));
    batch_.vectors.push_back(iovec{header.data(), header.size()});
    add_bytes(large, large.sent, size);
    large.sent += size;
  }
  batch_.last = large.last;
  return true;
}

COHORT_INLINE void outbox::add_bytes(const segment& large, std::size_t at, std::size_t size) {
  std::size_t before = 0;  // in parts
  for (const outside_range& each : large.parts) {
    const std::size_t start = each.offset + before, end = start + each.size;
    if (size != 0 && at < start) {
      const std::size_t step = std::min(size, start - at);
      add(large.bytes.data() + (at - before), step);
      at += step;
      size -= step;
    }
    if (size != 0 && at < end) {
      const std::size_t step = std::min(size, end - at);
      add(each.data + (at - start), step);
      at += step;
      size -= step;
    }
    before += each.size;
  }
  if (size != 0) add(large.bytes.data() + (at - before), size);
}

COHORT_INLINE void outbox::put_handles(msghdr& message, char* ancillary) {
  message.msg_control = ancillary;
  message.msg_controllen = CMSG_SPACE(batch_.handles.size() * sizeof(int));
  std::memset(ancillary, 0, message.msg_controllen);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(batch_.handles.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), batch_.handles.data(), batch_.handles.size() * sizeof(int));
}

COHORT_INLINE void outbox::advance(std::size_t sent) {
  while (sent != 0) {
    iovec& part = batch_.vectors[batch_.next];
    const std::size_t step = std::min(sent, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + step;
    part.iov_len -= step;
    sent -= step;
    if (part.iov_len == 0) ++batch_.next;
  }
  if (batch_.next == batch_.vectors.size()) finish_batch();
}

COHORT_INLINE void outbox::dissolve_batch() {
  std::swap(control_, batch_.control);
  for (segment& each : segments_) {
    if (!each.large && !each.sealed) break;
    each.sealed = false;
    if (each.large) each.sent = each.sent_before;
  }
  batch_.handles.clear();
  batch_.vectors.clear();
  batch_.next = 0;
  batch_.segments = 0;
  begun_ = batch_.begun_before;
}

COHORT_INLINE void outbox::finish_batch() {
  waiting_bytes_ -= std::min(waiting_bytes_, batch_.size);
  completed_ = batch_.last;
  for (; batch_.segments != 0; --batch_.segments) {
    byte_buffer& bytes = segments_.front().bytes;
    if (bytes.capacity() > spare_.capacity() && bytes.capacity() <= 2 * batch_bytes) spare_ = std::move(bytes);
    segments_.pop_front();
  }
  batch_.vectors.clear();
  batch_.next = 0;
  batch_.control.clear();
}

}  // namespace cohort::detail
