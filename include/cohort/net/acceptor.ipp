// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "acceptor.hpp"

#include "../core/config.hpp"

#include <cstring>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "../core/asio_error.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"
#include "../ipc/handle.hpp"

namespace cohort {

COHORT_INLINE void stop_handshakes(int fd) noexcept {
  if (detail::socket_option(fd, SO_TYPE) == SOCK_DGRAM) return;
  if (detail::domain_of(fd) == AF_UNIX) {
    ::shutdown(fd, SHUT_RD);  // connect gives ECONNREFUSED from here on; what waits can still be accepted
    return;
  }
  // Drops segments with the flag SYN, which is in byte 13 of the header (RFC 9293, 3.1).
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x02, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  (void)::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);  // where it cannot be, it is a race
}

COHORT_INLINE acceptor::acceptor(const asio::any_io_executor& executor, descriptor socket)
    : stream_(executor), pause_(executor), local_(detail::domain_of(socket.get()) == AF_UNIX) {
  fd_ = socket.get();
  detail::assign(stream_, socket);
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&address_), &address_size_) != 0) address_size_ = 0;
  // Another process's copy shares this flag, and one that cleared it would block us in accept (accept(2)).
  detail::asio_error error;
  stream_.native_non_blocking(true, error);
  if (error) throw_error("accept: make it non-blocking", error);
  (void)hold_reserve();
}

COHORT_INLINE handle_kind acceptor::accepts() const noexcept {
  return local_ ? handle_kind::local_socket : handle_kind::tcp_socket;
}

COHORT_INLINE asio::awaitable<accept_result> acceptor::accept_some(std::size_t most, taker take, condition wanted) {
  auto result = accept_result::ended;
  try {
    if (is_open()) co_await wait();
    result = accept_waiting(most, take, wanted);
    if (result == accept_result::shortage) co_await pause();
  } catch (...) {
    detail::caught();
    if (is_open()) throw;
    result = accept_result::ended;
  }
  co_return result;
}

COHORT_INLINE accept_result acceptor::accept_waiting(std::size_t most, const taker& take, const condition& wanted) {
  try {
    for (std::size_t i = 0; i < most && is_open() && wanted(); ++i) {
      descriptor accepted = try_accept();
      if (!accepted) return ended() ? accept_result::ended : accept_result::empty;
      take(std::move(accepted));
    }
  } catch (...) {
    const auto error = detail::caught();
    if (is_open() && !is_shortage(error.code())) throw;
    if (is_open()) return accept_result::shortage;
  }
  return is_open() ? accept_result::more : accept_result::ended;
}

COHORT_INLINE asio::awaitable<void> acceptor::wait() {
  co_await stream_.async_wait(asio::posix::stream_descriptor::wait_read, detail::awaited);
}

COHORT_INLINE descriptor acceptor::try_accept() {
  // Before anything else: a connection that took the first free descriptor would leave none for those after it.
  if (!hold_reserve()) throw_error("accept", errno);
  int fd = accept_next();
  if (fd < 0 && errno == EINVAL && listen_again()) fd = accept_next();
  if (fd < 0 && reserve_ && lacks_descriptors(errno) && pauses_ >= pauses_before_reserve) {
    reserve_.reset();
    fd = accept_next();
  } else if (fd >= 0 || errno == EAGAIN) {
    pauses_ = 0;  // also of an empty queue: the kernel has found a free number before it looked
  }
  if (fd >= 0) return descriptor(fd);
  const int error = errno;
  (void)hold_reserve();
  if (error == EAGAIN) return descriptor();
  throw_error("accept", error);
}

COHORT_INLINE bool acceptor::listen_again() noexcept {
  const int before = errno;
  // A port that the kernel has chosen is free again, and would be another one; one that was asked for is still bound.
  const auto* const at = reinterpret_cast<const sockaddr*>(&address_);
  if (!local_) (void)system::call.bind(native_handle(), at, address_size_);
  sockaddr_storage now{};
  socklen_t size = sizeof now;
  const bool listens = !local_ && ::getsockname(native_handle(), reinterpret_cast<sockaddr*>(&now), &size) == 0 &&
                       size == address_size_ && std::memcmp(&now, &address_, size) == 0 &&
                       system::call.listen(native_handle(), SOMAXCONN) == 0;
  errno = before;
  return listens;
}

COHORT_INLINE bool acceptor::ended() {
  pollfd look{native_handle(), POLLRDHUP, 0};
  return local_ && ::poll(&look, 1, 0) > 0;
}

COHORT_INLINE bool acceptor::is_shortage(const std::error_code& code) noexcept {
  return code.category() == std::system_category() &&
         (code.value() == EMFILE || code.value() == ENFILE || code.value() == ENOBUFS || code.value() == ENOMEM);
}

COHORT_INLINE asio::awaitable<void> acceptor::pause() {
  if (pauses_ < pauses_before_reserve) ++pauses_;
  pause_.expires_after(pause_time);
  co_await pause_.async_wait(detail::awaited);
}

COHORT_INLINE void acceptor::close() {
  pause_.cancel();
  descriptor closing(stream_.release());
  reserve_.reset();
}

COHORT_INLINE int acceptor::accept_next() {
  for (;;) {
    const int fd = system::call.accept4(stream_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return fd;
    switch (errno) {
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
      case EPERM:
      case ENETDOWN:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case EOPNOTSUPP:
      case ENETUNREACH: continue;
      default: return -1;
    }
  }
}

COHORT_INLINE bool acceptor::hold_reserve() noexcept {
  if (reserve_ || !has_reserve_) return true;
  // An open file of its own, not a copy of another one: that would be no room where the machine has none (ENFILE).
  reserve_.reset(system::retry(system::call.open, "/dev/null", O_RDONLY | O_CLOEXEC, mode_t{0}));
  if (reserve_) return true;
  has_reserve_ = is_shortage(std::error_code(errno, std::system_category()));
  return !has_reserve_;
}

}  // namespace cohort
