// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <chrono>
#include <iterator>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"
#include "../ipc/handle.hpp"

namespace cohort {

/// Lets no more connections begin at a listening socket, in every process that has it; those that have begun go on.
///
/// A client of TCP that comes now tries again a second later (net.ipv4.tcp_syn_retries, tcp(7)): it is refused then, or
/// finds a successor. Closing the listener instead would reset those whose handshake ends in that moment. A local
/// client is refused at once. A datagram socket is left alone.
inline void stop_handshakes(int fd) noexcept {
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

/// A listening socket that other processes may share, and the accepting on it.
///
/// Accepted sockets come as bare descriptors, close-on-exec and in no reactor, so that they can go on to another
/// process.
///
/// It keeps one descriptor in reserve, for a process that has come to its limit (RLIMIT_NOFILE) and stays there, be it
/// that handlers need descriptors too, or leak them. When a shortage has lasted for a second, the next connection gets
/// the place of the reserve and is one like any other. The first descriptor that becomes free is the reserve again, and
/// may be spent at once on the next connection: so it goes on by one at a time, however much the rest of the process
/// holds. Without /dev/null there is no reserve, and a shortage is waited for alone.
///
/// Distinct objects: safe. Shared objects: unsafe.
class acceptor {
 public:
  acceptor(const asio::any_io_executor& executor, descriptor socket)
      : stream_(executor), pause_(executor), local_(detail::domain_of(socket.get()) == AF_UNIX) {
    stream_.assign(socket.get());
    fd_ = socket.release();
    // Another process's copy shares this flag, and one that cleared it would block us in accept (accept(2)).
    stream_.native_non_blocking(true);
    (void)hold_reserve();
  }

  bool is_open() const noexcept { return stream_.is_open(); }
  int native_handle() const { return fd_; }

  /// What it accepts.
  handle_kind accepts() const noexcept { return local_ ? handle_kind::local_socket : handle_kind::tcp_socket; }

  /// Waits until a connection may be there: others may take it first. Cancelling or closing throws operation_aborted.
  asio::awaitable<void> wait() {
    co_await stream_.async_wait(asio::posix::stream_descriptor::wait_read, asio::use_awaitable);
  }

  /// Takes the next connection of the queue; none when it is empty.
  ///
  /// A connection that failed while it waited (accept(2) lists the codes) is passed over. Throws when this process or
  /// the machine is short of descriptors or memory (is_shortage), and when the listener itself is broken.
  descriptor try_accept() {
    // Before anything else: a connection that took the first free descriptor would leave none for those after it.
    if (!hold_reserve()) throw_error("accept", errno);
    int fd = accept_next();
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

  /// Whether an empty queue stays empty, because somebody has called stop_handshakes(): wait() would not wait any more.
  /// Always false for TCP, where wait() does.
  bool ended() {
    pollfd look{native_handle(), POLLRDHUP, 0};
    return local_ && ::poll(&look, 1, 0) > 0;
  }

  /// Whether an error of try_accept() says that there is no room now: what waits in the queue is not lost.
  static bool is_shortage(const std::error_code& code) noexcept {
    return code.category() == std::system_category() &&
           (code.value() == EMFILE || code.value() == ENFILE || code.value() == ENOBUFS || code.value() == ENOMEM);
  }

  /// Lets a shortage pass: 50 ms in which nothing is accepted, instead of a loop that spins.
  asio::awaitable<void> pause() {
    if (pauses_ < pauses_before_reserve) ++pauses_;
    pause_.expires_after(pause_time);
    co_await pause_.async_wait(asio::use_awaitable);
  }

  /// Closes this process's copy. Connections in the queue are lost only if it is the last one.
  void close() {
    pause_.cancel();
    descriptor closing(stream_.release());
    reserve_.reset();
  }

 private:
  static constexpr std::chrono::milliseconds pause_time{50};

  // A second: room that comes with the end of a few requests is there by then, and a client that connects has not tried
  // again. Counted in pauses, so that a process that was stopped has not waited.
  static constexpr auto pauses_before_reserve = std::chrono::seconds(1) / pause_time;

  static bool lacks_descriptors(int error) noexcept { return error == EMFILE || error == ENFILE; }

  /// The next connection that has not failed while it waited, or -1 and errno.
  int accept_next() {
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

  /// Takes the reserve if it is not here; false, and errno, when there is no room for it.
  bool hold_reserve() noexcept {
    if (reserve_ || !has_reserve_) return true;
    // An open file of its own, not a copy of another one: that would be no room where the machine has none (ENFILE).
    reserve_.reset(system::retry(system::call.open, "/dev/null", O_RDONLY | O_CLOEXEC, mode_t{0}));
    if (reserve_) return true;
    has_reserve_ = is_shortage(std::error_code(errno, std::system_category()));
    return !has_reserve_;
  }

  asio::posix::stream_descriptor stream_;
  asio::steady_timer pause_;
  descriptor reserve_;
  std::chrono::milliseconds::rep pauses_ = 0;  // of the present shortage
  bool has_reserve_ = true;
  bool local_;
  int fd_ = -1;  // the stream's
};

}  // namespace cohort
