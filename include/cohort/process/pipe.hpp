// SPDX-License-Identifier: BSL-1.0
/// The parent's ends of the pipes to a child's standard input, output and error output.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../core/asio.hpp"
#include "../core/descriptor.hpp"
#include "../core/error.hpp"

namespace cohort {
namespace detail {

/// write(2) that raises no SIGPIPE, in a process that has done nothing about that signal.
///
/// A pipe has no MSG_NOSIGNAL, and a socket pair in its place would be seen by the child, which could not open
/// /dev/stdin again. So the signal is blocked in this thread for the time of the call, and taken back if the call has
/// raised it: it goes to the thread that writes, and to no other.
ssize_t write_quietly(int fd, asio::const_buffer data) noexcept;

/// What both ends share: a descriptor in a reactor, non-blocking on this side only.
class pipe_end {
 public:
  pipe_end() = default;

  /// An end that is open. O_NONBLOCK is set on it; the other end is another open file and stays as it is.
  pipe_end(asio::any_io_executor executor, descriptor end);
  pipe_end(pipe_end&&) noexcept = default;

  pipe_end& operator=(pipe_end&& other) noexcept;

  ~pipe_end() { close(); }

  bool is_open() const noexcept { return stream_ && stream_->is_open(); }

  /// Empty if this has never been an open end.
  asio::any_io_executor get_executor();

  /// The descriptor, which stays this object's; -1 if it is closed.
  int native_handle() { return is_open() ? stream_->native_handle() : -1; }

  /// Closes this end. What waits on it ends with operation_aborted.
  void close() noexcept;

  /// Waits until no process holds the other end any more. Reads and writes nothing: what is in the pipe stays there.
  ///
  /// Does not suspend if nobody holds it. May wait beside a read or a write. Cancelling throws operation_aborted and
  /// changes nothing.
  asio::awaitable<void> closed();

 protected:
  /// Gives the descriptor away as a program expects it to be: blocking.
  descriptor release(const char* step);

  asio::posix::stream_descriptor& stream(const char* step);

 private:
  std::unique_ptr<asio::posix::stream_descriptor> stream_;  // none: never opened, or moved away
};

}  // namespace detail

/// The end of a pipe that a child reads from.
///
/// Default-constructed, and where the child's descriptor is no pipe, it is closed: operations throw errc::closed. A
/// child that no longer reads makes them throw EPIPE; SIGPIPE is never raised.
///
/// Distinct objects: safe. Shared objects: unsafe. Needs no strand while one coroutine at a time uses it. Must not be
/// moved or destroyed while an operation is under way, nor outlive the execution context.
class write_pipe : public detail::pipe_end {
 public:
  using pipe_end::pipe_end;

  /// Writes some bytes, at least one if there are any, and returns how many.
  ///
  /// Suspends only while the pipe is full. Cancelling throws operation_aborted, and nothing has been written.
  asio::awaitable<std::size_t> write_some(asio::const_buffer data);

  /// Writes all bytes.
  ///
  /// Suspends while the pipe is full. When it throws, or is cancelled, a part may have been written: a caller who must
  /// know how much uses write_some.
  asio::awaitable<void> write(asio::const_buffer data);

  asio::awaitable<void> write(std::string_view text) { return write(asio::const_buffer(text.data(), text.size())); }

  /// Gives this end away, for another child to write to: `command("b").out(a.in().release())`.
  ///
  /// The descriptor is blocking and close-on-exec, and this object closed. What waits on it ends with
  /// operation_aborted.
  [[nodiscard]] descriptor release() { return pipe_end::release("pipe: release"); }
};

namespace detail {

/// Bytes that were read and not asked for yet. Taking from its front moves nothing.
class read_ahead {
 public:
  read_ahead() = default;
  read_ahead(read_ahead&& other) noexcept
      : text_(std::exchange(other.text_, {})), taken_(std::exchange(other.taken_, 0)) {}
  read_ahead& operator=(read_ahead&& other) noexcept {
    text_ = std::exchange(other.text_, {});
    taken_ = std::exchange(other.taken_, 0);
    return *this;
  }

  bool empty() const noexcept { return taken_ == text_.size(); }
  std::size_t size() const noexcept { return text_.size() - taken_; }
  std::string_view view() const noexcept { return {text_.data() + taken_, size()}; }

  void add(std::string_view bytes);

  void drop(std::size_t count) noexcept;

  std::string take_all();

 private:
  std::string text_;
  std::size_t taken_ = 0;  // of its bytes
};

}  // namespace detail

/// The end of a pipe that a child writes to.
///
/// Default-constructed, and where the child's descriptor is no pipe, it is closed: operations throw errc::closed.
/// Cancelling any of them throws operation_aborted and loses nothing: what had been read comes with the next read.
///
/// Distinct objects: safe. Shared objects: unsafe. Needs no strand while one coroutine at a time uses it. Must not be
/// moved or destroyed while an operation is under way, nor outlive the execution context.
class read_pipe : public detail::pipe_end {
 public:
  using pipe_end::pipe_end;

  /// How much read_all and read_line hold at most, in bytes, if the caller says nothing.
  static constexpr std::size_t default_limit = 1024 * 1024;

  /// Waits for some bytes and returns how many were read; 0 when the child and all others have closed the pipe.
  asio::awaitable<std::size_t> read_some(asio::mutable_buffer buffer);

  /// Reads until the child and all others have closed the pipe.
  ///
  /// Throws errc::output_too_large when there are more than `limit` bytes; what was read can then still be read.
  asio::awaitable<std::string> read_all(std::size_t limit = default_limit);

  /// Reads one line and returns it without its newline; empty when the pipe has ended. A last line needs no newline.
  /// All lines, one by one:
  ///
  ///     while (auto line = co_await child.out().read_line()) use(*line);
  ///
  /// Throws errc::output_too_large when the line has more than `limit` bytes; what was read can then still be read.
  asio::awaitable<std::optional<std::string>> read_line(std::size_t limit = default_limit);

  /// Gives this end away, for another child to read from: `command("b").in(a.out().release())`.
  ///
  /// The descriptor is blocking and close-on-exec, and this object closed. What waits on it ends with
  /// operation_aborted. Throws EBUSY, and keeps the pipe, if read_line, or a read that was cancelled or over its limit,
  /// has taken bytes out of it that nobody has got yet: the other child would miss them. read_some gets them.
  [[nodiscard]] descriptor release();

 private:
  // Reads into kept_, up to one byte more than `room`, which is how an excess is found out. False at the end.
  asio::awaitable<bool> keep(std::size_t room);

  asio::awaitable<std::size_t> receive(asio::mutable_buffer buffer);

  detail::read_ahead kept_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "pipe.ipp"
#endif
