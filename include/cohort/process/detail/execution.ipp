// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "execution.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "../../core/asio_error.hpp"
#include "../../core/scope.hpp"
#include "../../core/system.hpp"
#include "../spawn.hpp"

namespace cohort::detail {

COHORT_INLINE execution::~execution() {
  if (state_ && !killed_ && !finished_) state_->kill_tree();  // which a forked copy of this process does not
}

COHORT_INLINE asio::awaitable<output> execution::run(std::shared_ptr<execution> self, command what) {
  if (self->aborted_) throw std::system_error(operation_aborted());
  self->name_ = what.program();
  descriptor shared = self->connect(what);
  auto started = co_await spawn(std::move(what));
  shared.reset();
  self->adopt(std::move(started));
  try {
    self->start(feed(self));
    self->start(wait_end(self));
    for (auto* each : {&self->out_, &self->err_}) {
      if (!each->at_end) self->start(collect(self, *each));
    }
    co_await watch(self);
  } catch (...) {
    self->fail(std::current_exception());
  }
  self->closing_ = true;
  self->tasks_.cancel();
  co_await self->tasks_.wait_empty();
  co_return self->result();
}

COHORT_INLINE void execution::abort() {
  aborted_ = true;
  kill();
}

COHORT_INLINE descriptor execution::connect(command& what) {
  if (what.has_fd(0) && options_.input) fail_option("input");
  if (!what.has_fd(0)) what.in(options_.input ? stdio::pipe : stdio::null);
  if (!options_.merge_errors) {
    if (!what.has_fd(1)) what.out(stdio::pipe);
    if (!what.has_fd(2)) what.err(stdio::pipe);
    return descriptor();
  }
  if (what.has_fd(1)) fail_option("output");
  if (what.has_fd(2)) fail_option("error output");
  int ends[2];
  if (system::call.pipe2(ends, O_CLOEXEC) == -1) throw_error("exec: pipe for output", errno);
  descriptor reading(ends[0]), writing(ends[1]);
  out_.pipe = read_pipe(wake_.get_executor(), std::move(reading));
  what.out(stdio::borrow(writing.get())).err(stdio::borrow(writing.get()));
  return writing;
}

COHORT_INLINE void execution::fail_option(const char* what) const {
  throw_error(fmt::format("exec: {} of a command that has set its own", what), errc::invalid_option);
}

COHORT_INLINE void execution::adopt(child started) {
  child_ = std::move(started);
  state_ = child_.state_;
  if (!options_.merge_errors) out_.pipe = std::move(child_.out());
  err_.pipe = std::move(child_.err());
  for (auto* each : {&out_, &err_}) each->at_end = !each->pipe.is_open();
}

COHORT_INLINE void execution::start(asio::awaitable<void> task) {
  tasks_.start(std::move(task), [this](std::exception_ptr failure) {
    if (failure && !closing_) fail(failure);
    notify();
  });
}

COHORT_INLINE asio::awaitable<void> execution::feed(std::shared_ptr<execution> self) {
  auto& pipe = self->child_.in();
  if (!pipe.is_open()) co_return;
  try {
    if (self->options_.input) co_await pipe.write(*self->options_.input);
  } catch (...) {
    const auto error = caught();
    if (error.code() != std::errc::broken_pipe) throw;  // else it has read what it wanted
  }
  pipe.close();
}

COHORT_INLINE asio::awaitable<void> execution::collect(std::shared_ptr<execution> self, stream& from) {
  std::vector<char> piece(64 * 1024);  // what a pipe holds (pipe(7))
  while (!from.at_end && !self->overflow_) {
    const auto size = co_await from.pipe.read_some(asio::buffer(piece));
    self->take(from, piece.data(), size);
  }
}

COHORT_INLINE void execution::take(stream& from, const char* data, std::size_t size) {
  if (size == 0) from.at_end = true;
  const auto room = options_.max_output - from.text.size();
  from.text.append(data, std::min(size, room));
  if (size <= room) return;
  overflow_ = true;
  kill();
}

COHORT_INLINE asio::awaitable<void> execution::wait_end(std::shared_ptr<execution> self) {
  const on_exit notes_time([&self] { self->ended_ = clock::now(); });
  try {
    co_await child_state::wait_ended(self->state_);
  } catch (...) {
    const auto error = caught();
    if (error.code() != errc::status_taken) throw;  // else it has ended, and its output is there
  }
}

COHORT_INLINE asio::awaitable<void> execution::watch(std::shared_ptr<execution> self) {
  while (!self->done()) {
    const auto next = self->deadline();
    if (clock::now() >= next) {
      self->time_is_over();
      continue;
    }
    self->wake_.expires_at(next);
    asio_error ignored;
    co_await self->wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

COHORT_INLINE bool execution::done() const noexcept {
  if (aborted_ || refused_) return true;
  return ended_ && (killed_ || left_alone_ || (out_.at_end && err_.at_end));
}

COHORT_INLINE execution::clock::time_point execution::deadline() const {
  if (killed_) return clock::time_point::max();
  if (timed_out_) return step_end_;
  const auto end = options_.timeout ? after(begun_, *options_.timeout) : clock::time_point::max();
  return ended_ ? std::min(end, after(*ended_, options_.linger)) : end;
}

COHORT_INLINE execution::clock::time_point execution::after(clock::time_point start, std::chrono::milliseconds time) {
  const auto longest = std::chrono::duration_cast<std::chrono::milliseconds>(clock::time_point::max() - start);
  return time < longest ? start + std::max(time, std::chrono::milliseconds(0)) : clock::time_point::max();
}

COHORT_INLINE void execution::time_is_over() {
  if (!timed_out_ && (!options_.timeout || clock::now() < after(begun_, *options_.timeout))) {
    left_alone_ = true;
    return;
  }
  timed_out_ = true;
  const auto steps = options_.stop.steps();
  if (step_ == steps.size()) return kill();
  const auto& step = steps[step_++];
  step_end_ = after(clock::now(), step.grace);
  try {
    if (step.signal != 0 && !state_->signal_reachable(step.signal)) refused_ = true;
  } catch (...) {
    fail(std::current_exception());
  }
}

COHORT_INLINE void execution::fail(std::exception_ptr failure) {
  if (!failure_) failure_ = failure;
  kill();
}

COHORT_INLINE void execution::kill() {
  if (state_ && !std::exchange(killed_, true) && !state_->kill_tree()) refused_ = true;
  notify();
}

COHORT_INLINE output execution::result() {
  if (aborted_) throw std::system_error(operation_aborted());
  if (failure_) std::rethrow_exception(failure_);
  for (auto* each : {&out_, &err_}) drain(*each);
  output made;
  made.status = final_status();
  made.out = std::move(out_.text);
  made.err = std::move(err_.text);
  made.truncated = overflow_ || !out_.at_end || !err_.at_end;
  made.timed_out = timed_out_;
  made.duration = std::chrono::duration_cast<std::chrono::microseconds>(clock::now() - begun_);
  if (overflow_) {
    throw truncated_output(fmt::format("exec: more than {} bytes from \"{}\"", options_.max_output, name_),
                           std::move(made));
  }
  return made;
}

COHORT_INLINE exit_status execution::final_status() {
  try {
    const auto& status = state_->collect();
    finished_ = status.has_value();
    return status.value_or(exit_status());
  } catch (const std::system_error& error) {
    if (error.code() != errc::status_taken) throw;
    finished_ = true;
    return exit_status();
  }
}

COHORT_INLINE void execution::drain(stream& from) {
  char piece[4096];
  while (!from.at_end && !overflow_) {
    const auto size = system::retry(::read, from.pipe.native_handle(), piece, sizeof piece);
    if (size == -1) return;
    take(from, piece, static_cast<std::size_t>(size));
  }
}

}  // namespace cohort::detail
