// SPDX-License-Identifier: BSL-1.0
/// The jobs that tests of the pool folder give to the helper (tests/verbs/pool.cpp).
#pragma once

#include <cctype>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../include/cohort/ipc/handle.hpp"
#include "../../include/cohort/ipc/shared_buffer.hpp"
#include "../../include/cohort/pool/blocking.hpp"
#include "../../include/cohort/pool/job_process.hpp"

namespace cohort::test {

/// Anything that can become of a job.
struct deed {
  std::string what;
  std::int64_t number = 0;
  std::string text;
};

struct deed_job {
  using argument = deed;
  using result = std::string;

  static asio::awaitable<std::string> run(deed todo, job_context<deed_job>& context) {
    if (todo.what == "echo") co_return todo.text;
    if (todo.what == "pid") co_return std::to_string(::getpid());
    if (todo.what == "block") std::this_thread::sleep_for(std::chrono::milliseconds(todo.number));
    if (todo.what == "wait") {
      asio::steady_timer timer(context.get_executor(), std::chrono::milliseconds(todo.number));
      co_await timer.async_wait(asio::use_awaitable);
    }
    if (todo.what == "until") {  // there is a file of that name
      asio::steady_timer timer(context.get_executor());
      while (::access(todo.text.c_str(), F_OK) != 0) {
        timer.expires_after(std::chrono::milliseconds(1));
        co_await timer.async_wait(asio::use_awaitable);
      }
    }
    if (todo.what == "throw") throw std::runtime_error(todo.text);
    if (todo.what == "throw number") throw static_cast<int>(todo.number);
    if (todo.what == "exit") std::exit(static_cast<int>(todo.number));
    if (todo.what == "abort") {
      no_core();
      std::abort();
    }
    if (todo.what == "raise") {
      no_core();
      ::raise(static_cast<int>(todo.number));
    }
    // The process ends while a child of it holds its channel open.
    if (todo.what == "leave child") {
      if (::fork() == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(todo.number));
        ::_exit(0);
      }
      ::_exit(7);
    }
    // Returns twice, in two processes.
    if (todo.what == "fork") {
      if (::fork() == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      co_return "forked";
    }
    if (todo.what == "close channel") {
      for (int fd = 3; fd < 64; ++fd) ::close(fd);
      for (;;) ::pause();
    }
    // Crashes as often as it can make another file of that name.
    if (todo.what == "crash times") {
      for (std::int64_t n = 0; n < todo.number; ++n) {
        const int fd = ::open((todo.text + std::to_string(n)).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd != -1) ::raise(SIGKILL);
      }
    }
    // Says its pid and goes on.
    if (todo.what == "hang") {
      const int fd = ::open(todo.text.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ::dprintf(fd, "%d\n", static_cast<int>(::getpid()));
      ::close(fd);
      for (;;) ::pause();
    }
    if (todo.what == "crash later") {
      asio::co_spawn(context.get_executor(), later(todo.number), asio::detached);
    }
    if (todo.what == "grow") {
      static std::vector<std::string> kept;
      kept.emplace_back(static_cast<std::size_t>(todo.number), 'x');
    }
    if (todo.what == "large") co_return std::string(static_cast<std::size_t>(todo.number), 'x');
    co_return "done";
  }

 private:
  static void no_core() {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
  }

  static asio::awaitable<void> later(std::int64_t milliseconds) {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(milliseconds));
    co_await timer.async_wait(asio::use_awaitable);
    ::raise(SIGKILL);
  }
};

struct span_of_time {
  std::uint32_t steps = 0;
  std::uint32_t pause = 0;  // milliseconds between two reports
  bool blocks = false;
  std::string go_on;  // a file that it waits for before its last step
  std::string mark;   // a file that it makes when it has answered
};

/// Reports each of its steps.
struct steps_job {
  static constexpr std::string_view name = "steps";
  using argument = span_of_time;
  using result = std::uint32_t;
  using progress = std::uint32_t;

