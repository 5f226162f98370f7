// SPDX-License-Identifier: BSL-1.0
/// The parent's ends of the pipes to a child's standard input, output and error output.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"
#include "../core/system.hpp"

namespace cohort {
namespace detail {

/// write(2) that raises no SIGPIPE, in a process that has done nothing about that signal.
///
/// A pipe has no MSG_NOSIGNAL, and a socket pair in its place would be seen by the child, which could not open
/// /dev/stdin again. So the signal is blocked in this thread for the time of the call, and taken back if the call has
/// raised it: it goes to the thread that writes, and to no other.
inline ssize_t write_quietly(int fd, asio::const_buffer data) noexcept {
  sigset_t sigpipe, before;
  ::sigemptyset(&sigpipe);
  ::sigaddset(&sigpipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
  const bool was_blocked = ::sigismember(&before, SIGPIPE) == 1;
  bool was_pending = false;
  if (was_blocked) {
    sigset_t pending;
    ::sigpending(&pending);
    was_pending = ::sigismember(&pending, SIGPIPE) == 1;
  }

  const ssize_t written = system::retry(system::call.write, fd, data.data(), data.size());
  const int error = errno;

  // A short write may have raised it as well: the reader went away in the middle.
  if (written != static_cast<ssize_t>(data.size()) && !was_pending) {
    const timespec at_once{};
    system::retry(::sigtimedwait, &sigpipe, static_cast<siginfo_t*>(nullptr), &at_once);
  }
  if (!was_blocked) ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return written;
}

/// What both ends share: a descriptor in a reactor, non-blocking on this side only.
class pipe_end {
 public:
  pipe_end() = default;

  /// An end that is open. O_NONBLOCK is set on it; the other end is another open file and stays as it is.
  pipe_end(asio::any_io_executor executor, descriptor end)
      : stream_(std::make_unique<asio::posix::stream_descriptor>(std::move(executor))) {
    std::error_code error;
    stream_->assign(end.get(), error);
    if (error) throw_error("pipe: watch", error);
    (void)end.release();
    stream_->native_non_blocking(true, error);
    if (error) throw_error("pipe: non-blocking", error);
  }
  pipe_end(pipe_end&&) noexcept = default;

  pipe_end& operator=(pipe_end&& other) noexcept {
    if (this != &other) {
      close();
      stream_ = std::move(other.stream_);
    }
    return *this;
  }

  ~pipe_end() { close(); }

  bool is_open() const noexcept { return stream_ && stream_->is_open(); }

  /// Empty if this has never been an open end.
  asio::any_io_executor get_executor() {
    return stream_ ? asio::any_io_executor(stream_->get_executor()) : asio::any_io_executor();
  }

  /// The descriptor, which stays this object's; -1 if it is closed.
  int native_handle() { return is_open() ? stream_->native_handle() : -1; }

  /// Closes this end. What waits on it ends with operation_aborted.
  void close() noexcept {
    if (is_open()) descriptor(stream_->release());
  }

  /// Waits until no process holds the other end any more. Reads and writes nothing: what is in the pipe stays there.
  ///
  /// Does not suspend if nobody holds it. May wait beside a read or a write. Cancelling throws operation_aborted and
  /// changes nothing.
  asio::awaitable<void> closed() {
    for (;;) {
      auto& end = stream("pipe: closed");
      pollfd look{end.native_handle(), 0, 0};  // asks for POLLHUP (reading end) and POLLERR (writing end) alone
      if (::poll(&look, 1, 0) > 0) co_return;
      co_await end.async_wait(asio::posix::stream_descriptor::wait_error, asio::use_awaitable);
    }
  }

 protected:
  /// Gives the descriptor away as a program expects it to be: blocking.
  descriptor release(const char* step) {
    descriptor end(stream(step).release());
    // The flag is one of the open file, which is to be another process's.
    const int flags = ::fcntl(end.get(), F_GETFL);
    if (flags == -1 || ::fcntl(end.get(), F_SETFL, flags & ~O_NONBLOCK) == -1) throw_error(step, errno);
    return end;
  }

  asio::posix::stream_descriptor& stream(const char* step) {
    if (!is_open()) throw_error(step, errc::closed);
    return *stream_;
  }

 private:
  std::unique_ptr<asio::posix::stream_descriptor> stream_;  // none: never opened, or moved away
};

}  // namespace detail

/// The end of a pipe that a child reads from.
///
/// Default-constructed, and where the child's descriptor is no pipe, it is closed: operations throw errc::closed. A
/// child that no longer reads makes them throw EPIPE; SIGPIPE is never raised.
///
/// Distinct objects: safe. Shared objects: unsafe. Must not be moved or destroyed while an operation is under way, nor
/// outlive the execution context.
class write_pipe : public detail::pipe_end {
 public:
  using pipe_end::pipe_end;

