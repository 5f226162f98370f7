// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
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
#include "options.hpp"
#include "slot.hpp"

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
        stop_(executor),
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
    open_listeners();
    for (unsigned number = 1; number <= options_.worker_count(); ++number) start(number, std::chrono::milliseconds(0));

    co_await stop_.wait();
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
    drop_what_nobody_takes();
  }

  /// Stops at once: kills every worker.
  void kill(const std::string& why) {
    stop(why);
    killed_ = true;
    for (const auto& each : distributors_) each->cancel();
    for (const auto& each : workers_) each->kill();
  }

  /// The next event; empty when run() has ended and all have been taken. Nobody need read them: of those that wait, the
  /// last 1024 are kept. Cancelling takes nothing.
  asio::awaitable<std::optional<cluster_event>> next_event() { return events_.pop(); }

 private:
  using worker_ptr = std::shared_ptr<slot_worker>;

  // What a worker gets beyond its own deadline to end by itself before it is killed.
  static constexpr std::chrono::milliseconds kill_after{5'000};

  struct finished_guard {
    cluster& owner;
    ~finished_guard() { owner.events_.close(); }
  };

  void emit(cluster_event event) {
    while (!events_.try_push(std::move(event)) && !events_.is_closed()) (void)events_.try_pop();
  }

  struct opened {
    asio::ip::tcp::endpoint endpoint;
    std::vector<descriptor> sockets;
  };

  void open_listeners() {
    if (options_.addresses().empty()) throw_error("cluster: no address to listen on", errc::invalid_option);
    // All of them before anything runs that would have to be stopped again.
    std::vector<opened> all;
    for (const auto& text : options_.addresses()) all.push_back(open(text));
    for (auto& each : all) distribute(std::move(each));
  }

  opened open(const std::string& text) const {
    opened result;
    result.endpoint = parse_endpoint(text);
    listen_settings settings;
    settings.backlog = options_.backlog();
    settings.defer_accept = options_.defer_accept();
    settings.reuse_port = options_.distribution() == distribution::reuse_port;
    if (settings.reuse_port && result.endpoint.port() != 0) check_unused(result.endpoint);
    do {
      result.sockets.push_back(open_listener(result.endpoint, settings));
    } while (settings.reuse_port && result.sockets.size() < options_.worker_count());
    return result;
  }

  void distribute(opened listening) {
    const std::string text = to_string(listening.endpoint);
    const auto number = static_cast<std::uint32_t>(distributors_.size());
    auto& sockets = listening.sockets;
    switch (options_.distribution()) {
      case distribution::round_robin:
        distributors_.push_back(std::make_unique<round_robin_distributor>(
            get_executor(), std::move(sockets.front()), number,
            [this, text](std::exception_ptr failure) { give_up(text, failure); }));
        break;
      case distribution::shared:
        distributors_.push_back(
            std::make_unique<shared_distributor>(get_executor(), std::move(sockets.front()), number));
        break;
      case distribution::reuse_port:
        distributors_.push_back(std::make_unique<reuse_port_distributor>(get_executor(), std::move(sockets), number));
        break;
    }
    emit(cluster_event(cluster_event::kind::listening, 0, 0, text));
  }

  void start(unsigned number, std::chrono::milliseconds pause) {
    auto who = std::make_shared<slot_worker>(get_executor(), number);
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
  }

  /// A worker's whole life, from its start until it is reaped.
  asio::awaitable<void> supervise(worker_ptr who, std::chrono::milliseconds pause) {
    if (pause.count() > 0) co_await who->wait(pause);
    std::string failure;
    if (!stop_.is_set()) {
      who->enter(slot_state::starting);
      failure = co_await launch(who);
    }
    if (who->peer.process()) {
      if (stop_.is_set()) ask_to_stop(*who);
      failure = co_await attend(who);
      leave(who);
      if (!failure.empty()) emit(cluster_event(cluster_event::kind::failed, who->number(), who->pid(), failure));
      const exit_status status = co_await reap(who);
      who->enter(slot_state::dead);
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
      who->enter(slot_state::dead);
      drop_what_nobody_takes();
      if (!failure.empty()) emit(cluster_event(cluster_event::kind::failed, who->number(), 0, failure));
      // In a turn of its own, or each that cannot start would start the next one inside.
      co_await asio::post(get_executor(), asio::use_awaitable);
    }
    replace(*who);
  }

  /// Starts the process; says what went wrong.
  asio::awaitable<std::string> launch(worker_ptr who) {
    command program = options_.command() ? *options_.command() : detail::own_command(words_);
    program.in(stdio::null).die_with_parent(false).process_group(process_group::own);
    program.env(detail::slot_variable, std::to_string(who->number()));
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
    who->enter(slot_state::ready);
    who->was_ready = true;
    options_.restart().note_ready(history_);
    cluster_event event(cluster_event::kind::ready, who->number(), who->pid());
    event.after = std::chrono::duration_cast<std::chrono::microseconds>(slot_worker::clock::now() - who->started());
    emit(std::move(event));
    for (const auto& each : distributors_) each->join(who);
  }

  void on_draining(const worker_ptr& who, const control::draining& word) {
    emit(cluster_event(cluster_event::kind::draining, who->number(), who->pid(), word.reason));
    if (who->state() != slot_state::starting && who->state() != slot_state::ready) return;
    leave(who);
    who->enter(slot_state::draining);
    drop_what_nobody_takes();
    who->limit_state(options_.worker().drain_timeout + kill_after);
    // The replacement starts now, before this one is gone; of one that wants none the exit status will tell.
    if (word.status != static_cast<int>(worker_exit::do_not_restart)) replace(*who);
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
    if (who.state() != slot_state::stopping) who.enter(slot_state::stopping);
    who.limit_state(options_.worker().drain_timeout + kill_after);
    control::drain order;
    for (const auto& each : distributors_) order.empty_queues = order.empty_queues || each->workers_accept();
    try {
      who.peer.post(order);
    } catch (const std::system_error&) {
      // It is on its way out already.
    }
    if (killed_) who.kill();
  }

  /// Sees to it that a worker's slot gets another one, once.
  void replace(slot_worker& who) {
    if (stop_.is_set() || std::exchange(who.replaced, true)) return;
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
    start(who.number(), *pause);
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
  event stop_;
  queue<cluster_event> events_;
  std::vector<std::string> words_;
  std::vector<std::unique_ptr<distributor>> distributors_;
  std::vector<worker_ptr> workers_;
  restart_policy::history history_;
  std::minstd_rand random_{std::random_device{}()};
  bool killed_ = false;
  bool gave_up_ = false;
};

namespace detail {

/// INT and TERM stop the cluster, a second one at once; QUIT at once.
inline asio::awaitable<void> heed_signals(cluster& primary) {
  asio::signal_set signals(primary.get_executor(), SIGINT, SIGTERM, SIGQUIT);
  for (bool asked = false;; asked = true) {
    const int number = co_await signals.async_wait(asio::use_awaitable);
    const std::string name = fmt::format("SIG{}", ::sigabbrev_np(number));
    if (asked || number == SIGQUIT) {
      primary.kill(name);
    } else {
      primary.stop(name);
    }
  }
}

inline asio::awaitable<void> report(cluster& primary, std::function<void(const cluster_event&)> to,
                                    std::exception_ptr& failure) {
  while (const auto event = co_await primary.next_event()) {
    if (failure) continue;
    try {
      to(*event);
    } catch (...) {
      failure = std::current_exception();
      primary.stop("on_event has thrown");
    }
  }
}

inline int run_primary(cluster_options options) {
  auto to = options.on_event();
  if (!to) to = [](const cluster_event& event) { std::fprintf(stderr, "%s\n", to_string(event).c_str()); };
  asio::io_context context(1);
  cluster primary(context.get_executor(), std::move(options));
  task_group tasks(context.get_executor());
  tasks.start(heed_signals(primary), [](std::exception_ptr) {});
  int status = 1;
  std::exception_ptr failure;
  asio::co_spawn(context, report(primary, std::move(to), failure), asio::detached);
  asio::co_spawn(context, primary.run(), [&](std::exception_ptr escaped, int returned) {
    if (escaped) failure = escaped;
    status = returned;
    tasks.cancel();
  });
  context.run();
  if (failure) std::rethrow_exception(failure);
  return status;
}

}  // namespace detail

/// The whole of a clustered server: call it from main and return what it returns.
///
/// The same program is primary and worker. Started by a user it is the primary: it listens, starts itself again for
/// each worker with the same arguments, and runs until INT or TERM (graceful; a second one, or QUIT: at once). Started
/// by the primary it serves connections with `handler`, as run_worker does. Do what both need before the call.
///
/// Returns the exit status: 0 after a stop that was asked for, 1 if it could not start (said on stderr) or gave up.
inline int serve(cluster_options options, connection_handler handler) {
  if (std::getenv(detail::slot_variable) != nullptr && has_parent()) {
    return run_worker(std::move(handler), options.worker());
  }
  try {
    ::signal(SIGPIPE, SIG_IGN);  // a log that nobody reads any more must not end the primary
    ::signal(SIGCHLD, SIG_DFL);  // who starts this may have it ignored, and exit statuses would be lost (wait(2))
    return detail::run_primary(std::move(options));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace cohort
