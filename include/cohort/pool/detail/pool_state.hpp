// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "../../core/asio.hpp"
#include "../../core/asio_error.hpp"
#include "../../core/error.hpp"
#include "../../core/event.hpp"
#include "../../core/scope.hpp"
#include "../../core/semaphore.hpp"
#include "../../core/timeout.hpp"
#include "../../ipc/peer.hpp"
#include "../../process/detail/own_program.hpp"
#include "../job_failed.hpp"
#include "../job_process.hpp"
#include "../options.hpp"
#include "../protocol.hpp"
#include "pool_process.hpp"

namespace cohort::pool::detail {

/// What a process_pool is, shared with the jobs under way, which may outlive it.
///
/// There is a permit for each process that may exist. A job that has one takes a process that is idle, or starts one. A
/// process that is to end keeps the permit until it has been reaped, so that there are never more.
template <class Job>
class pool_state : public std::enable_shared_from_this<pool_state<Job>> {
 public:
  using process = pool_process<Job>;
  using process_ptr = std::shared_ptr<process>;
  using state_ptr = std::shared_ptr<pool_state>;
  using result = typename Job::result;

  /// All of it runs on `strand`: several of its coroutines work on it at a time.
  pool_state(const asio::any_io_executor& strand, pool_options given)
      : options(cohort::detail::normalized(std::move(given))),
        permits_(strand, options.process_count()),
        changed_(strand),
        words_(cohort::detail::own_arguments()) {}

  asio::any_io_executor get_executor() { return changed_.get_executor(); }

  std::size_t processes() const noexcept { return processes_.size(); }
  std::size_t jobs() const noexcept { return jobs_; }
  std::size_t waiting() const noexcept { return permits_.waiting(); }
  std::uint64_t started() const noexcept { return started_; }

  /// Does one job, in whatever processes that takes. On the strand.
  template <class OnProgress>
  static asio::awaitable<result> run(state_ptr self, order<Job> work, OnProgress on_progress) {
    if (self->closing_) throw_error("process_pool: run", errc::closed);
    ++self->jobs_;
    const cohort::detail::on_exit counted([&] {
      if (--self->jobs_ == 0) self->changed_.notify();
    });
    turn mine(*self);
    for (unsigned crashes = 0;;) {
      co_await mine.take_process();
      const auto begun = clock::now();
      ending end;
      try {
        if (const auto limit = self->options.deadline) {
          end = co_await with_timeout(attempt(mine.get(), work, on_progress), *limit);
        } else {
          end = co_await attempt(mine.get(), work, on_progress);
        }
      } catch (...) {
        self->check_alive();
        if (cohort::detail::caught().code() != errc::timed_out || !self->is_overdue(begun)) throw;
        const double seconds = std::chrono::duration<double>(*self->options.deadline).count();
        throw job_failed(errc::timed_out, job_name<Job>(), fmt::format("not done after {} s", seconds));
      }
      switch (end.how) {
        case ending::answered:
          mine.give_back();
          if constexpr (std::is_void_v<result>) {
            co_return;
          } else {
            co_return std::move(end.value.result);
          }
        case ending::threw: mine.give_back(); throw job_failed(errc::job_threw, job_name<Job>(), std::move(end.text));
        case ending::refused: mine.give_back(); std::rethrow_exception(end.refusal);
        case ending::not_ready:
          self->check_alive();
          throw job_failed(errc::not_ready, job_name<Job>(), std::move(end.text), end.status);
        case ending::crashed:
          self->check_alive();
          if (crashes++ < self->options.retries) break;
          throw job_failed(errc::job_crashed, job_name<Job>(), std::move(end.text), end.status);
        case ending::never_begun: break;
      }
      mine.drop();
    }
  }

  /// Waits for all jobs, then for all processes; see process_pool::close.
  static asio::awaitable<void> close(state_ptr self) {
    self->closing_ = true;
    while (self->jobs_ != 0) co_await self->changed_.wait();
    for (const auto& each : std::exchange(self->idle_, {})) self->retire(*each);
    while (!self->processes_.empty()) co_await self->changed_.wait();
  }

  /// Ends everything at once, but for the reaping, which the execution context goes on with.
  void kill() noexcept {
    closing_ = killed_ = true;
    permits_.close();
    idle_.clear();
    for (const auto& each : processes_) {
      each->kill();
      each->peer.close();
    }
  }