  static asio::awaitable<std::uint32_t> run(span_of_time todo, job_context<steps_job>& context) {
    for (std::uint32_t step = 1; step <= todo.steps; ++step) {
      while (step == todo.steps && !todo.go_on.empty() && ::access(todo.go_on.c_str(), F_OK) != 0) {
        if (todo.blocks) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        } else {
          asio::steady_timer timer(context.get_executor(), std::chrono::milliseconds(1));
          co_await timer.async_wait(asio::use_awaitable);
        }
      }
      if (todo.blocks) {
        std::this_thread::sleep_for(std::chrono::milliseconds(todo.pause));
      } else if (todo.pause != 0) {
        asio::steady_timer timer(context.get_executor(), std::chrono::milliseconds(todo.pause));
        co_await timer.async_wait(asio::use_awaitable);
      }
      co_await context.report(step);
    }
    if (!todo.mark.empty()) asio::co_spawn(context.get_executor(), make_later(todo.mark), asio::detached);
    co_return todo.steps;
  }

 private:
  // The answer has gone out after a few turns of the loop.
  static asio::awaitable<void> make_later(std::string path) {
    const auto executor = co_await asio::this_coro::executor;
    for (int turn = 0; turn < 100; ++turn) co_await asio::post(executor, asio::use_awaitable);
    ::close(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  }
};

struct letter {
  std::string text;
  handle<descriptor> to;
};

/// Writes into the handle that comes with it, and says what that is.
struct handle_job {
  using argument = letter;
  using result = std::string;

  static std::string run(letter what, job_context<handle_job>& context) {
    const handle_kind kind = what.to.kind();
    const auto fd = std::move(what.to).make(context.get_executor());
    if (what.text == "crash") ::raise(SIGKILL);
    if (what.text == "block") std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (::write(fd.get(), what.text.data(), what.text.size()) != static_cast<ssize_t>(what.text.size())) {
      return "cannot write";
    }
    return std::string(to_string(kind));
  }
};

/// Takes one handle and gives another back.
inline handle<shared_buffer> upper_case(handle<shared_buffer> given) {
  const auto text = std::move(given).make(asio::any_io_executor());
  const auto write = [&text](std::span<char> to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<char>(std::toupper(text.view()[i]));
  };
  return shared_buffer(text.size(), write);
}

/// Takes its argument by reference, and needs it for longer than its first step.
struct reference_job {
  using argument = std::string;
  using result = std::string;

  static asio::awaitable<std::string> run(const std::string& text) {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(5));
    co_await timer.async_wait(asio::use_awaitable);
    co_return text;
  }
};

/// Neither takes a context nor returns anything.
struct touch_job {
  using argument = std::string;
  using result = void;

  static void run(std::string path) {
    const descriptor made(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!made) throw_error("touch " + path, errno);
  }
};

inline bool is_prime(std::uint64_t n) {
  for (std::uint64_t d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return n > 1;
}

inline std::string join(const std::string& a, std::string b) noexcept { return a + b; }

inline asio::awaitable<int> forty_two() { co_return 42; }

inline asio::awaitable<std::string> later(const std::string& text, std::uint32_t milliseconds) {
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::milliseconds(milliseconds));
  co_await timer.async_wait(asio::use_awaitable);
  co_return text;
}

inline void do_nothing(int) {}

inline void fail(const std::string& text) {
  if (text == "crash") ::raise(SIGKILL);
  throw std::runtime_error(text);
}

using prime_job = function_job<&is_prime>;
using join_job = function_job<&join>;
using forty_two_job = function_job<&forty_two>;
using nothing_job = function_job<&do_nothing>;
using upper_case_job = function_job<&upper_case>;
using several_job = function_jobs<&is_prime, &join, &forty_two, &do_nothing, &fail, &later>;
using later_job = function_job<&later>;

/// One that the helper knows under this name, and as something else.
struct changed_job {
  static constexpr std::string_view name = "steps";
  using argument = std::string;
  using result = std::string;
  static std::string run(std::string text) { return text; }
};

/// One that the helper does not know.
struct unknown_job {
  using argument = int;
  using result = int;
  static int run(int n) { return n; }
};

}  // namespace cohort::test