  /// Writes some bytes, at least one if there are any, and returns how many.
  ///
  /// Suspends only while the pipe is full. Cancelling throws operation_aborted, and nothing has been written.
  asio::awaitable<std::size_t> write_some(asio::const_buffer data) {
    for (;;) {
      auto& end = stream("pipe: write");
      const auto written = detail::write_quietly(end.native_handle(), data);
      if (written >= 0) co_return static_cast<std::size_t>(written);
      if (errno != EAGAIN) throw_error("pipe: write", errno);
      co_await end.async_wait(asio::posix::stream_descriptor::wait_write, asio::use_awaitable);
    }
  }

  /// Writes all bytes.
  ///
  /// Suspends while the pipe is full. When it throws, or is cancelled, a part may have been written: a caller who must
  /// know how much uses write_some.
  asio::awaitable<void> write(asio::const_buffer data) {
    while (data.size() != 0) data += co_await write_some(data);
  }

  asio::awaitable<void> write(std::string_view text) { return write(asio::const_buffer(text.data(), text.size())); }

  /// Gives this end away, for another child to write to: `command("b").out(a.in().release())`.
  ///
  /// The descriptor is blocking and close-on-exec, and this object closed. What waits on it ends with
  /// operation_aborted.
  [[nodiscard]] descriptor release() { return pipe_end::release("pipe: release"); }
};

/// The end of a pipe that a child writes to.
///
/// Default-constructed, and where the child's descriptor is no pipe, it is closed: operations throw errc::closed.
/// Cancelling any of them throws operation_aborted and loses nothing: what had been read comes with the next read.
///
/// Distinct objects: safe. Shared objects: unsafe. Must not be moved or destroyed while an operation is under way, nor
/// outlive the execution context.
class read_pipe : public detail::pipe_end {
 public:
  using pipe_end::pipe_end;

  /// How much read_all and read_line hold at most, in bytes, if the caller says nothing.
  static constexpr std::size_t default_limit = 1024 * 1024;

  /// Waits for some bytes and returns how many were read; 0 when the child and all others have closed the pipe.
  asio::awaitable<std::size_t> read_some(asio::mutable_buffer buffer) {
    if (kept_.empty()) co_return co_await receive(buffer);
    const auto size = std::min(buffer.size(), kept_.size());
    std::memcpy(buffer.data(), kept_.data(), size);
    kept_.erase(0, size);
    co_return size;
  }

  /// Reads until the child and all others have closed the pipe.
  ///
  /// Throws errc::output_too_large when there are more than `limit` bytes; what was read can then still be read.
  asio::awaitable<std::string> read_all(std::size_t limit = default_limit) {
    bool more = true;
    while (more) {
      if (kept_.size() > limit) throw_error("pipe: read_all", errc::output_too_large);
      more = co_await keep(limit - kept_.size());
    }
    co_return std::exchange(kept_, {});
  }

  /// Reads one line and returns it without its newline; empty when the pipe has ended. A last line needs no newline.
  /// All lines, one by one:
  ///
  ///     while (auto line = co_await child.out().read_line()) use(*line);
  ///
  /// Throws errc::output_too_large when the line has more than `limit` bytes; what was read can then still be read.
  asio::awaitable<std::optional<std::string>> read_line(std::size_t limit = default_limit) {
    std::size_t searched = 0;
    bool more = true;
    for (;;) {
      const auto newline = kept_.find('\n', searched);
      if (std::min(newline, kept_.size()) > limit) throw_error("pipe: read_line", errc::output_too_large);
      if (newline != kept_.npos) {
        std::optional<std::string> line(kept_.substr(0, newline));
        kept_.erase(0, newline + 1);
        co_return line;
      }
      if (!more) break;
      searched = kept_.size();
      more = co_await keep(limit - searched);
    }
    if (kept_.empty()) co_return std::nullopt;
    co_return std::exchange(kept_, {});
  }

  /// Gives this end away, for another child to read from: `command("b").in(a.out().release())`.
  ///
  /// The descriptor is blocking and close-on-exec, and this object closed. What waits on it ends with
  /// operation_aborted. Throws EBUSY, and keeps the pipe, if read_line, or a read that was cancelled or over its limit,
  /// has taken bytes out of it that nobody has got yet: the other child would miss them. read_some gets them.
  [[nodiscard]] descriptor release() {
    if (!kept_.empty()) throw_error(fmt::format("pipe: release with {} bytes read ahead", kept_.size()), EBUSY);
    return pipe_end::release("pipe: release");
  }

 private:
  // Reads into kept_, up to one byte more than `room`, which is how an excess is found out. False at the end.
  asio::awaitable<bool> keep(std::size_t room) {
    constexpr std::size_t largest = 64 * 1024;  // what a pipe holds (pipe(7))
    std::string piece(room < largest ? room + 1 : largest, '\0');
    const auto size = co_await receive(asio::buffer(piece));
    kept_.append(piece, 0, size);
    co_return size != 0;
  }

  asio::awaitable<std::size_t> receive(asio::mutable_buffer buffer) {
    std::error_code error;
    const auto size =
        co_await stream("pipe: read").async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::eof) co_return 0;
    if (error) throw_error("pipe: read", error);
    co_return size;
  }

  std::string kept_;  // read, and not yet asked for
};

}  // namespace cohort
