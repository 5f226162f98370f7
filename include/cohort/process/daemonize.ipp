// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "daemonize.hpp"

#include "../core/config.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/asio_error.hpp"
#include "../core/system.hpp"
#include "../core/timeout.hpp"
#include "command.hpp"
#include "detail/own_program.hpp"
#include "exit_status.hpp"
#include "spawn.hpp"
#include "stop_policy.hpp"

namespace cohort::this_process {

COHORT_INLINE void daemon::failed(std::string_view text) noexcept {
  text = text.substr(0, text.find('\0'));
  tell(text.empty() ? "daemonize: failed" : text);
}

COHORT_INLINE daemon daemon::begin(const daemon_options& options) {
  daemon self;
  self.starter_ = take_starter();
  try {
    self.set_up(options);
  } catch (const std::exception& error) {
    self.failed(error.what());
    // or the terminal would have it twice, when the caller says what this throws
    const descriptor nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    for (const int output : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(nowhere.get(), output);
    throw;
  }
  return self;
}

COHORT_INLINE descriptor daemon::take_starter() {
  const std::string value = std::getenv(variable);
  struct stat file = {};
  if (value != std::to_string(number) || ::fstat(number, &file) == -1 || !S_ISFIFO(file.st_mode)) {
    throw_error(fmt::format("daemonize: {}={}", variable, value), errc::invalid_option);
  }
  ::unsetenv(variable);
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  // Started with closed outputs, the pid file would be opened under their numbers, and lost when they are connected.
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(standard, F_GETFD) == -1) (void)!::open("/dev/null", O_RDWR);
  }
  return descriptor(number);
}

COHORT_INLINE void daemon::set_up(const daemon_options& options) {
  if (::setsid() == -1) throw_error("daemonize: setsid", errno);
  if (options.umask) ::umask(*options.umask);
  if (options.pid_file) pid_file_ = cohort::pid_file(*options.pid_file, "daemonize: pid file");
  const auto out = open(options.out);
  const auto err = open(options.err);
  if (system::call.chdir(options.cwd.c_str()) == -1) {
    throw_error(fmt::format("daemonize: chdir \"{}\"", options.cwd), errno);
  }
  connect(out, STDOUT_FILENO);
  connect(err, STDERR_FILENO);
}

COHORT_INLINE descriptor daemon::open(const std::string& path) {
  const int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC;
  descriptor file(system::retry(system::call.open, path.c_str(), flags, mode_t(0666)));
  if (!file) throw_error(fmt::format("daemonize: open \"{}\"", path), errno);
  return file;
}

COHORT_INLINE void daemon::connect(const descriptor& file, int target) {
  if (system::retry(system::call.dup2, file.get(), target) == -1) throw_error("daemonize: dup2", errno);
}

COHORT_INLINE void daemon::tell(std::string_view text) noexcept {
  if (!starter_) return;
  char message[PIPE_BUF];
  const auto size = text.copy(message, sizeof message - 1);
  message[size] = '\0';
  detail::write_quietly(starter_.get(), asio::buffer(message, size + 1));
  starter_.reset();
}

COHORT_INLINE asio::awaitable<int> daemon::start(const daemon_options& options) {
  int ends[2];
  if (system::call.pipe2(ends, O_CLOEXEC) == -1) throw_error("daemonize: pipe", errno);
  descriptor reading(ends[0]), writing(ends[1]);
  const auto executor = co_await asio::this_coro::executor;
  read_pipe news(executor, std::move(reading));

  auto again = detail::own_command(detail::own_arguments());
  again.in(stdio::null).fd(number, stdio::borrow(writing.get())).env(variable, std::to_string(number));
  // Neither a group of its own, whose leader could not call setsid, nor an end together with this process.
  again.process_group(process_group::inherit).die_with_parent(false);
  child started = co_await spawn(std::move(again));
  writing.reset();

  std::string failure;
  stop_policy ending(0, std::chrono::seconds(10));  // it is about to end by itself
  try {
    failure = co_await with_timeout(outcome(started, news), options.ready_within);
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() != errc::timed_out) throw;
    failure = fmt::format("daemonize: the daemon was not ready within {} ms", options.ready_within.count());
    ending = stop_policy();
  }
  if (failure.empty()) {
    started.detach();
    co_return EXIT_SUCCESS;
  }
  std::fprintf(stderr, "%s\n", failure.c_str());
  co_await started.stop(ending);
  co_return EXIT_FAILURE;
}

COHORT_INLINE asio::awaitable<std::string> daemon::outcome(child& started, read_pipe& news) {
  std::string said;
  auto end = said.npos;
  while (end == said.npos) {
    char piece[PIPE_BUF];
    const auto size = co_await news.read_some(asio::buffer(piece));
    if (size == 0) {
      const auto status = co_await started.wait();
      co_return fmt::format("daemonize: the daemon ended before it was ready: {}", status);
    }
    said.append(piece, size);
    end = said.find('\0');
  }
  said.resize(end);
  co_return said;
}

COHORT_INLINE daemon daemonize(const daemon_options& options) {
  if (daemon::running_) throw_error("daemonize: this daemon", errc::already_running);
  if (std::getenv(daemon::variable) != nullptr) {
    daemon::running_ = true;
    detail::show_own_name();
    return daemon::begin(options);
  }
  int status = EXIT_FAILURE;
  {
    asio::io_context context(1);
    asio::co_spawn(context, daemon::start(options), [&status](std::exception_ptr failure, int result) {
      if (failure) std::rethrow_exception(failure);
      status = result;
    });
    context.run();
  }
  std::exit(status);
}

}  // namespace cohort::this_process
