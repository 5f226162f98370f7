// SPDX-License-Identifier: BSL-1.0
/// A listening socket that other processes may share, and the accepting on it.
///
/// Whoever accepts owns an acceptor, and uses it on the executor that the acceptor was made with.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <system_error>

#include <sys/socket.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"

namespace cohort {

enum class handle_kind : std::uint8_t;

/// Lets no more connections begin at a listening socket, in every process that has it; those that have begun go on.
///
/// A client of TCP that comes now tries again a second later (net.ipv4.tcp_syn_retries, tcp(7)): it is refused then, or
/// finds a successor. Closing the listener instead would reset those whose handshake ends in that moment. A local
/// client is refused at once. A datagram socket is left alone.
void stop_handshakes(int fd) noexcept;

/// What accept_some() and accept_waiting() have ended with.
enum class accept_result {
  more,      ///< there may be more: as many as were wanted have been taken
  empty,     ///< nothing is left in the queue
  shortage,  ///< there are not enough descriptors, or memory; what waits in the queue is not lost
  ended,     ///< the acceptor is closed, or its queue is empty and stays so, see acceptor::ended()
};

/// Accepts at a listening socket.
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
  acceptor(const asio::any_io_executor& executor, descriptor socket);

  bool is_open() const noexcept { return stream_.is_open(); }
  int native_handle() const { return fd_; }

  /// What it accepts.
  handle_kind accepts() const noexcept;

  using taker = std::function<void(descriptor accepted)>;
  using condition = std::function<bool()>;

  /// Waits until a connection may be there, and takes up to `most`, for as long as `wanted()` is true, which is asked
  /// before each. `take` gets them, one at a time; it and `wanted` may close the acceptor.
  ///
  /// This is the body of a loop that ends with accept_result::ended, or when the loop wants no more:
  ///
  ///     auto result = accept_result::more;
  ///     while (result != accept_result::ended && !stopping) {
  ///       while (!has_room() && !stopping) co_await changed.wait();
  ///       result = co_await on.accept_some(16, take, wanted);
  ///     }
  ///
  /// After accept_result::shortage it has paused, see pause(). Throws what try_accept() and `take` throw, but for a
  /// shortage. Cancelling throws operation_aborted; closing does not: then the result is accept_result::ended.
  asio::awaitable<accept_result> accept_some(std::size_t most, taker take, condition wanted);

  /// The same without a wait before or after: takes what is in the queue now. After accept_result::shortage, call
  /// pause() before the next try.
  accept_result accept_waiting(std::size_t most, const taker& take, const condition& wanted);

  /// Waits until a connection may be there: others may take it first. Cancelling or closing throws operation_aborted.
  asio::awaitable<void> wait();

  /// Takes the next connection of the queue; none when it is empty.
  ///
  /// A connection that failed while it waited (accept(2) lists the codes) is passed over. Throws when this process or
  /// the machine is short of descriptors or memory (is_shortage), and when the listener itself is broken.
  descriptor try_accept();

  /// Whether an empty queue stays empty, because somebody has called stop_handshakes(): wait() would not wait any more.
  /// Always false for TCP, where wait() does.
  bool ended();

  /// Somebody who has the listener too, a worker perhaps, has called shutdown(2) on it: TCP may listen again, and those
  /// that waited are gone. Leaves errno as it is.
  bool listen_again() noexcept;

  /// Whether an error of try_accept() says that there is no room now: what waits in the queue is not lost.
  static bool is_shortage(const std::error_code& code) noexcept;

  /// Lets a shortage pass: 50 ms in which nothing is accepted, instead of a loop that spins.
  asio::awaitable<void> pause();

  /// Closes this process's copy. Connections in the queue are lost only if it is the last one.
  void close();

 private:
  static constexpr std::chrono::milliseconds pause_time{50};

  // A second: room that comes with the end of a few requests is there by then, and a client that connects has not tried
  // again. Counted in pauses, so that a process that was stopped has not waited.
  static constexpr auto pauses_before_reserve = std::chrono::seconds(1) / pause_time;

  static bool lacks_descriptors(int error) noexcept { return error == EMFILE || error == ENFILE; }

  /// The next connection that has not failed while it waited, or -1 and errno.
  int accept_next();

  /// Takes the reserve if it is not here; false, and errno, when there is no room for it.
  bool hold_reserve() noexcept;

  asio::posix::stream_descriptor stream_;
  asio::steady_timer pause_;
  descriptor reserve_;
  sockaddr_storage address_{};
  socklen_t address_size_ = sizeof(sockaddr_storage);
  std::chrono::milliseconds::rep pauses_ = 0;  // of the present shortage
  bool has_reserve_ = true;
  bool local_;
  int fd_ = -1;  // the stream's
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "acceptor.ipp"
#endif
