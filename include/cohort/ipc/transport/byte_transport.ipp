// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "byte_transport.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <poll.h>

#include "../../core/error.hpp"
#include "../../core/system.hpp"

namespace cohort::detail {

COHORT_INLINE ssize_t byte_transport::read_socket(msghdr& message) noexcept {
  return system::retry(system::call.recvmsg, socket_, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}

COHORT_INLINE ssize_t byte_transport::read(msghdr& message) {
  if (!in_) return read_socket(message);
  const std::size_t control_room = std::exchange(message.msg_controllen, 0);
  message.msg_flags = 0;
  if (broken_) throw_error("receive: descriptors that no frame announces", errc::malformed);
  const bool at_end = at_end_;  // known before the ring is looked at, which then holds all there ever is
  std::size_t there = in_->available();
  if (there == 0) {
    if (at_end) return 0;
    errno = EAGAIN;
    return -1;
  }
  const std::size_t before = in_->before_handles(there);
  if (before != 0) {
    there = before;
  } else if (!take_parked(message, control_room)) {
    return -1;
  }
  const std::size_t got = in_->read(message.msg_iov, message.msg_iovlen, there);
  if (in_->takes_wish() && !ring_bell()) in_->put_wish_back();
  return static_cast<ssize_t>(got);
}

COHORT_INLINE ssize_t byte_transport::write(const msghdr& message) noexcept {
  if (!out_) {
    const ssize_t sent = system::retry(system::call.sendmsg, socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) greeted_ = true;
    return sent;
  }
  const auto room = out_->room();
  if (!room) {
    errno = EPROTO;
    return -1;
  }
  const bool with_handles = message.msg_controllen != 0;
  const bool blocked = *room < (with_handles ? wire::header_size : 1) || (with_handles && !out_->handles_are_taken());
  if (peer_gone_ || ((blocked || out_->is_stalled()) && is_hung_up())) {
    errno = EPIPE;
    return -1;
  }
  if (blocked) {
    errno = EAGAIN;
    return -1;
  }
  if (with_handles) {
    char carrier = 1;
    iovec part{&carrier, 1};
    msghdr handles = message;
    handles.msg_iov = &part;
    handles.msg_iovlen = 1;
    if (system::retry(system::call.sendmsg, socket_, &handles, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) errno = ENOBUFS;  // nobody says when the socket has room
      return -1;
    }
    out_->announce_handles();
  }
  const std::size_t written = out_->write(message.msg_iov, message.msg_iovlen);
  if (out_->takes_sleep() && !ring_bell()) out_->put_sleep_back();
  if (peer_gone_) {
    errno = EPIPE;
    return -1;
  }
  return static_cast<ssize_t>(written);
}

COHORT_INLINE void byte_transport::make_ring(std::size_t capacity) {
  offered_fd_ = ring_memory::make(capacity);
  offered_.emplace(offered_fd_.get(), capacity);
}

COHORT_INLINE bool byte_transport::send_offer() noexcept {
  char frame[wire::header_size + 8];
  wire::put_header(frame, wire::kind::ring, 8, 1);
  wire::store(frame + wire::header_size, offered_->capacity(), 8);
  iovec part{frame + offer_sent_, sizeof frame - offer_sent_};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (offer_sent_ == 0) {
    message.msg_control = ancillary;
    message.msg_controllen = sizeof ancillary;
  }
  auto* const header = reinterpret_cast<cmsghdr*>(ancillary);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = offered_fd_.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  const ssize_t sent = system::retry(system::call.sendmsg, socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return false;
  offer_sent_ += static_cast<std::size_t>(sent);
  if (offer_sent_ < sizeof frame) return send_offer();
  out_.emplace(std::move(*offered_));
  offered_.reset();
  offered_fd_.reset();
  return true;
}

COHORT_INLINE void byte_transport::attach(const descriptor& memory, std::uint64_t capacity) {
  ring_memory::check(memory.get(), capacity);
  in_.emplace(ring_memory(memory.get(), static_cast<std::size_t>(capacity)));
}

COHORT_INLINE bool byte_transport::may_wait_for_input() noexcept {
  if (!in_) return true;
  return !at_end_ && !broken_ && (lacks_handles_ || in_->ask_for_bytes());
}

COHORT_INLINE bool byte_transport::end_wait_for_input() noexcept {
  if (!in_ || socket_ < 0) return false;
  in_->wake();
  return hear_bells();
}

COHORT_INLINE byte_transport::room_wait byte_transport::wait_for_room() noexcept {
  if (!out_) return room_wait::writable;
  if (!ring_due()) return room_wait::later;
  if (!out_->ask_for_room()) return room_wait::none;
  return in_ && !at_end_ && !broken_ ? room_wait::readable : room_wait::later;
}

COHORT_INLINE bool byte_transport::hear_bells() noexcept {
  if (!in_ || socket_ < 0 || at_end_ || broken_) return false;
  return read_beside() >= 0 || at_end_;  // a few, whatever the peer sends: the socket stays readable
}

COHORT_INLINE ssize_t byte_transport::read_beside() noexcept {
  char bells[64];
  iovec part{bells, sizeof bells};
  alignas(cmsghdr) control_bytes control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = read_socket(message);
  if (got == 0 || (got < 0 && errno == ECONNRESET)) at_end_ = true;
  if (got < 0 || (message.msg_controllen == 0 && (message.msg_flags & MSG_CTRUNC) == 0)) return got;
  if (parked_.is_there) {  // close them all
    broken_ = true;
    close_parked();
  }
  std::memcpy(parked_.control.data(), control.data(), message.msg_controllen);
  parked_.size = message.msg_controllen;
  parked_.flags = message.msg_flags;
  parked_.is_there = true;
  if (broken_) close_parked();
  return got;
}

COHORT_INLINE bool byte_transport::take_parked(msghdr& message, std::size_t room) {
  while (!parked_.is_there) {
    if (at_end_) throw_error("receive: descriptors announced that did not come", errc::malformed);
    if (read_beside() > 0 || at_end_) continue;
    lacks_handles_ = true;  // until the socket is readable; a correct peer has sent them before
    return false;
  }
  lacks_handles_ = false;
  message.msg_controllen = std::min(room, parked_.size);
  message.msg_flags = parked_.flags & MSG_CTRUNC;
  std::memcpy(message.msg_control, parked_.control.data(), message.msg_controllen);
  parked_.is_there = false;
  return true;
}

COHORT_INLINE void byte_transport::close_parked() noexcept {
  if (!std::exchange(parked_.is_there, false)) return;
  msghdr message{};
  message.msg_control = parked_.control.data();
  message.msg_controllen = parked_.size;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      const descriptor closing(fd);
    }
  }
}

COHORT_INLINE bool byte_transport::ring_bell() noexcept {
  bell_due_ = false;
  // Before this side's ring is with the peer, the socket carries frames; the peer does not sleep for room then.
  if (!out_) return true;
  char bell = 0;
  iovec part{&bell, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (system::retry(system::call.sendmsg, socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return true;
  bell_due_ = errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
  peer_gone_ = peer_gone_ || !bell_due_;
  return !bell_due_;
}

COHORT_INLINE bool byte_transport::ring_due() noexcept {
  if (!bell_due_ || socket_ < 0) return true;
  return ring_bell();
}

COHORT_INLINE bool byte_transport::is_hung_up() const noexcept {
  pollfd socket{socket_, 0, 0};
  return ::poll(&socket, 1, 0) > 0 && (socket.revents & (POLLHUP | POLLERR)) != 0;
}

COHORT_INLINE void byte_transport::close() noexcept {
  if (in_) in_->leave();
  socket_ = -1;
}

}  // namespace cohort::detail
