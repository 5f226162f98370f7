// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pipe.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include "../core/asio_error.hpp"
#include "../core/system.hpp"

namespace cohort {

namespace detail {

COHORT_INLINE ssize_t write_quietly(int fd, asio::const_buffer data) noexcept {
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

COHORT_INLINE pipe_end::pipe_end(asio::any_io_executor executor, descriptor end)
    : stream_(std::make_unique<asio::posix::stream_descriptor>(std::move(executor))) {
  detail::asio_error error;
  stream_->assign(end.get(), error);
  if (error) throw_error("pipe: watch", error);
  (void)end.release();
  stream_->native_non_blocking(true, error);
  if (error) throw_error("pipe: non-blocking", error);
}

COHORT_INLINE pipe_end& pipe_end::operator=(pipe_end&& other) noexcept {
  if (this != &other) {
    close();
    stream_ = std::move(other.stream_);
  }
  return *this;
}

COHORT_INLINE asio::any_io_executor pipe_end::get_executor() {
  return stream_ ? asio::any_io_executor(stream_->get_executor()) : asio::any_io_executor();
}

COHORT_INLINE void pipe_end::close() noexcept {
  if (is_open()) descriptor(stream_->release());
}

COHORT_INLINE asio::awaitable<void> pipe_end::closed() {
  for (;;) {
    auto& end = stream("pipe: closed");
    pollfd look{end.native_handle(), 0, 0};  // asks for POLLHUP (reading end) and POLLERR (writing end) alone
    if (::poll(&look, 1, 0) > 0) co_return;
    co_await end.async_wait(asio::posix::stream_descriptor::wait_error, detail::awaited);
  }
}

COHORT_INLINE descriptor pipe_end::release(const char* step) {
  descriptor end(stream(step).release());
  // The flag is one of the open file, which is to be another process's.
  const int flags = ::fcntl(end.get(), F_GETFL);
  if (flags == -1 || ::fcntl(end.get(), F_SETFL, flags & ~O_NONBLOCK) == -1) throw_error(step, errno);
  return end;
}

COHORT_INLINE asio::posix::stream_descriptor& pipe_end::stream(const char* step) {
  if (!is_open()) throw_error(step, errc::closed);
  return *stream_;
}

COHORT_INLINE void read_ahead::add(std::string_view bytes) {
  text_.erase(0, std::exchange(taken_, 0));  // once for each read from the pipe, not for each line
  text_.append(bytes);
}

COHORT_INLINE void read_ahead::drop(std::size_t count) noexcept {
  taken_ += count;
  if (empty()) text_.clear(), taken_ = 0;
}

COHORT_INLINE std::string read_ahead::take_all() {
  text_.erase(0, std::exchange(taken_, 0));
  return std::exchange(text_, {});
}

}  // namespace detail

COHORT_INLINE asio::awaitable<std::size_t> write_pipe::write_some(asio::const_buffer data) {
  for (;;) {
    auto& end = stream("pipe: write");
    const auto written = detail::write_quietly(end.native_handle(), data);
    if (written >= 0) co_return static_cast<std::size_t>(written);
    if (errno != EAGAIN) throw_error("pipe: write", errno);
    co_await end.async_wait(asio::posix::stream_descriptor::wait_write, detail::awaited);
  }
}

COHORT_INLINE asio::awaitable<void> write_pipe::write(asio::const_buffer data) {
  while (data.size() != 0) data += co_await write_some(data);
}

COHORT_INLINE asio::awaitable<std::size_t> read_pipe::read_some(asio::mutable_buffer buffer) {
  if (kept_.empty()) co_return co_await receive(buffer);
  const auto size = std::min(buffer.size(), kept_.size());
  std::memcpy(buffer.data(), kept_.view().data(), size);
  kept_.drop(size);
  co_return size;
}

COHORT_INLINE asio::awaitable<std::string> read_pipe::read_all(std::size_t limit) {
  bool more = true;
  while (more) {
    if (kept_.size() > limit) throw_error("pipe: read_all", errc::output_too_large);
    more = co_await keep(limit - kept_.size());
  }
  co_return kept_.take_all();
}

COHORT_INLINE asio::awaitable<std::optional<std::string>> read_pipe::read_line(std::size_t limit) {
  std::size_t searched = 0;
  bool more = true;
  for (;;) {
    const auto newline = kept_.view().find('\n', searched);
    if (std::min(newline, kept_.size()) > limit) throw_error("pipe: read_line", errc::output_too_large);
    if (newline != std::string_view::npos) {
      std::optional<std::string> line(kept_.view().substr(0, newline));
      kept_.drop(newline + 1);
      co_return line;
    }
    if (!more) break;
    searched = kept_.size();
    more = co_await keep(limit - searched);
  }
  if (kept_.empty()) co_return std::nullopt;
  co_return kept_.take_all();
}

COHORT_INLINE descriptor read_pipe::release() {
  if (!kept_.empty()) throw_error(fmt::format("pipe: release with {} bytes read ahead", kept_.size()), EBUSY);
  return pipe_end::release("pipe: release");
}

COHORT_INLINE asio::awaitable<bool> read_pipe::keep(std::size_t room) {
  constexpr std::size_t largest = 64 * 1024;  // what a pipe holds (pipe(7))
  std::string piece(room < largest ? room + 1 : largest, '\0');
  const auto size = co_await receive(asio::buffer(piece));
  kept_.add(std::string_view(piece).substr(0, size));
  co_return size != 0;
}

COHORT_INLINE asio::awaitable<std::size_t> read_pipe::receive(asio::mutable_buffer buffer) {
  detail::asio_error error;
  const auto size =
      co_await stream("pipe: read").async_read_some(buffer, asio::redirect_error(asio::use_awaitable, error));
  if (error == asio::error::eof) co_return 0;
  if (error) throw_error("pipe: read", error);
  co_return size;
}

}  // namespace cohort
