// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/safe_in_await.hpp"
#include "../core/strand.hpp"
#include "../ipc/channel.hpp"
#include "completions.hpp"
#include "detail/pool_state.hpp"
#include "job.hpp"
#include "job_process.hpp"
#include "options.hpp"
#include "protocol.hpp"

namespace cohort {

/// What a pool does at one moment.
struct pool_stats {
  std::size_t processes = 0;  ///< that there are, those that are ending among them
  std::size_t running = 0;    ///< jobs that have a process, or start one
  std::size_t waiting = 0;    ///< jobs that wait for a process
  std::uint64_t started = 0;  ///< processes since the beginning
};

/// Processes that do jobs, one at a time each.
///
///     cohort::process_pool<sum_job> pool(executor);
///     const double sum = co_await pool.run(1, 1'000'000);
///
/// The processes run this program again (see pool::serve_if_worker, which main must call first) or another one. They
/// are started when they are needed and kept for the next job. Whatever a job does to its process, it does to that one
/// alone: a job that crashes, hangs or is cancelled costs its process, and the next job starts another one.
///
/// io_context::run() does not return while there are processes: close() or destroy the pool. Destroying it kills them
/// (SIGKILL), as soon as the executor runs, and leaves them to the execution context to reap; jobs under way end with
/// errc::closed.
///
/// A job that forks, and whose copy returns too, costs its process when the second answer is read: the next job of that
/// process fails then as if it had crashed.
///
/// The pool runs on a strand of its own, so that its coroutines may be called on executors of several threads, also by
/// several at a time. What else there is, is_full() and stats(), belongs on get_executor(). Distinct objects: safe.
/// Shared objects: unsafe, but for that.
template <pool_job Job>
class process_pool {
  using state = pool::detail::pool_state<Job>;

 public:
  using argument = typename Job::argument;
  using result = typename Job::result;
  using results = std::conditional_t<std::is_void_v<result>, void, std::vector<result>>;

  /// Starts nothing yet. Throws errc::invalid_option in a process that was itself started for a pool and whose main has
  /// not called pool::serve_if_worker(): it would start others without end.
  explicit process_pool(const asio::any_io_executor& executor, const pool_options& options = {})
      : state_(std::make_shared<state>(detail::new_strand(executor), options)) {
    if (std::getenv(pool::detail::job_variable) != nullptr) {
      throw_error("process_pool: main has not called pool::serve_if_worker() first", errc::invalid_option);
    }
  }

  process_pool(const process_pool&) = delete;
  process_pool& operator=(const process_pool&) = delete;

  ~process_pool() {
    asio::dispatch(state_->get_executor(), [state = state_] { state->kill(); });
  }

  /// The strand of the pool, on the executor that it was made with.
  asio::any_io_executor get_executor() { return state_->get_executor(); }

  /// Has a process do the job with the argument that `arguments` make, or are; waits while all processes are busy, in
  /// turn.
  ///
  /// Throws job_failed, see there; errc::closed after close() or when the pool is destroyed; message_too_large; what
  /// spawn() throws if a process cannot be started. Cancelling throws operation_aborted, and kills the process if it
  /// has the job already.
  ///
  /// Sockets, files and other handles travel in the argument, as a handle<T> (see channel::send(): it is encoded in
  /// 128 KiB at most then). They are closed here when this has ended, well or not; EBADF for one that is not open.
  template <class... Arguments>
  requires std::constructible_from<argument, Arguments...>
  [[nodiscard]] asio::awaitable<result> run(Arguments&&... arguments) {
    check_safe<Arguments&&...>();
    return detail::run_on(state_->get_executor(),
                          state::run(state_, make_order(std::forward<Arguments>(arguments)...),
                                     pool::detail::ignore_progress()));
  }

  /// The same, and calls `on_progress(const Job::progress&)` for each report of the job while it runs, on the pool's
  /// strand. If that returns
  /// an awaitable<void>, it is awaited before the next one is read, which makes a job wait that reports faster. What
  /// it throws ends the job and goes to the caller. A job that is tried again reports again.
  template <class OnProgress, class... Arguments>
    requires(std::constructible_from<argument, Arguments...>&& detail::reports_progress<Job>)
  [[nodiscard]] asio::awaitable<result> run_with_progress(OnProgress&& on_progress, Arguments&&... arguments) {
    check_safe<Arguments&&...>();
    static_assert(detail::safe_callable_in_await<OnProgress&&>,
                  "GCC before 13 would destroy this function's captures twice inside co_await: name it first "
                  "(auto show = [text](percent p) { ... }; co_await pool.run_with_progress(show, 1);)");
    return detail::run_on(state_->get_executor(),
                          state::template run<std::decay_t<OnProgress>>(
                              state_, make_order(std::forward<Arguments>(arguments)...),
                              std::forward<OnProgress>(on_progress)));
  }

  /// Does the job for each element of a range; the results are in the order of the range.
  ///
  /// Throws what the first job throws that fails; the others are killed then, as when this is cancelled. Takes no more
  /// from the range than can run and wait. A range that is an lvalue must outlive the operation.
  template <std::ranges::input_range Range>
  requires std::constructible_from<argument, std::ranges::range_reference_t<Range>>
  [[nodiscard]] asio::awaitable<results> map(Range&& range) {
    return map_all(as_completed(std::forward<Range>(range)));
  }

  /// Does the job for each element of a range, and returns them one by one as they end: see completions.
  template <std::ranges::input_range Range>
  requires std::constructible_from<argument, std::ranges::range_reference_t<Range>>
  [[nodiscard]] completions<Job, std::views::all_t<Range>> as_completed(Range&& range) {
    return {state_, std::views::all(std::forward<Range>(range))};
  }

  /// Takes no more jobs, finishes those that run or wait, lets the processes end, and completes when they are reaped.
  ///
  /// A process that does not end by itself within 5 s is killed. Cancelling throws operation_aborted; the pool takes no
  /// jobs then either.
  [[nodiscard]] asio::awaitable<void> close() { return detail::run_on(state_->get_executor(), state::close(state_)); }

  /// Whether as many jobs wait for a process as pool_options::queue allows. A further run() waits all the same, behind
  /// them; a server may rather want to refuse the job.
  bool is_full() const noexcept { return state_->waiting() >= state_->options.queue; }

  pool_stats stats() const noexcept {
    pool_stats now;
    now.processes = state_->processes();
    now.waiting = state_->waiting();
    now.running = state_->jobs() - now.waiting;
    now.started = state_->started();
    return now;
  }

 private:
  template <class... Arguments>
  static constexpr void check_safe() {
    static_assert((detail::safe_in_await<Arguments> && ...),
                  "GCC before 13 would destroy this argument twice inside co_await: name it first "
                  "(range r{1, \"x\"}; co_await pool.run(r);) or let it be made inside (co_await pool.run(1, \"x\");)");
  }

  template <class... Arguments>
  static pool::order<Job> make_order(Arguments&&... arguments) {
    return pool::order<Job>{argument(std::forward<Arguments>(arguments)...)};
  }

  template <class View>
  static asio::awaitable<results> map_all(completions<Job, View> jobs) {
    if constexpr (std::is_void_v<result>) {
      while (auto done = co_await jobs.next()) done->get();
    } else {
      results in_order;
      while (auto done = co_await jobs.next()) {
        if (done->index() >= in_order.size()) in_order.resize(done->index() + 1);
        in_order[done->index()] = done->get();
      }
      co_return in_order;
    }
  }

  std::shared_ptr<state> state_;
};

}  // namespace cohort
