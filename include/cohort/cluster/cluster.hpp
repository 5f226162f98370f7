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
#include <unistd.h>

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
#include "supervisor.hpp"
#include "upgrade.hpp"

namespace cohort {
/// The primary of a cluster: keeps N workers alive behind a set of listeners.
///
/// It binds once, starts the workers, brings the connections to those that are ready, replaces those that end (a
/// draining one already while it drains), and stops them all before it ends itself. If it dies, its workers see their
/// channels close, drain and end.
///
/// Distinct objects: safe. Shared objects: unsafe.
class cluster : private supervisor {
 public:
  cluster(asio::any_io_executor executor, cluster_options options)
      : supervisor(std::move(options)),
        tasks_(executor),
        chores_(executor),
        stop_(executor),
        changed_(executor),
        events_(executor, 1024) {}

  cluster(const cluster&) = delete;
  cluster& operator=(const cluster&) = delete;

  asio::any_io_executor get_executor() { return stop_.get_executor(); }

  /// Serves until stop() or kill() is called or the restart policy gives up, and returns when every worker is gone: 0,
  /// or 1 if it gave up. Call it once. Cancelling it is not supported: call stop().
  ///
  /// Throws `listen 127.0.0.1:8000: Address already in use` and its like before any worker is started.
  ///
  /// With a `predecessor`, which must live until this returns, it takes that one's listeners over, and tells it to go
  /// when all workers serve.
  asio::awaitable<int> run(upgrade::predecessor* predecessor = nullptr) {
    const finished_guard finished{*this};
    wanted_ = options_.worker_count();
    begun_ = slot_worker::clock::now();
    std::vector<upgrade::listener> handed;
    if (predecessor != nullptr) {
      handed = co_await predecessor->listeners();
      generation_ = last_generation_ = predecessor->generation() + 1;
    }
    for (auto& each : listen_on_all(options_, std::move(handed))) distribute(std::move(each), predecessor != nullptr);
    if (predecessor != nullptr) chores_.start(succeed(*predecessor), [](std::exception_ptr) {});
    for (unsigned number = 1; number <= wanted_; ++number) start(number, generation_, at_once);

    co_await stop_.wait();
    for (auto& each : listeners_) each.file.remove();
    task_group closing(get_executor());
    for (const auto& each : listeners_) closing.start(each.to->stop(), [](std::exception_ptr) {});
    try {
      co_await with_timeout(closing.wait_empty(), options_.worker().drain_timeout);
    } catch (const std::system_error&) {
      // Time is up for what no worker takes.
      for (const auto& each : listeners_) each.to->cancel();
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
    if (successor_ != nullptr) successor_->signal(SIGTERM);
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
    for (const auto& each : listeners_) each.to->cancel();
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
    try {
      if (!options_.command()) next_program_ = program_.on_disk();
      limit_draining();
      co_await renew(std::move(numbers), result);
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      result.reason = error.what();
    }
    if (!result.success()) {
      const std::string where = result.aborted_at != 0 ? fmt::format("worker {}: ", result.aborted_at) : std::string();
      emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, where + result.reason));
      co_return result;
    }
    generation_ = result.generation;
    if (!options_.command()) program_ = std::move(next_program_);
    ++reloads_;
    cluster_event done(cluster_event::kind::reloaded);
    done.after = std::chrono::duration_cast<std::chrono::microseconds>(slot_worker::clock::now() - begin);
    emit(std::move(done));
    co_return result;
  }

  /// Starts the primary's program as it is on the disk now, which takes the listeners over, by serve() or by run() with
  /// a predecessor. When all of its workers serve, this one stops gracefully; if that does not come about, this one
  /// goes on and the other is ended. Process 1 cannot be replaced.
  ///
  /// `environment`: variables that the new primary gets besides the present ones. One at a time, as reload().
  /// Cancelling throws operation_aborted and kills the new primary. When the cluster stops, so does this.
  asio::awaitable<upgrade_result> upgrade(std::vector<std::pair<std::string, std::string>> environment = {}) {
    upgrade_result result;
    const turn mine = co_await take_turn();
    if (stop_.is_set()) result.reason = stopping_text;
    if (::getpid() == 1) result.reason = "process 1 cannot be replaced";
    peer<upgrade::protocol> successor;
    if (result.success()) {
      try {
        auto program = program_.on_disk().start();
        program.die_with_parent(false).process_group(process_group::inherit).env(upgrade::variable, "1");
        for (const auto& [name, value] : environment) program.env(name, value);
        successor = co_await spawn<upgrade::protocol>(std::move(program));
        result.pid = successor.pid();
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
        result.reason = error.what();
      }
    }
    if (result.success()) {
      emit(cluster_event(cluster_event::kind::upgrading, 0, result.pid));
      const borrowed_pointer known(successor_, successor);
      result.reason = co_await hand_over_to(successor);
    }
    if (result.success()) {
      successor.process().detach();
      emit(cluster_event(cluster_event::kind::upgraded, 0, result.pid));
      stop("upgraded");
      co_return result;
    }
    if (successor.process()) {
      const exit_status status = co_await end_successor(successor);
      result.reason += fmt::format(": primary {} {}", result.pid, status);
    }
    emit(cluster_event(cluster_event::kind::upgrade_failed, 0, result.pid, result.reason));
    co_return result;
  }

