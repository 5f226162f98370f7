// SPDX-License-Identifier: BSL-1.0
/// What the tests of the pool folder share.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/pool/process_pool.hpp"
#include "../process/children.hpp"
#include "../support/harness.hpp"
#include "jobs.hpp"

namespace cohort::test {

/// Options for a test: the helper as program.
inline pool_options pool_of(unsigned processes) {
  pool_options options;
  options.processes = processes;
  options.program = helper("pool-worker");
  return options;
}

inline deed to(std::string what, std::int64_t number = 0, std::string text = "") {
  deed result;
  result.what = std::move(what);
  result.number = number;
  result.text = std::move(text);
  return result;
}

/// A directory of one test's own.
class scratch {
 public:
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "cohort-pool-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) FAIL("mkdtemp");
    path_ = name;
  }
  scratch(const scratch&) = delete;
  ~scratch() { std::filesystem::remove_all(path_); }

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// Kills what this process has started.
inline void kill_children() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto pid = std::atoi(entry.path().filename().c_str());
    std::ifstream file(entry.path() / "stat");
    std::string line;
    if (pid == 0 || !std::getline(file, line)) continue;
    const auto name_end = line.rfind(')');  // "pid (name) state ppid …" (proc(5))
    if (name_end != line.npos && std::atoi(line.c_str() + name_end + 4) == ::getpid()) ::kill(pid, SIGKILL);
  }
}

/// Whether a child of this process is dead, reaped by now or not.
inline bool a_child_has_ended() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

/// How a job has ended, for the tests to look at.
struct outcome {
  std::error_code code;
  std::string text;
  std::string value;
  exit_status status;
};

/// Runs a job to its end and tells how that was.
template <class Job>
asio::awaitable<outcome> outcome_of(process_pool<Job>& pool, typename Job::argument argument) {
  outcome seen;
  try {
    seen.value = co_await pool.run(argument);
  } catch (const job_failed& failed) {
    seen.code = failed.code();
    seen.text = failed.what();
    seen.status = failed.status();
  } catch (const std::system_error& error) {
    seen.code = error.code();
    seen.text = error.what();
  }
  co_return seen;
}

/// A job in a coroutine of its own, which can be cancelled.
class background {
 public:
  background(const asio::any_io_executor& executor, asio::awaitable<outcome> job) : state_(std::make_shared<state>()) {
    asio::co_spawn(executor, std::move(job),
                   asio::bind_cancellation_slot(state_->cancel.slot(), [s = state_](std::exception_ptr, outcome seen) {
                     s->seen = std::move(seen);
                     s->ended = true;
                   }));
  }

  bool ended() const { return state_->ended; }
  const outcome& seen() const { return state_->seen; }
  void cancel() { state_->cancel.emit(asio::cancellation_type::terminal); }

  asio::awaitable<outcome> wait() {
    const auto s = state_;
    const bool in_time = co_await eventually([&s] { return s->ended; });
    REQUIRE(in_time);
    co_return s->seen;
  }

 private:
  struct state {
    asio::cancellation_signal cancel;
    outcome seen;
    bool ended = false;
  };
  std::shared_ptr<state> state_;
};

template <class Job>
background start(process_pool<Job>& pool, typename Job::argument argument) {
  return background(pool.get_executor(), outcome_of(pool, std::move(argument)));
}

}  // namespace cohort::test
