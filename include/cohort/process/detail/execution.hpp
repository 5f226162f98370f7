// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "../../core/asio.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/task_group.hpp"
#include "../child.hpp"
#include "../command.hpp"
#include "../exec_options.hpp"
#include "../output.hpp"
#include "../pipe.hpp"

namespace cohort::detail {

/// One run of exec_file. Held by each of its coroutines, so that it outlives them whatever becomes of the others.
///
/// One coroutine feeds the program, one reads each of its outputs, one waits for its end, and run() waits for them and
/// for the time. The program is reaped last: until then its number, and so its process group, is its own, and what it
/// has left in the background can be stopped.
class execution {
 public:
  execution(const asio::any_io_executor& executor, exec_options options)
      : options_(std::move(options)), tasks_(executor), wake_(executor) {}
  execution(const execution&) = delete;

  ~execution();

  static asio::awaitable<output> run(std::shared_ptr<execution> self, command what);

  /// The caller has been cancelled.
  void abort();

 private:
  using clock = std::chrono::steady_clock;

  struct stream {
    read_pipe pipe;
    std::string text;
    bool at_end = true;
  };

  // Sets what the program reads and writes. Returns the writing end of the pipe that both outputs go to, if they do.
  descriptor connect(command& what);

  [[noreturn]] void fail_option(const char* what) const;

  void adopt(child started);

  void start(asio::awaitable<void> task);

  static asio::awaitable<void> feed(std::shared_ptr<execution> self);

  static asio::awaitable<void> collect(std::shared_ptr<execution> self, stream& from);

  void take(stream& from, const char* data, std::size_t size);

  static asio::awaitable<void> wait_end(std::shared_ptr<execution> self);

  static asio::awaitable<void> watch(std::shared_ptr<execution> self);

  void notify() { wake_.cancel(); }

  bool done() const noexcept;

  clock::time_point deadline() const;

  static clock::time_point after(clock::time_point start, std::chrono::milliseconds time);

  void time_is_over();

  void fail(std::exception_ptr failure);

  void kill();

  // How the program has ended, if that is known.
  exit_status final_status();

  output result();

  // What a killed program has written, and the loop has not seen yet.
  void drain(stream& from);

  // What is known of one run: of its options, its outputs, its times, and how it ends.
  exec_options options_;
  std::string name_;
  task_group tasks_;
  asio::steady_timer wake_;
  child child_;
  std::shared_ptr<child_state> state_;
  stream out_, err_;
  clock::time_point begun_ = clock::now(), step_end_;
  std::optional<clock::time_point> ended_;
  std::size_t step_ = 0;
  std::exception_ptr failure_;
  bool aborted_ = false, killed_ = false, timed_out_ = false, left_alone_ = false, overflow_ = false;
  bool refused_ = false;  // the program does not take our signals, so that nobody knows when it ends
  bool closing_ = false, finished_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "execution.ipp"
#endif
