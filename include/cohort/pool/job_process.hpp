// SPDX-License-Identifier: BSL-1.0
/// Inside a pool's process: takes jobs, does them, answers.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"
#include "../core/asio_error.hpp"
#include "../core/error.hpp"
#include "../core/safe_in_await.hpp"
#include "../core/text_of.hpp"
#include "../ipc/channel.hpp"
#include "../ipc/peer.hpp"
#include "../process/detail/own_program.hpp"
#include "job.hpp"
#include "protocol.hpp"

namespace cohort {

namespace pool::detail {

inline constexpr const char* job_variable = "COHORT_POOL_JOB";

template <class Job>
using worker_channel = channel<typename protocol<Job>::to_parent, typename protocol<Job>::to_child>;

template <class Job>
class service;

}  // namespace pool::detail

/// What a job has beside its argument, in the process that does it. It is there until the job ends.
///
/// Distinct objects: safe. Shared objects: unsafe.
template <class Job>
class job_context {
 public:
  job_context(const job_context&) = delete;
  job_context& operator=(const job_context&) = delete;

  asio::any_io_executor get_executor() { return channel_.get_executor(); }

  /// Sends the progress that `arguments` make, or are, to who has called run_with_progress(), and to nobody otherwise.
  ///
  /// Completes when the kernel has it; suspends only while the parent does not read. Throws as channel::send() does.
  template <class... Arguments>
    requires(detail::reports_progress<Job>)
  [[nodiscard]] asio::awaitable<void> report(Arguments&&... arguments) {
    static_assert((detail::safe_in_await<Arguments&&> && ...),
                  "GCC before 13 would destroy this progress twice inside co_await: name it first, or let it be made "
                  "inside (co_await context.report(50, \"half\");)");
    using progress = typename Job::progress;
    using message = pool::progress_report<Job>;  // made inside: a message that is named has to outlive the sending
    return channel_.template send<message>(progress(std::forward<Arguments>(arguments)...), number_);
  }

 private:
  friend class pool::detail::service<Job>;

  job_context(pool::detail::worker_channel<Job>& channel, std::uint64_t number) : channel_(channel), number_(number) {}

  pool::detail::worker_channel<Job>& channel_;
  std::uint64_t number_;  // of the order
};

namespace pool {
namespace detail {

/// A process's end of a pool, for one kind of job.
template <class Job>
class service {
 public:
  service(const asio::any_io_executor& executor, const channel_options& options)
      : channel_(parent<protocol<Job>>(executor, options)) {}

  /// Does one job after the other, until the pool lets go of this process.
  asio::awaitable<void> run() {
    co_await channel_.template send<ready>();
    while (auto work = co_await channel_.receive()) {
      co_await channel_.flush();  // a job that blocks would keep back the word that its handles were taken
      const auto number = work->number;
      const std::string text = co_await perform(std::move(work->argument), number);
      if (!text.empty()) co_await channel_.template send<failure>(text, number);
    }
  }

 private:
  /// Does a job and answers; what it has thrown, if it has.
  asio::awaitable<std::string> perform(typename Job::argument argument, std::uint64_t number) {
    try {
      job_context<Job> context(channel_, number);
      if constexpr (std::is_void_v<typename Job::result>) {
        co_await start(std::move(argument), context);
        const answer<Job> done{{}, number};
        co_await channel_.send(done);
      } else {
        auto result = co_await start(std::move(argument), context);
        const answer<Job> done{std::move(result), number};
        co_await channel_.send(done);
      }
    } catch (...) {
      std::string text = cohort::detail::text_of(std::current_exception());
      if (text.empty()) text = "an exception without a text";
      co_return text;
    }
    co_return std::string();
  }

  static asio::awaitable<typename Job::result> start(typename Job::argument argument, job_context<Job>& context) {
    const auto begin = [&] {  // the argument stays here: a coroutine may have taken it by reference
      if constexpr (cohort::detail::runs_with_context<Job>) {
        return Job::run(std::move(argument), context);
      } else {
        return Job::run(std::move(argument));
      }
    };
    if constexpr (std::is_same_v<decltype(begin()), typename Job::result>) {
      co_return begin();
    } else {
      auto running = begin();
      co_return co_await std::move(running);
    }
  }

  worker_channel<Job> channel_;
};

template <class Job>
int serve(const channel_options& options) {
  asio::io_context context(1);
  std::exception_ptr failure;
  service<Job> mine(context.get_executor(), options);
  asio::co_spawn(context, mine.run(), [&](std::exception_ptr thrown) {
    failure = thrown;
    context.stop();  // whatever the jobs have left running
  });
  context.run();
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (...) {
    const auto error = cohort::detail::caught();
    if (error.code() != errc::peer_closed) throw;
  }
  return 0;
}

}  // namespace detail

/// The main function of a program that does the jobs of a process_pool: of the pool that has started it, for as long as
/// that wants it. Returns the status to exit with.
///
/// Each Job is one that some pool asks for. `options` are for its end of the channel. Writes to stderr and returns 78
/// (EX_CONFIG of sysexits.h) when no pool has started this process, or one that asks for another job.
template <class... Job>
int worker_main(const channel_options& options = {}) {
  static_assert(sizeof...(Job) > 0 && (pool_job<Job> && ...), "cohort: worker_main<Job…>() takes jobs, see pool_job");
  const char* const wanted = std::getenv(detail::job_variable);
  if (wanted == nullptr) {
    std::fprintf(stderr, "worker_main: not started by a process_pool\n");
    return 78;
  }
  const std::string name = wanted;
  ::unsetenv(detail::job_variable);  // a job may have a pool of its own
  cohort::detail::show_own_name();
  int status = 78;
  try {
    const bool known = ((name == job_name<Job>() && (status = detail::serve<Job>(options), true)) || ...);
    if (!known) std::fprintf(stderr, "worker_main: there is no job \"%s\" here\n", name.c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker_main: %s\n", error.what());
    status = 1;
  }
  return status;
}

/// The same in a program whose own process has the pool: the first thing in main.
///
///     int main() {
///       if (const auto status = cohort::pool::serve_if_worker<sum_job>()) return *status;
///       …
///
/// Empty, and does nothing, in a process that no pool has started. Call it before there are other threads.
template <class... Job>
std::optional<int> serve_if_worker(const channel_options& options = {}) {
  if (std::getenv(detail::job_variable) == nullptr) return std::nullopt;
  return worker_main<Job...>(options);
}

}  // namespace pool
}  // namespace cohort