  const pool_options options;

 private:
  using clock = std::chrono::steady_clock;

  // What a process gets to end by itself when it is not needed any more, before it is killed;
  static constexpr std::chrono::milliseconds end_grace{5'000};
  // and what one gets whose channel has ended: this is the last thing that the kernel does to a process.
  static constexpr std::chrono::milliseconds exit_grace{1'000};
  // For what a process has said before its end, when somebody else holds the channel open: a child of it, say.
  static constexpr std::chrono::milliseconds last_words{200};

  /// How the one attempt at a job has ended.
  struct ending {
    enum kind {
      answered,
      threw,
      crashed,
      not_ready,
      never_begun,  ///< the process had ended before it got the job
      refused,      ///< the job cannot be sent
    };

    ending() = default;

    kind how = crashed;
    answer<Job> value;
    std::string text;
    exit_status status;
    std::exception_ptr refusal;
  };

  /// A permit, and the process that the job has. When it goes, a process that was not given back is killed.
  class turn {
   public:
    explicit turn(pool_state& state) : owner_(state) {}
    turn(const turn&) = delete;
    ~turn() {
      if (process_) {
        drop();
      } else if (has_permit_) {
        owner_.permits_.release();
      }
    }

    process& get() noexcept { return *process_; }

    /// Waits for a permit; then takes an idle process, or starts one.
    asio::awaitable<void> take_process() {
      co_await owner_.acquire();
      has_permit_ = true;
      owner_.check_alive();
      if (!owner_.idle_.empty()) {
        process_ = std::move(owner_.idle_.back());
        owner_.idle_.pop_back();
      } else {
        process_ = co_await owner_.start();
      }
      process_->released.reset();
    }

    void give_back() {
      has_permit_ = false;
      owner_.take_back(std::exchange(process_, nullptr));
    }

    void drop() {
      has_permit_ = false;
      const process_ptr dropped = std::exchange(process_, nullptr);
      dropped->kill();
      owner_.let_go(*dropped);
    }

   private:
    pool_state& owner_;
    process_ptr process_;
    bool has_permit_ = false;
  };

  /// Throws errc::closed if the pool has gone, which has killed the process and ended the channel.
  void check_alive() const {
    if (killed_) throw_error("process_pool: run", errc::closed);
  }

  bool is_overdue(clock::time_point begun) const {
    return options.deadline && clock::now() - begun >= *options.deadline;
  }

  asio::awaitable<void> acquire() {
    try {
      co_await permits_.acquire();
    } catch (...) {
      cohort::detail::caught();
      check_alive();
      throw;
    }
  }

  asio::awaitable<process_ptr> start() {
    command program = options.program ? *options.program : cohort::detail::own_command(words_);
    if (!program.has_fd(0)) program.in(stdio::null);
    program.env(job_variable, job_name<Job>());
    auto made = std::make_shared<process>(get_executor());
    made->peer = co_await spawn<protocol<Job>>(std::move(program), options.channel);
    processes_.push_back(made);
    ++started_;
    made->kill_after(options.start_timeout);
    asio::co_spawn(get_executor(), watch(this->shared_from_this(), made), asio::detached);
    co_return made;
  }

  /// Waits for the end of a process.
  static asio::awaitable<void> watch(state_ptr self, process_ptr who) {
    try {
      who->status = co_await who->peer.wait();
    } catch (...) {
      who->unknown = cohort::detail::caught().what();  // somebody else has its status: it is gone all the same
    }
    who->kill_no_more();
    who->ended.set();
    std::erase(self->idle_, who);
    std::erase(self->processes_, who);
    if (who->has_permit) self->permits_.release();
    self->changed_.notify();
    do {
      try {
        co_await with_timeout(who->released.wait(), last_words);
      } catch (...) {
        cohort::detail::caught();
      }
    } while (who->reporting);  // what it said last has not been read
    who->peer.close();
  }

  /// Takes a process back from a job that has ended as it should, and the permit.
  void take_back(process_ptr who) {
    if (is_used_up(*who)) {
      retire(*who);
      let_go(*who);
    } else if (who->ended.is_set()) {
      let_go(*who);
    } else {
      who->released.set();
      idle_.push_back(std::move(who));
      permits_.release();
    }
  }

  bool is_used_up(const process& who) const {
    if (options.max_jobs && who.jobs >= *options.max_jobs) return true;
    return options.max_rss && who.resident() > *options.max_rss;
  }

  /// Has a process end by itself.
  void retire(process& who) {
    who.peer.close();
    if (!who.ended.is_set()) who.kill_after(end_grace);
  }

  /// Ends a job's hold on a process that is about to end, and keeps the permit until then.
  void let_go(process& who) {
    who.reporting = false;
    who.released.set();
    if (who.ended.is_set()) {
      permits_.release();
    } else {
      who.has_permit = true;
    }
  }

  /// Has a process do the job.
  template <class OnProgress>
  static asio::awaitable<ending> attempt(process& who, order<Job>& work, OnProgress& on_progress) {
    ending end;
    bool sent = false;
    work.number = who.jobs + 1;
    try {
      co_await who.peer.send(work);
      sent = true;
    } catch (...) {
      const auto error = cohort::detail::caught();
      if (error.code() == errc::message_too_large || error.code() == std::errc::bad_file_descriptor) {
        end.how = ending::refused;
        end.refusal = std::current_exception();
        co_return end;
      }
      if (error.code() != errc::peer_closed) throw;
    }
    if (!sent && who.jobs != 0) {
      end.how = ending::never_begun;
      co_return end;
    }
    ++who.jobs;

    for (;;) {
      auto said = co_await receive(who);
      if (!said) break;
      if (is_about_another<Job>(*said, who.jobs)) {
        // Two of them hold this process's end of the channel: none of its words can be believed.
        who.talks_twice = true;
        who.kill();
        break;
      }
      if (auto* const done = std::get_if<answer<Job>>(&*said)) {
        end.how = ending::answered;
        end.value = std::move(*done);
        co_return end;
      }
      if (auto* const thrown = std::get_if<failure>(&*said)) {
        end.how = ending::threw;
        end.text = std::move(thrown->text);
        co_return end;
      }
      if (std::holds_alternative<ready>(*said)) {
        who.ready = true;
        who.kill_no_more();
      } else if constexpr (cohort::detail::reports_progress<Job>) {
        const auto& report = std::get<progress_report<Job>>(*said);
        if (report.number != who.jobs) continue;
        const auto& progress = report.progress;
        if constexpr (std::is_same_v<decltype(on_progress(progress)), asio::awaitable<void>>) {
          who.reporting = true;
          co_await on_progress(progress);
          who.reporting = false;
        } else {
          on_progress(progress);
        }
      }
    }

    // Its channel has ended, so it is about to end; one that closes it and stays has no right to.
    try {
      co_await with_timeout(who.ended.wait(), exit_grace);
    } catch (...) {
      if (cohort::detail::caught().code() != errc::timed_out) throw;
      who.kill();
    }
    co_await who.ended.wait();
    end.how = who.ready ? ending::crashed : ending::not_ready;
    end.status = who.status;
    end.text = who.unknown.empty() ? fmt::format("{}", who.status) : who.unknown;
    if (who.talks_twice) end.text += ", because it has answered twice";
    if (who.overdue) end.text += ", because it took too long";
    co_return end;
  }

  /// The next message of a process; empty when it has ended.
  static asio::awaitable<std::optional<typename protocol<Job>::to_parent>> receive(process& who) {
    try {
      co_return co_await who.peer.receive();
    } catch (...) {
      const auto error = cohort::detail::caught();
      // In the middle of a message; or its end was seen before that of its channel, which watch() has closed.
      const bool closed = error.code() == errc::closed || error.code() == operation_aborted();
      if (error.code() != errc::peer_closed && !(closed && who.ended.is_set())) throw;
    }
    co_return std::nullopt;
  }

  semaphore permits_;
  event changed_;
  std::vector<std::string> words_;
  std::vector<process_ptr> processes_;
  std::vector<process_ptr> idle_;  // the last one used is the first one to be used again
  std::size_t jobs_ = 0;
  std::uint64_t started_ = 0;
  bool closing_ = false;
  bool killed_ = false;
};

}  // namespace cohort::pool::detail
