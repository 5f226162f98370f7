// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "outbox.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>

#include "../../core/system.hpp"

namespace cohort::detail {

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
  segment& own = segments_.emplace_back();
  own.bytes = std::move(payload);
  own.large = true;
  waiting_bytes_ += size;
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
    waiting_bytes_ -= at->bytes.size();
    at->bytes = byte_buffer();
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

COHORT_INLINE outbox::ticket outbox::mark() {
  if (control_.size() == 0 && control_writing_.size() == 0) return appended_;
  return append(wire::kind::withdrawn, byte_buffer());  // which goes behind the control lane, as all messages do
}

COHORT_INLINE outbox::outcome outbox::write(int fd) {
  std::size_t written = 0;
  while (form_batch()) {
    alignas(cmsghdr) char ancillary[CMSG_SPACE(wire::max_handles * sizeof(int))];
    msghdr message{};
    message.msg_iov = iov_.data() + next_;
    message.msg_iovlen = iov_.size() - next_;
    if (!handles_.empty()) put_handles(message, ancillary);
    const ssize_t sent = system::retry(system::call.sendmsg, fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      const int error = errno;
      // Descriptors that the kernel has not taken may be withdrawn and closed by their owners.
      if (!handles_.empty()) dissolve_batch();
      errno = error;
      if (error == EAGAIN || error == EWOULDBLOCK) return outcome::blocked;
      if (error == ETOOMANYREFS || error == ENOBUFS || error == ENOMEM) return outcome::starved;
      return outcome::failed;
    }
    handles_.clear();
    advance(static_cast<std::size_t>(sent));
    written += static_cast<std::size_t>(sent);
    if (written >= turn_bytes && !empty()) return outcome::more;
  }
  return outcome::done;
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
  iov_.push_back(iovec{const_cast<void*>(data), size});
  batch_size_ += size;
}

COHORT_INLINE bool outbox::form_batch() {
  if (next_ < iov_.size()) return true;
  iov_.clear();
  next_ = 0;
  batch_size_ = 0;
  batch_last_ = completed_;
  begun_before_ = begun_;
  finished_segments_ = 0;
  pieces_ = 0;

  iov_.push_back(iovec{});  // room for the frame that announces descriptors
  control_writing_.clear();
  std::swap(control_, control_writing_);
  if (control_writing_.size() != 0) add(control_writing_.data(), control_writing_.size());

  while (!segments_.empty() && segments_.front().dropped) {
    batch_last_ = completed_ = segments_.front().last;
    segments_.pop_front();
  }
  for (segment& each : segments_) {
    if (batch_size_ >= batch_bytes || iov_.size() + 2 > batch_vectors) break;
    if (each.dropped) {
      batch_last_ = each.last;
    } else if (each.large) {
      if (!add_pieces(each)) break;
    } else {
      if (handles_.size() + each.handles.size() > wire::max_handles) break;
      for (const auto& entry : each.handles) handles_.push_back(entry.second);
      each.sealed = true;
      begun_ = batch_last_ = each.last;
      if (each.bytes.size() != 0) add(each.bytes.data(), each.bytes.size());
    }
    ++finished_segments_;
  }

  if (!handles_.empty()) {
    wire::put_header(announcement_.data(), wire::kind::handles, 0, static_cast<std::uint8_t>(handles_.size()));
    iov_.front() = iovec{announcement_.data(), announcement_.size()};
  } else {
    next_ = 1;
  }
  if (next_ < iov_.size()) return true;
  finish_batch();
  return false;
}

COHORT_INLINE bool outbox::add_pieces(segment& large) {
  begun_ = large.last;
  large.sent_before = large.sent;
  while (large.sent < large.bytes.size()) {
    if (batch_size_ >= batch_bytes || iov_.size() + 2 > batch_vectors || pieces_ == headers_.size()) return false;
    const std::size_t left = large.bytes.size() - large.sent;
    const std::size_t size = std::min<std::size_t>(left, wire::max_frame);
    auto& header = headers_[pieces_++];
    wire::put_header(header.data(), size == left ? wire::kind::message : wire::kind::piece,
                     static_cast<std::uint32_t>(size));
    iov_.push_back(iovec{header.data(), header.size()});
    add(large.bytes.data() + large.sent, size);
    large.sent += size;
  }
  batch_last_ = large.last;
  return true;
}

COHORT_INLINE void outbox::put_handles(msghdr& message, char* ancillary) {
  message.msg_control = ancillary;
  message.msg_controllen = CMSG_SPACE(handles_.size() * sizeof(int));
  std::memset(ancillary, 0, message.msg_controllen);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(handles_.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), handles_.data(), handles_.size() * sizeof(int));
}

COHORT_INLINE void outbox::advance(std::size_t sent) {
  while (sent != 0) {
    iovec& part = iov_[next_];
    const std::size_t step = std::min(sent, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + step;
    part.iov_len -= step;
    sent -= step;
    if (part.iov_len == 0) ++next_;
  }
  if (next_ == iov_.size()) finish_batch();
}

COHORT_INLINE void outbox::dissolve_batch() {
  std::swap(control_, control_writing_);
  for (segment& each : segments_) {
    if (!each.large && !each.sealed) break;
    each.sealed = false;
    if (each.large) each.sent = each.sent_before;
  }
  handles_.clear();
  iov_.clear();
  next_ = 0;
  finished_segments_ = 0;
  begun_ = begun_before_;
}

COHORT_INLINE void outbox::finish_batch() {
  waiting_bytes_ -= std::min(waiting_bytes_, batch_size_);
  completed_ = batch_last_;
  for (; finished_segments_ != 0; --finished_segments_) {
    byte_buffer& bytes = segments_.front().bytes;
    if (bytes.capacity() > spare_.capacity() && bytes.capacity() <= 2 * batch_bytes) spare_ = std::move(bytes);
    segments_.pop_front();
  }
  iov_.clear();
  next_ = 0;
  control_writing_.clear();
}

}  // namespace cohort::detail
