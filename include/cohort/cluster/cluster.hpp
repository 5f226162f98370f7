// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <signal.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/queue.hpp"
#include "../core/task_group.hpp"
#include "../core/timeout.hpp"
#include "../ipc/peer.hpp"
#include "../process/detail/own_program.hpp"
#include "../worker/control.hpp"
#include "../worker/worker.hpp"
#include "address.hpp"
#include "distribution.hpp"
#include "events.hpp"
#include "leasing.hpp"
#include "lending.hpp"
#include "listening.hpp"
#include "options.hpp"
#include "reload.hpp"
#include "slot.hpp"
#include "stats.hpp"

namespace cohort {
namespace detail {

inline constexpr const char* slot_variable = "COHORT_SLOT";

}  // namespace detail

/// The primary of a cluster: keeps N workers alive behind a set of listeners.
///
/// It binds once, starts the workers, brings the connections to those that are ready, replaces those that end (a
/// draining one already while it drains), and stops them all before it ends itself. If it dies, its workers see their
/// channels close, drain and end.
///
/// Distinct objects: safe. Shared objects: unsafe.
class cluster {
 public:
  cluster(asio::any_io_executor executor, cluster_options options)
      : options_(std::move(options)),
        tasks_(executor),
        chores_(executor),
        stop_(executor),
        changed_(executor),
        events_(executor, 1024),
        words_(detail::own_words()) {}

  cluster(const cluster&) = delete;
  cluster& operator=(const cluster&) = delete;

  asio::any_io_executor get_executor() { return stop_.get_executor(); }

  /// Serves until stop() or kill() is called or the restart policy gives up, and returns when every worker is gone: 0,
  /// or 1 if it gave up. Call it once. Cancelling it is not supported: call stop().
  ///
  /// Throws `listen 127.0.0.1:8000: Address already in use` and its like before any worker is started.
  asio::awaitable<int> run() {
    const finished_guard finished{*this};
    wanted_ = options_.worker_count();
    begun_ = slot_worker::clock::now();
    for (auto& each : listen_on_all(options_)) distribute(std::move(each));
    for (unsigned number = 1; number <= wanted_; ++number) start(number, generation_, at_once);

    co_await stop_.wait();
    files_.clear();
    task_group closing(get_executor());
    for (const auto& each : distributors_) closing.start(each->stop(), [](std::exception_ptr) {});
    try {
      co_await with_timeout(closing.wait_empty(), options_.worker().drain_timeout);
    } catch (const std::system_error&) {
      // Time is up for what no worker takes.
      for (const auto& each : distributors_) each->cancel();
    }
    co_await closing.wait_empty();
    for (const auto& each : workers_) ask_to_stop(*each);
    co_await tasks_.wait_empty();
    co_await chores_.wait_empty();
    co_return gave_up_ ? 1 : 0;
  }

  /// Stops gracefully: listens no more, lets the workers finish, kills those that overrun the drain timeout by 5 s.
  void stop(const std::string& why) {
    if (stop_.is_set()) return;
    emit(cluster_event(cluster_event::kind::stopping, 0, 0, why));
    stop_.set();
    for (const auto& each : workers_) {
      if (each->state() == slot_state::waiting) each->cancel_wait();
    }
    changed_.notify();
    drop_what_nobody_takes();
  }

  /// Stops at once: kills every worker.
  void kill(const std::string& why) {
    stop(why);
    killed_ = true;
    for (const auto& each : distributors_) each->cancel();
    for (const auto& each : workers_) each->kill();
  }