  /// Has so many workers from now on, one at least: starts those that are missing, and has those of the highest slots
  /// drain. Throws what a further listener of distribution::reuse_port may throw, and has changed nothing then.
  void scale(unsigned workers) {
    workers = std::max(workers, 1u);
    if (stop_.is_set() || workers == wanted_) return;
    for (const auto& each : listeners_) each.to->resize(workers);
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
    for (const auto& each : listeners_) {
      listener_stats one;
      one.address = each.address;
      for (const int fd : each.to->sockets()) one.queue = queue_of(fd, one.queue);
      result.listeners.push_back(std::move(one));
    }
    for (const auto& each : workers_) {
      worker_stats one;
      one.slot = each->number();
      one.generation = each->generation();
      one.pid = each->pid();
      one.state = each->state();
      if (one.state != slot_state::waiting) one.uptime = since(each->started());
      one.leased = each->open();
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
  static constexpr std::chrono::milliseconds at_once{0};
  static constexpr const char* stopping_text = "the cluster stops";

  struct listener_state {
    std::string text;     // as the options name it
    std::string address;  // with the port that was chosen
    bool inherited = false;
    socket_file file;         // of a unix socket
    std::string handed_file;  // the same, while it is a predecessor's
    std::unique_ptr<distributor> to;
  };

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

  /// Lets stop() find the successor while there is one that is not ready.
  struct borrowed_pointer {
    borrowed_pointer(peer<upgrade::protocol>*& p, peer<upgrade::protocol>& to) : place(p) { place = &to; }
    ~borrowed_pointer() { place = nullptr; }
    peer<upgrade::protocol>*& place;
  };

  struct finished_guard {
    cluster& owner;
    ~finished_guard() { owner.events_.close(); }
  };

  void emit(cluster_event event) override {
    while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
  }

  /// `borrowed`: a predecessor's still.
  void distribute(listening opened, bool borrowed) {
    listener_state mine;
    mine.text = opened.text;
    mine.address = opened.address;
    mine.inherited = opened.inherited;
    mine.file = std::move(opened.file);
    mine.handed_file = opened.handed_file;
    const auto number = static_cast<std::uint32_t>(listeners_.size());
    const auto owner = opened.inherited || borrowed ? queue_owner::others : queue_owner::cluster;
    auto& sockets = opened.sockets;
    const auto lease = [&](picking how) {
      mine.to = std::make_unique<leasing_distributor>(
          get_executor(), std::move(sockets.front()), number, std::move(how), options_.worker().max_connections,
          [this, text = mine.address](std::exception_ptr failure) { give_up(text, failure); }, owner);
    };
    switch (opened.distribution) {
      case distribution::round_robin: lease(pick_in_turn()); break;
      case distribution::least_connections: lease(pick_least_connections()); break;
      case distribution::by_address: lease(pick_by_address()); break;
      case distribution::custom: lease({options_.picker(), false, true}); break;
      case distribution::shared:
        mine.to = std::make_unique<shared_distributor>(get_executor(), std::move(sockets.front()), number, owner);
        break;
      case distribution::reuse_port:
        mine.to = std::make_unique<reuse_port_distributor>(get_executor(), std::move(sockets), number,
                                                           std::move(opened.open_one_more), owner);
        break;
    }
    emit(cluster_event(cluster_event::kind::listening, 0, 0, mine.address));
    listeners_.push_back(std::move(mine));
  }

  /// Waits until all workers serve, and has the predecessor go then.
  asio::awaitable<void> succeed(upgrade::predecessor& predecessor) {
    while (!stop_.is_set() && serving() < static_cast<std::ptrdiff_t>(wanted_)) co_await changed_.wait();
    if (stop_.is_set()) co_return;
    std::vector<std::string> texts;
    for (auto& each : listeners_) {
      texts.push_back(each.text);
      if (!each.inherited) each.to->own(queue_owner::cluster);
      if (!each.handed_file.empty()) each.file = socket_file(each.handed_file);
    }
    co_await predecessor.dismiss(std::move(texts));
  }

  std::ptrdiff_t serving() const {
    return std::count_if(workers_.begin(), workers_.end(), [](const auto& each) { return each->is_serving(); });
  }

  /// Ends a successor that will not be one, unless it does so itself, as one does that gives up.
  static asio::awaitable<exit_status> end_successor(peer<upgrade::protocol>& successor) {
    exit_status status;
    bool ended = true;
    successor.close();
    try {
      status = co_await with_timeout(successor.wait(), std::chrono::seconds(1));
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      ended = false;
    }
    if (!ended) status = co_await successor.stop();
    co_return status;
  }

  /// Hands the listeners to the successor and waits for its word; says what is wrong, if anything.
  asio::awaitable<std::string> hand_over_to(peer<upgrade::protocol>& successor) {
    try {
      for (const auto& each : listeners_) {
        upgrade::listener what;
        what.text = each.text;
        what.address = each.address;
        what.file = each.file.path();
        what.inherited = each.inherited;
        co_await upgrade::hand_over(successor, std::move(what), each.to->sockets());
      }
      upgrade::begin last;
      last.generation = generation_;
      co_await successor.send(last);
      const auto word = co_await with_timeout(successor.receive(), options_.start_timeout() + kill_after);
      if (word) {
        for (auto& each : listeners_) {
          if (std::find(word->texts.begin(), word->texts.end(), each.text) == word->texts.end()) continue;
          each.to->own(queue_owner::others);
          each.file.release();
        }
        co_return std::string();
      }
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      if (error.code() != errc::peer_closed) co_return error.what();
    }
    co_return stop_.is_set() ? stopping_text : std::string("it did not get ready");
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
    if (!stop_.is_set() && !who->dismissed) co_await launch(who);
    if (who->peer.process()) {
      if (killed_) who->kill();
      if (stop_.is_set()) ask_to_stop(*who);
      const worker_ending how = co_await attend(who);
      bury(who, how);
    } else {
      enter(*who, slot_state::dead);
      drop_what_nobody_takes();
      // In a turn of its own, or each that cannot start would start the next one inside.
      co_await asio::post(get_executor(), asio::use_awaitable);
    }
    replace(*who);
  }

  void bury(const worker_ptr& who, const worker_ending& how) {
    cluster_event exited(cluster_event::kind::exited, who->number(), who->pid());
    exited.status = how.status;
    exited.reason = classify(how);
    if (who->trouble.empty()) who->trouble = fmt::to_string(how.status);
    auto& past = past_[who->number()];
    past.slot = who->number();
    past.last_exit = how.status;
    past.last_reason = exited.reason;
    past.last_trouble = who->trouble;
    enter(*who, slot_state::dead);
    who->peer.close();
    drop_what_nobody_takes();
    const bool unwanted = exited.reason == exit_reason::do_not_restart;
    emit(std::move(exited));
    if (!unwanted) return;
    if (!who->replaced) emit(cluster_event(cluster_event::kind::not_restarted, who->number(), who->pid()));
    who->replaced = true;
  }

  void on_state() override { changed_.notify(); }

  void on_ended(const worker_ptr&) override {
    for (const auto& each : listeners_) each.to->on_ended();
  }

  command program_for(const slot_worker& who) override {
    if (options_.command()) return *options_.command();
    return who.generation() > generation_ ? next_program_.start() : program_.start();
  }

  /// Whether a worker that waits has waited enough.
  bool may_start(const slot_worker& who) const {
    if (stop_.is_set() || who.dismissed || options_.max_starting() == 0) return true;
    return count_in(workers_, slot_state::starting) < static_cast<std::ptrdiff_t>(options_.max_starting());
  }

  void on_ready(const worker_ptr& who) override {
    if (who->state() != slot_state::starting) return;
    enter(*who, slot_state::ready);
    options_.restart().note_ready(history_);
    cluster_event event(cluster_event::kind::ready, who->number(), who->pid());
    event.after = std::chrono::duration_cast<std::chrono::microseconds>(slot_worker::clock::now() - who->started());
    emit(std::move(event));
    if (!who->candidate) join(who);
  }

  void on_draining(const worker_ptr& who, const control::draining& word) override {
    emit(cluster_event(cluster_event::kind::draining, who->number(), who->pid(), word.reason));
    if (who->state() != slot_state::starting && who->state() != slot_state::ready) return;
    who->trouble = word.reason;
    leave(who);
    enter(*who, slot_state::draining);
    drop_what_nobody_takes();
    who->limit_state(drain_limit());
    // The replacement starts now, before this one is gone; of one that wants none the exit status will tell.
    if (word.status != static_cast<int>(worker_exit::do_not_restart)) replace(*who);
  }

  void on_pong(const worker_ptr& who) override {
    if (!who->is_serving() || who->recycling) return;
    const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(slot_worker::clock::now() - who->started());
    const char* const reason = options_.recycle().reached(who->health.served, age, who->health.memory, who->fraction);
    if (reason == nullptr) return;
    who->recycling = true;
    chores_.start(recycle(who, reason), [](std::exception_ptr) {});
  }

  asio::awaitable<void> recycle(worker_ptr who, const char* reason) {
    const turn mine = co_await take_turn();
    if (stop_.is_set() || !who->is_serving()) co_return;
    const std::string text = fmt::format("worker {}, because of {}", who->number(), reason);
    emit(cluster_event(cluster_event::kind::reloading, who->number(), who->pid(), text));
    reload_result result;
    result.generation = generation_;
    co_await renew(std::vector<unsigned>(1, who->number()), result);
    if (!result.success() && !stop_.is_set()) {
      who->recycling = false;  // the next pong brings it up again
      emit(cluster_event(cluster_event::kind::reload_failed, who->number(), 0, result.reason));
    }
  }

  /// Kills those that have been draining for the longest time, if a reload finds too many of them.
  void limit_draining() {
    auto spare = count_in(workers_, slot_state::draining) - static_cast<std::ptrdiff_t>(options_.reload().max_draining);
    if (options_.reload().max_draining == 0) return;
    const auto all = workers_;  // in the order of their starts
    for (const auto& each : all) {
      if (each->state() != slot_state::draining || spare-- <= 0) continue;
      fail(*each, "too many workers of earlier generations drain");
      each->kill();
    }
  }

  asio::awaitable<turn> take_turn() {
    while (renewing_) co_await changed_.wait();
    co_return turn(*this);
  }

  /// Starts new workers for these slots, so many at a time as reload_options say, and has the old ones drain when they
  /// are ready.
  asio::awaitable<void> renew(std::vector<unsigned> numbers, reload_result& result) {
    const std::size_t gone = options_.reload().max_unavailable, surge = options_.reload().max_surge;
    const std::size_t at_a_time = gone + surge != 0 ? gone + surge : numbers.size();
    for (std::size_t done = 0; done < numbers.size();) {
      const std::size_t end = std::min(done + at_a_time, numbers.size());
      const std::vector<unsigned> batch(numbers.begin() + static_cast<std::ptrdiff_t>(done),
                                        numbers.begin() + static_cast<std::ptrdiff_t>(end));
      for (std::size_t i = 0; i < std::min(gone, batch.size()); ++i) retire_slot(batch[i]);
      std::vector<worker_ptr> fresh;
      {
        const dismissal otherwise{*this, fresh};
        for (const unsigned number : batch) fresh.push_back(start(number, result.generation, at_once, true));
        while (!stop_.is_set() && !failed_one(fresh, result) && !all_ready(fresh)) co_await changed_.wait();
        if (result.success() && stop_.is_set()) result.reason = stopping_text;
        if (result.success()) {
          for (const auto& each : fresh) promote(each);
          result.replaced += static_cast<unsigned>(fresh.size());
        }
      }
      if (!result.success()) {
        for (const unsigned number : batch) fill(number);
        co_return;
      }
      done = end;
    }
  }

  static bool all_ready(const std::vector<worker_ptr>& workers) {
    return count_in(workers, slot_state::ready) == static_cast<std::ptrdiff_t>(workers.size());
  }

  /// Has the worker of a slot drain before there is another one.
  void retire_slot(unsigned number) {
    const auto all = workers_;
    for (const auto& each : all) {
      if (each->number() == number && !each->candidate) retire(each);
    }
  }

  /// Starts a worker in a slot that has none which serves or will.
  void fill(unsigned number) {
    if (stop_.is_set() || number > wanted_) return;
    for (const auto& each : workers_) {
      const bool lives = each->state() != slot_state::draining && each->state() != slot_state::dead;
      if (each->number() == number && lives && !each->dismissed && !each->candidate) return;
    }
    start(number, generation_, at_once);
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
    who->asked = true;
    who->limit_state(drain_limit());
    who->tell(control::drain());
  }

  void join(const worker_ptr& who) {
    for (const auto& each : listeners_) each.to->join(who);
  }

  void leave(const worker_ptr& who) override {
    for (const auto& each : listeners_) each.to->leave(who);
  }

  /// While the cluster stops: lets go of connections that no worker will be there for.
  void drop_what_nobody_takes() {
    if (!stop_.is_set()) return;
    for (const auto& each : workers_) {
      if (each->state() == slot_state::starting || each->state() == slot_state::ready) return;
    }
    for (const auto& each : listeners_) each.to->cancel();
  }

  void ask_to_stop(slot_worker& who) {
    if (who.state() == slot_state::waiting || who.state() == slot_state::dead) return;
    if (who.state() != slot_state::stopping) enter(who, slot_state::stopping);
    who.asked = true;
    who.limit_state(drain_limit());
    control::drain order;
    for (const auto& each : listeners_) order.empty_queues = order.empty_queues || each.to->workers_accept();
    who.tell(order);
    if (killed_) who.kill();
  }

  /// Sees to it that a worker's slot gets another one, once.
  void replace(slot_worker& who) {
    if (stop_.is_set() || std::exchange(who.replaced, true) || who.number() > wanted_) return;
    const auto now = slot_worker::clock::now();
    std::optional<std::chrono::milliseconds> served;
    if (who.ready_since) served = std::chrono::duration_cast<std::chrono::milliseconds>(now - *who.ready_since);
    const auto pause = options_.restart().next(history_, now, served, random_fraction());
    if (!pause) {
      give_up_on(who, served ? "too many restarts" : fmt::format("worker {} did not get ready", who.number()));
      return;
    }
    ++restarts_;
    ++past_[who.number()].restarts;
    if (pause->count() > 0) {
      cluster_event event(cluster_event::kind::restarting, who.number());
      event.after = *pause;
      emit(std::move(event));
    }
    start(who.number(), generation_, *pause);
    if (options_.restart().scope == restart_scope::one_for_all) renew_others(who.number());
  }

  /// Gives up a slot, or the cluster.
  void give_up_on(const slot_worker& who, const std::string& why) {
    auto action = options_.restart().on_give_up;
    if (options_.on_give_up()) action = options_.on_give_up()(who.number(), why);
    if (action == give_up_action::shut_down) {
      give_up(why, nullptr);
    } else {
      emit(cluster_event(cluster_event::kind::degraded, who.number(), 0, why));
    }
  }

  /// Replaces all workers but that of one slot; those that end meanwhile belong to the same misfortune.
  void renew_others(unsigned slot) {
    if (std::exchange(renews_others_, true)) return;
    chores_.start(renew_but(slot), [this](std::exception_ptr) { renews_others_ = false; });
  }

  asio::awaitable<void> renew_but(unsigned slot) {
    const turn mine = co_await take_turn();
    reload_result result;
    result.generation = generation_;
    std::vector<unsigned> numbers;
    for (unsigned number = 1; number <= wanted_; ++number) {
      if (number != slot) numbers.push_back(number);
    }
    const std::string why = fmt::format("worker {} has ended, one for all", slot);
    emit(cluster_event(cluster_event::kind::reloading, slot, 0, why));
    co_await renew(std::move(numbers), result);
    if (!result.success()) emit(cluster_event(cluster_event::kind::reload_failed, result.aborted_at, 0, result.reason));
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

  task_group tasks_;  // one for each worker
  task_group chores_;
  event stop_;
  event changed_;  // the state of a worker
  queue<cluster_event> events_;
  detail::program_version program_;       // of the present generation
  detail::program_version next_program_;  // of the one that a reload brings
  std::vector<listener_state> listeners_;
  peer<upgrade::protocol>* successor_ = nullptr;
  std::vector<worker_ptr> workers_;
  std::map<unsigned, slot_stats> past_;
  slot_worker::clock::time_point begun_{};
  unsigned wanted_ = 0;
  unsigned generation_ = 1;
  unsigned last_generation_ = 1;
  std::uint64_t restarts_ = 0;
  std::uint64_t reloads_ = 0;
  bool renewing_ = false;
  bool renews_others_ = false;
  restart_policy::history history_;
  std::minstd_rand random_{std::random_device{}()};
  bool killed_ = false;
  bool gave_up_ = false;
};

}  // namespace cohort