  /// Replaces every worker by a new one, of the program as it is on the disk now: starts new ones, and has the old ones
  /// drain when the new ones are ready, see reload_options. A new one that does not get ready ends this, and what it
  /// was to replace goes on.
  ///
  /// One at a time: a second call waits for the first one, and then does its own. Cancelling throws operation_aborted;
  /// new workers that do not serve yet are sent away. When the cluster stops, so does this.
  asio::awaitable<reload_result> reload(std::string why = "asked") {
    reload_result result;
    const turn mine = co_await take_turn();
    if (stop_.is_set()) {
      result.reason = stopping_text;
      co_return result;
    }
    const auto begin = slot_worker::clock::now();
    result.generation = ++last_generation_;
    emit(cluster_event(cluster_event::kind::reloading, 0, 0, why));
    std::vector<unsigned> numbers;
    for (unsigned number = 1; number <= wanted_; ++number) numbers.push_back(number);
    co_await renew(std::move(numbers), options_.reload().max_surge, result);
    if (!result.success()) {
      const std::string where = result.aborted_at != 0 ? fmt::format("worker {}: ", result.aborted_at) : std::string();
      emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, where + result.reason));
      co_return result;
    }
    generation_ = result.generation;
    ++reloads_;
    cluster_event done(cluster_event::kind::reloaded);
    done.after = std::chrono::duration_cast<std::chrono::microseconds>(slot_worker::clock::now() - begin);
    emit(std::move(done));
    co_return result;
  }

  /// Has so many workers from now on, one at least: starts those that are missing, and has those of the highest slots
  /// drain. Throws what a further listener of distribution::reuse_port may throw, and has changed nothing then.
  void scale(unsigned workers) {
    workers = std::max(workers, 1u);
    if (stop_.is_set() || workers == wanted_) return;
    for (const auto& each : distributors_) each->resize(workers);
    const unsigned before = std::exchange(wanted_, workers);
    emit(cluster_event(cluster_event::kind::scaled, 0, 0, std::to_string(workers)));
    for (unsigned number = before + 1; number <= workers; ++number) start(number, generation_, at_once);
    const auto all = workers_;
    for (const auto& each : all) {
      if (each->number() > workers) retire(each);
    }
  }

  /// How many workers there should be.
  unsigned size() const noexcept { return wanted_; }

  /// Ends one worker as a crash would: it is replaced by the restart policy. False if there is none in this slot.
  bool kill_worker(unsigned slot) {
    bool found = false;
    for (const auto& each : workers_) {
      if (each->number() != slot || !each->peer.process()) continue;
      each->kill();
      found = true;
    }
    return found;
  }

  /// Tells the workers and the primary's own on_reopen() to open their log files again, which have been moved away.
  void reopen() {
    for (const auto& each : workers_) each->tell(control::reopen());
    if (options_.on_reopen()) options_.on_reopen()();
  }

  /// What there is now. Of each worker's own figures as it has told them last.
  cluster_stats stats() const {
    const auto now = slot_worker::clock::now();
    const auto since = [now](slot_worker::clock::time_point then) {
      return std::chrono::duration_cast<std::chrono::milliseconds>(now - then);
    };
    cluster_stats result;
    result.generation = generation_;
    result.wanted = wanted_;
    result.restarts = restarts_;
    result.reloads = reloads_;
    result.uptime = since(begun_);
    result.stopping = stop_.is_set();
    for (std::size_t i = 0; i < distributors_.size(); ++i) {
      listener_stats one;
      one.address = addresses_[i];
      one.queue = distributors_[i]->queue();
      result.listeners.push_back(std::move(one));
    }
    for (const auto& each : workers_) {
      worker_stats one;
      one.slot = each->number();
      one.generation = each->generation();
      one.pid = each->pid();
      one.state = each->state();
      if (one.state != slot_state::waiting) one.uptime = since(each->started());
      one.open = each->health.open;
      one.served = each->health.served;
      one.memory = each->health.memory;
      one.lag = std::chrono::duration_cast<std::chrono::microseconds>(each->lag);
      if (each->is_serving()) ++result.ready;
      result.workers.push_back(one);
    }
    std::sort(result.workers.begin(), result.workers.end(), [](const auto& a, const auto& b) {
      return a.slot != b.slot ? a.slot < b.slot : a.generation < b.generation;
    });
    for (const auto& [number, past] : past_) result.slots.push_back(past);
    return result;
  }

  /// The next event; empty when run() has ended and all have been taken. Nobody need read them: of those that wait, the
  /// last 1024 are kept. Cancelling takes nothing.
  asio::awaitable<std::optional<cluster_event>> next_event() { return events_.pop(); }

 private:
  using worker_ptr = std::shared_ptr<slot_worker>;

  // What a worker gets beyond its own deadline to end by itself before it is killed.
  static constexpr std::chrono::milliseconds kill_after{5'000};
  static constexpr std::chrono::milliseconds at_once{0};
  static constexpr const char* stopping_text = "the cluster stops";

  /// The right to replace workers that serve, which one has at a time.
  class turn {
   public:
    explicit turn(cluster& owner) : owner_(&owner) { owner_->renewing_ = true; }
    turn(turn&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    ~turn() {
      if (owner_ == nullptr) return;
      owner_->renewing_ = false;
      owner_->changed_.notify();
    }

   private:
    cluster* owner_;
  };

  /// Sends away those that do not serve yet.
  struct dismissal {
    cluster& owner;
    const std::vector<worker_ptr>& fresh;
    ~dismissal() {
      for (const auto& each : fresh) {
        if (each->candidate) owner.retire(each);
      }
    }
  };

  struct finished_guard {
    cluster& owner;
    ~finished_guard() { owner.events_.close(); }
  };

  void emit(cluster_event event) {
    while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
  }

  void distribute(listening opened) {
    const std::string text = opened.address;
    const auto number = static_cast<std::uint32_t>(distributors_.size());
    const auto owner = opened.inherited ? queue_owner::others : queue_owner::cluster;
    auto& sockets = opened.sockets;
    const auto lease = [&](picking how) {
      distributors_.push_back(std::make_unique<leasing_distributor>(
          get_executor(), std::move(sockets.front()), number, std::move(how), options_.worker().max_connections,
          [this, text](std::exception_ptr failure) { give_up(text, failure); }, owner));
    };
    switch (opened.distribution) {
      case distribution::round_robin: lease(pick_in_turn()); break;
      case distribution::least_connections: lease(pick_least_connections()); break;
      case distribution::by_address: lease(pick_by_address()); break;
      case distribution::custom: lease({options_.picker(), false, true}); break;
      case distribution::shared:
        distributors_.push_back(
            std::make_unique<shared_distributor>(get_executor(), std::move(sockets.front()), number, owner));
        break;
      case distribution::reuse_port:
        distributors_.push_back(std::make_unique<reuse_port_distributor>(get_executor(), std::move(sockets), number,
                                                                         std::move(opened.open_one_more), owner));
        break;
    }
    addresses_.push_back(text);
    if (!opened.file.path().empty()) files_.push_back(std::move(opened.file));
    emit(cluster_event(cluster_event::kind::listening, 0, 0, text));
  }

  worker_ptr start(unsigned number, unsigned generation, std::chrono::milliseconds pause, bool candidate = false) {
    auto who = std::make_shared<slot_worker>(get_executor(), number, generation);
    who->candidate = who->replaced = candidate;  // who replaces a candidate is not the restart policy's to say
    workers_.push_back(who);
    tasks_.start(supervise(who, pause), [this, who](std::exception_ptr failure) {
      std::erase(workers_, who);
      if (failure) {  // for want of memory, say: a slot must not be lost in silence
        leave(who);
        who->kill();
        give_up(fmt::format("worker {}", who->number()), failure);
      }
      if (workers_.empty() && !stop_.is_set()) give_up("no worker is left", nullptr);
    });
    return who;
  }

  /// A worker's whole life, from its start until it is reaped.
  asio::awaitable<void> supervise(worker_ptr who, std::chrono::milliseconds pause) {
    if (pause.count() > 0) co_await who->wait(pause);
    while (!may_start(*who)) co_await changed_.wait();
    std::string failure;
    if (!stop_.is_set() && !who->dismissed) {
      enter(*who, slot_state::starting);
      failure = co_await launch(who);
    }
    if (who->peer.process()) {
      if (stop_.is_set()) ask_to_stop(*who);
      failure = co_await attend(who);
      leave(who);
      if (!failure.empty()) fail(*who, failure);
      const exit_status status = co_await reap(who);
      if (who->trouble.empty()) who->trouble = fmt::to_string(status);
      auto& past = past_of(who->number());
      past.last_exit = status;
      past.last_reason = who->trouble;
      enter(*who, slot_state::dead);
      who->peer.close();
      drop_what_nobody_takes();
      cluster_event exited(cluster_event::kind::exited, who->number(), who->pid());
      exited.status = status;
      emit(std::move(exited));
      const bool unwanted = status.code() == static_cast<int>(worker_exit::do_not_restart);
      if (unwanted) {
        if (!who->replaced) emit(cluster_event(cluster_event::kind::not_restarted, who->number(), who->pid()));
        who->replaced = true;
      }
    } else {
      if (!failure.empty()) fail(*who, failure);
      enter(*who, slot_state::dead);
      drop_what_nobody_takes();
      // In a turn of its own, or each that cannot start would start the next one inside.
      co_await asio::post(get_executor(), asio::use_awaitable);
    }
    replace(*who);
  }

  void enter(slot_worker& who, slot_state next) {
    who.enter(next);
    changed_.notify();
  }

  void fail(slot_worker& who, const std::string& why) {
    who.trouble = why;
    emit(cluster_event(cluster_event::kind::failed, who.number(), who.pid(), why));
  }

  slot_stats& past_of(unsigned number) {
    auto& past = past_[number];
    past.slot = number;
    return past;
  }

  /// Whether a worker that waits has waited enough.
  bool may_start(const slot_worker& who) const {
    if (stop_.is_set() || who.dismissed || options_.max_starting() == 0) return true;
    const auto starting = std::count_if(workers_.begin(), workers_.end(),
                                        [](const auto& each) { return each->state() == slot_state::starting; });
    return static_cast<unsigned>(starting) < options_.max_starting();
  }

  /// Starts the process; says what went wrong.
  asio::awaitable<std::string> launch(worker_ptr who) {
    command program = options_.command() ? *options_.command() : detail::own_command(words_);
    program.in(stdio::null).die_with_parent(false).process_group(process_group::own);
    program.env(detail::slot_variable, std::to_string(who->number()));
    program.env("COHORT_GENERATION", std::to_string(who->generation()));
    try {
      who->peer = co_await spawn<control::protocol>(std::move(program));
    } catch (const std::system_error& error) {
      co_return error.what();
    }
    who->limit_state(options_.start_timeout());
    emit(cluster_event(cluster_event::kind::started, who->number(), who->pid()));
    if (killed_) who->kill();
    co_return std::string();
  }

  /// Hears what the worker says until its channel ends, or the process has; says what was wrong with it, if anything.
  asio::awaitable<std::string> attend(worker_ptr who) {
    task_group beside(get_executor());
    beside.start(watch(who), [](std::exception_ptr) {});
    if (options_.hang_timeout().count() != 0) beside.start(keep_pulse(who), [](std::exception_ptr) {});
    std::string failure = co_await listen_to(who);
    beside.cancel();
    co_await beside.wait_empty();
    co_return failure;
  }

  /// Closes the channel of a worker that is gone, if it does not end by itself: a process that the worker has forked
  /// may hold the other end.
  asio::awaitable<void> watch(worker_ptr who) {
    co_await who->peer.wait();
    asio::steady_timer last_words(get_executor(), std::chrono::milliseconds(200));
    co_await last_words.async_wait(asio::use_awaitable);
    who->peer.close();
  }

  /// Hears what the worker says until its channel ends; says what was wrong with it, if anything.
  asio::awaitable<std::string> listen_to(worker_ptr who) {
    try {
      while (auto message = co_await who->peer.receive()) {
        if (std::holds_alternative<control::ready>(*message)) {
          on_ready(who);
        } else if (const auto* word = std::get_if<control::draining>(&*message)) {
          on_draining(who, *word);
        } else if (const auto* answer = std::get_if<control::pong>(&*message)) {
          on_pong(who, *answer);
        } else if (const auto* count = std::get_if<control::ended>(&*message)) {
          who->ended = count->connections;
          for (const auto& each : distributors_) each->on_ended();
        }
      }
    } catch (const std::system_error& error) {
      // A worker that died in the middle of a word is told by its exit status; one that talks nonsense is ended.
      if (error.code() != errc::peer_closed && error.code() != asio::error::operation_aborted) {
        who->kill();
        co_return error.what();
      }
    }
    if (who->timed_out) co_return timeout_text(*who);
    co_return std::string();
  }

  asio::awaitable<exit_status> reap(worker_ptr who) {
    exit_status status;
    bool late = false;
    try {
      // Its channel has ended, so it is about to exit; one that closes it and stays has no right to.
      status = co_await with_timeout(who->peer.wait(), kill_after);
    } catch (const std::system_error& error) {
      late = error.code() == errc::timed_out;
    }
    if (late) {
      who->kill();
      try {
        status = co_await who->peer.wait();
      } catch (const std::system_error&) {
        // Somebody else in this process took the status: it is gone all the same.
      }
    }
    co_return status;
  }

  std::string timeout_text(const slot_worker& who) const {
    if (who.state() == slot_state::starting) {
      return fmt::format("not ready after {} s", std::chrono::duration<double>(options_.start_timeout()).count());
    }
    return fmt::format("not done {} s after the drain timeout", std::chrono::duration<double>(kill_after).count());
  }

  void on_ready(const worker_ptr& who) {
    if (who->state() != slot_state::starting) return;
    enter(*who, slot_state::ready);
    who->was_ready = true;
    options_.restart().note_ready(history_);
    cluster_event event(cluster_event::kind::ready, who->number(), who->pid());
    event.after = std::chrono::duration_cast<std::chrono::microseconds>(slot_worker::clock::now() - who->started());
    emit(std::move(event));
    if (!who->candidate) join(who);
  }

  void on_draining(const worker_ptr& who, const control::draining& word) {
    emit(cluster_event(cluster_event::kind::draining, who->number(), who->pid(), word.reason));
    if (who->state() != slot_state::starting && who->state() != slot_state::ready) return;
    who->trouble = word.reason;
    leave(who);
    enter(*who, slot_state::draining);
    drop_what_nobody_takes();
    who->limit_state(options_.worker().drain_timeout + kill_after);
    // The replacement starts now, before this one is gone; of one that wants none the exit status will tell.
    if (word.status != static_cast<int>(worker_exit::do_not_restart)) replace(*who);
  }

  void on_pong(const worker_ptr& who, const control::pong& answer) {
    who->health = answer;
    if (answer.number == who->pinged) who->lag = slot_worker::clock::now() - who->pinged_at;
    const char* const reason = who->is_serving() && !who->recycling ? recycle_reason(*who) : nullptr;
    if (reason == nullptr) return;
    who->recycling = true;
    chores_.start(recycle(who, reason), [](std::exception_ptr) {});
  }

  /// Asks the worker again and again whether it is there, and ends it when it is not.
  asio::awaitable<void> keep_pulse(worker_ptr who) {
    const auto interval = options_.ping_interval();
    const auto allowed = std::max<std::int64_t>(1, options_.hang_timeout() / interval);
    asio::steady_timer timer(get_executor());
    for (std::int64_t missed = 0; missed < allowed;) {
      timer.expires_after(interval);
      co_await timer.async_wait(asio::use_awaitable);
      if (who->state() == slot_state::starting) continue;  // it has its own limit
      if (who->health.number != who->pinged) {
        ++missed;
        continue;
      }
      missed = 0;
      control::ping question;
      question.number = ++who->pinged;
      who->pinged_at = slot_worker::clock::now();
      who->tell(question);
    }
    who->hung = true;
    fail(*who, fmt::format("hung: no answer for {} s", std::chrono::duration<double>(options_.hang_timeout()).count()));
    leave(who);
    who->signal(SIGABRT);
    timer.expires_after(kill_after);
    co_await timer.async_wait(asio::use_awaitable);
    who->kill();
  }

  /// Why a worker has had its time; nothing if it has not.
  const char* recycle_reason(const slot_worker& who) const {
    const auto& limits = options_.recycle();
    const double part = 1 - limits.jitter * who.fraction;
    const auto over = [part](auto value, auto limit) {
      return limit != 0 && static_cast<double>(value) >= static_cast<double>(limit) * part;
    };
    const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(slot_worker::clock::now() - who.started());
    if (over(who.health.served, limits.max_connections)) return "its connections";
    if (over(age.count(), limits.max_age.count())) return "its age";
    if (over(who.health.memory, limits.max_memory)) return "its memory";
    return nullptr;
  }

  asio::awaitable<void> recycle(worker_ptr who, const char* reason) {
    const turn mine = co_await take_turn();
    if (stop_.is_set() || !who->is_serving()) co_return;
    const std::string text = fmt::format("worker {}, because of {}", who->number(), reason);
    emit(cluster_event(cluster_event::kind::reloading, who->number(), who->pid(), text));
    reload_result result;
    result.generation = generation_;
    co_await renew(std::vector<unsigned>(1, who->number()), 1, result);
    if (!result.success() && !stop_.is_set()) {
      who->recycling = false;  // the next pong brings it up again
      emit(cluster_event(cluster_event::kind::reload_failed, who->number(), 0, result.reason));
    }
  }

  asio::awaitable<turn> take_turn() {
    while (renewing_) co_await changed_.wait();
    co_return turn(*this);
  }

  /// Starts new workers for these slots, `surge` at a time (0: all), and has the old ones drain when they are ready.
  asio::awaitable<void> renew(std::vector<unsigned> numbers, std::size_t surge, reload_result& result) {
    if (surge == 0) surge = numbers.size();
    for (std::size_t done = 0; done < numbers.size();) {
      std::vector<worker_ptr> fresh;
      const dismissal otherwise{*this, fresh};
      for (; fresh.size() < surge && done < numbers.size(); ++done) {
        fresh.push_back(start(numbers[done], result.generation, at_once, true));
      }
      while (!stop_.is_set() && count_in(fresh, slot_state::waiting) + count_in(fresh, slot_state::starting) != 0) {
        if (!failed_one(fresh, result)) co_await changed_.wait();
        if (!result.success()) co_return;
      }
      if (failed_one(fresh, result)) co_return;
      if (stop_.is_set()) {
        result.reason = stopping_text;
        co_return;
      }
      for (const auto& each : fresh) promote(each);
      result.replaced += static_cast<unsigned>(fresh.size());
    }
  }

  static std::ptrdiff_t count_in(const std::vector<worker_ptr>& workers, slot_state state) {
    return std::count_if(workers.begin(), workers.end(), [&](const auto& each) { return each->state() == state; });
  }

  /// Notes the first new worker that will not get ready.
  static bool failed_one(const std::vector<worker_ptr>& fresh, reload_result& result) {
    for (const auto& each : fresh) {
      if (each->state() != slot_state::draining && each->state() != slot_state::dead) continue;
      result.aborted_at = each->number();
      result.reason = each->trouble.empty() ? "it has ended" : each->trouble;
      return true;
    }
    return false;
  }

  /// Lets a new worker serve, and those drain that have served in its slot.
  void promote(const worker_ptr& who) {
    who->candidate = who->replaced = false;
    join(who);
    const auto all = workers_;
    for (const auto& each : all) {
      if (each != who && each->number() == who->number() && !each->candidate) retire(each);
    }
  }

  /// Has a worker drain that is not to be replaced.
  void retire(const worker_ptr& who) {
    who->replaced = true;
    who->candidate = false;
    if (who->state() == slot_state::waiting) {
      who->dismissed = true;
      who->cancel_wait();
      changed_.notify();
    }
    if (who->state() != slot_state::starting && who->state() != slot_state::ready) return;
    leave(who);
    enter(*who, slot_state::draining);
    who->limit_state(options_.worker().drain_timeout + kill_after);
    who->tell(control::drain());
  }

  void join(const worker_ptr& who) {
    for (const auto& each : distributors_) each->join(who);
  }

  void leave(const worker_ptr& who) {
    for (const auto& each : distributors_) each->leave(who);
  }

  /// While the cluster stops: lets go of connections that no worker will be there for.
  void drop_what_nobody_takes() {
    if (!stop_.is_set()) return;
    for (const auto& each : workers_) {
      if (each->state() == slot_state::starting || each->state() == slot_state::ready) return;
    }
    for (const auto& each : distributors_) each->cancel();
  }

  void ask_to_stop(slot_worker& who) {
    if (who.state() == slot_state::waiting || who.state() == slot_state::dead) return;
    if (who.state() != slot_state::stopping) enter(who, slot_state::stopping);
    who.limit_state(options_.worker().drain_timeout + kill_after);
    control::drain order;
    for (const auto& each : distributors_) order.empty_queues = order.empty_queues || each->workers_accept();
    who.tell(order);
    if (killed_) who.kill();
  }

  /// Sees to it that a worker's slot gets another one, once.
  void replace(slot_worker& who) {
    if (stop_.is_set() || std::exchange(who.replaced, true) || who.number() > wanted_) return;
    ++restarts_;
    ++past_of(who.number()).restarts;
    const auto pause = options_.restart().next(history_, slot_worker::clock::now(), who.was_ready, random_fraction());
    if (!pause) {
      give_up(who.was_ready ? "too many restarts" : fmt::format("worker {} did not get ready", who.number()), nullptr);
      return;
    }
    if (pause->count() > 0) {
      cluster_event event(cluster_event::kind::restarting, who.number());
      event.after = *pause;
      emit(std::move(event));
    }
    start(who.number(), generation_, *pause);
  }

  double random_fraction() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  void give_up(const std::string& why, const std::exception_ptr& failure) {
    if (gave_up_) return;
    gave_up_ = true;
    std::string text = why;
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::exception& error) {
      text += fmt::format(": {}", error.what());
    }
    emit(cluster_event(cluster_event::kind::gave_up, 0, 0, text));
    stop("gave up");
  }

  cluster_options options_;
  task_group tasks_;  // one for each worker
  task_group chores_;
  event stop_;
  event changed_;  // the state of a worker
  queue<cluster_event> events_;
  std::vector<std::string> words_;
  std::vector<std::unique_ptr<distributor>> distributors_;
  std::vector<socket_file> files_;  // of unix sockets, while it listens
  std::vector<worker_ptr> workers_;
  std::vector<std::string> addresses_;
  std::map<unsigned, slot_stats> past_;
  slot_worker::clock::time_point begun_{};
  unsigned wanted_ = 0;
  unsigned generation_ = 1;
  unsigned last_generation_ = 1;
  std::uint64_t restarts_ = 0;
  std::uint64_t reloads_ = 0;
  bool renewing_ = false;
  restart_policy::history history_;
  std::minstd_rand random_{std::random_device{}()};
  bool killed_ = false;
  bool gave_up_ = false;
};

}  // namespace cohort
