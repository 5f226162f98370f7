// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include <fmt/format.h>

#include "../core/asio.hpp"
#include "../core/error.hpp"
#include "../core/event.hpp"
#include "../core/task_group.hpp"
#include "../core/timeout.hpp"
#include "../ipc/peer.hpp"
#include "connection_handler.hpp"
#include "control.hpp"
#include "listener.hpp"

namespace cohort {

/// With what status a worker exits. Decided once; of several reasons the one that stands first here wins.
enum class worker_exit : int {
  fatal = 1,            ///< an exception that is not a connection's own
  do_not_restart = 78,  ///< worker::do_not_restart(): EX_CONFIG of sysexits.h
  orphaned = 110,       ///< the parent is gone
  asked = 0,            ///< the parent or SIGTERM asked for it
};

namespace detail {
/// As good as for ever, and no overflow when a timer counts it in nanoseconds.
inline constexpr std::chrono::milliseconds longest_time = std::chrono::hours(24 * 365);
}  // namespace detail

/// How a worker behaves.
struct worker_options {
  worker_options() {}  // user-declared: GCC 12 destroys aggregates made in an await expression twice (PR101976)

  /// How long a draining worker lets busy connections go on before it cancels them.
  std::chrono::milliseconds drain_timeout{30'000};
  /// How long, from the start of the drain, an idle connection may still bring a request before it is closed. A client
  /// that sends the next request at once is answered (and told to close) and not reset.
  std::chrono::milliseconds idle_grace{100};
};

/// A process's accepting and serving, under a parent that says what to accept on and when to stop.
///
/// It takes acceptors (and accepts on them) and accepted sockets (and serves them) from its parent, and runs the
/// handler for each connection. It drains when the parent says so, on SIGTERM, when the parent is gone, and on a fatal
/// error: it tells the parent first, so that a replacement starts now; it accepts no more, closes idle connections,
/// lets the busy ones finish until the deadline, cancels what is left, and ends. A second SIGTERM ends the waiting.
/// SIGINT is ignored: Ctrl-C is the parent's business.
///
/// Distinct objects: safe. Shared objects: unsafe; handlers run on the worker's executor and may use it.
class worker {
 public:
  /// `channel` is what the parent has the other end of.
  worker(asio::any_io_executor executor, channel<control::protocol::to_parent, control::protocol::to_child> channel,
         connection_handler handler, const worker_options& options = {})
      : options_(options),
        handler_(std::move(handler)),
        channel_(std::move(channel)),
        connections_(executor),
        background_(executor),
        drain_(executor),
        hurry_(executor) {
    options_.drain_timeout = std::min(options_.drain_timeout, detail::longest_time);
    options_.idle_grace = std::min(options_.idle_grace, detail::longest_time);
    const char* slot = std::getenv("COHORT_SLOT");
    slot_ = slot != nullptr ? static_cast<unsigned>(std::strtoul(slot, nullptr, 10)) : 0;
  }

  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;

  asio::any_io_executor get_executor() { return drain_.get_executor(); }

  /// The number of this worker's place in its cluster, from 1 on, which its replacement inherits. 0 without a cluster.
  unsigned slot() const noexcept { return slot_; }

  /// Whether the worker is on its way out: an answer should tell the client to close (`Connection: close`).
  bool draining() const noexcept { return drain_.is_set(); }

  /// Connections being served.
  std::size_t open_connections() const noexcept { return connections_.size(); }

  /// Waits until a connection has something to read, the end of its stream included.
  ///
  /// False when the worker drains and nothing has come by the end of `idle_grace`: the connection is idle and should be
  /// closed. A request whose bytes have arrived is never dropped. Cancelling throws operation_aborted.
  template <class Socket>
  asio::awaitable<bool> readable(Socket& socket) {
    if (!grace_over_) {
      const auto outer = co_await asio::this_coro::cancellation_state;
      idle_wait mine(*this);
      // The wait has a cancellation of its own, for the drain; the coroutine's reaches it through this.
      if (outer.slot().is_connected()) {
        outer.slot().assign([&mine](asio::cancellation_type type) { mine.wake.emit(type); });
      }
      std::error_code error;
      co_await socket.async_wait(
          Socket::wait_read,
          asio::bind_cancellation_slot(mine.wake.slot(), asio::redirect_error(asio::use_awaitable, error)));
      if (outer.slot().is_connected()) outer.slot().clear();
      if (!error) co_return true;
      if (!grace_over_ || error != asio::error::operation_aborted ||
          outer.cancelled() != asio::cancellation_type::none) {
        throw std::system_error(error, "readable");
      }
    }
    pollfd look{socket.native_handle(), POLLIN, 0};
    co_return ::poll(&look, 1, 0) > 0;
  }

  /// Begins a drain for a reason that is nobody's fault; the exit status is 0.
  void drain(const std::string& reason) { begin_drain(worker_exit::asked, reason, false); }

  /// Begins a drain because of an error that this process should not live on with; the exit status is 1.
  void fail(const std::string& reason) { begin_drain(worker_exit::fatal, reason, false); }

  /// Begins a drain after which the parent should not start a replacement; the exit status is 78.
  void do_not_restart(const std::string& reason) { begin_drain(worker_exit::do_not_restart, reason, false); }

  /// Accepts, serves, drains. Returns the status that the process should exit with.
  ///
  /// Call it once. Everything it has started has ended when it returns, but for handlers that ignore their cancellation
  /// for a second. Cancelling it is not supported: call drain().
  asio::awaitable<int> run() {
    start_background(heed_signals());
    start_background(keep_grace());
    try {
      channel_.post(control::ready());
    } catch (const std::system_error& error) {
      // A parent that is gone already is an orphaning like any other, of which take_orders() tells.
      if (error.code() != errc::peer_closed) fail(error.what());
    }
    start_background(take_orders());
    start_background(take_handles());

    co_await drain_.wait();
    co_await finish_connections();

    try {
      co_await with_timeout(channel_.disconnect(), std::chrono::seconds(1));
    } catch (const std::system_error&) {
      // A parent that is gone, or does not read, will learn it from the exit status.
    }
    channel_.close();
    background_.cancel();
    co_await background_.wait_empty();
    co_return static_cast<int>(exit_);
  }

 private:
  // A connection that waits for its next request, in a list that the drain goes through.
  struct idle_wait {
    explicit idle_wait(worker& w) : owner(w), next(w.idle_) {
      if (next) next->previous = this;
      owner.idle_ = this;
    }
    idle_wait(const idle_wait&) = delete;
    ~idle_wait() {
      if (next) next->previous = previous;
      (previous ? previous->next : owner.idle_) = next;
    }

    worker& owner;
    asio::cancellation_signal wake;
    idle_wait* next;
    idle_wait* previous = nullptr;
  };

  using listener_key = std::pair<std::uint32_t, std::uint32_t>;

  /// Runs a coroutine of the worker itself, in which every exception but its cancellation is fatal.
  void start_background(asio::awaitable<void> work) {
    background_.start(std::move(work), [this](std::exception_ptr failure) {
      if (failure) judge(failure);
    });
  }

  asio::awaitable<void> take_orders() {
    try {
      while (auto message = co_await channel_.receive()) {
        if (const auto* gone = std::get_if<control::unlisten>(&*message)) {
          close_listener({gone->listener, gone->loan});
        } else if (const auto* drain = std::get_if<control::drain>(&*message)) {
          begin_drain(worker_exit::asked, "asked by the parent", drain->empty_queues);
        }
      }
    } catch (const std::system_error& error) {
      if (error.code() != errc::peer_closed && error.code() != asio::error::operation_aborted) throw;
    }
    begin_drain(worker_exit::orphaned, "the parent is gone", true);
  }

  asio::awaitable<void> take_handles() {
    try {
      while (auto given = co_await channel_.receive_handle()) {
        if (const auto* where = std::get_if<control::listen>(&given->message)) {
          listen({where->listener, where->loan}, std::move(given->handle));
        } else if (std::holds_alternative<control::serve>(given->message)) {
          start(std::move(given->handle));
        }
      }
    } catch (const std::system_error& error) {
      if (error.code() != errc::peer_closed && error.code() != asio::error::operation_aborted) throw;
    }
  }

  void listen(listener_key key, any_handle handle) {
    if (draining()) return;
    const bool listens = handle.kind() == handle_kind::tcp_acceptor || handle.kind() == handle_kind::local_acceptor;
    auto on = std::make_shared<listener>(get_executor(), std::move(handle).as<descriptor>(get_executor()));
    if (listens && !handler_.takes(on->accepts())) {
      throw_error(fmt::format("worker: the handler takes no {}", to_string(on->accepts())), errc::wrong_handle_kind);
    }
    close_listener(key);
    listeners_[key] = on;
    start_background(accept_on(on));
  }

  asio::awaitable<void> accept_on(std::shared_ptr<listener> on) {
    // Few at a time: other workers wait at the same queue, and the connections here want their turn.
    constexpr int at_a_time = 8;
    while (on->is_open()) {
      bool shortage = false;
      try {
        co_await on->wait();
        for (int i = 0; i < at_a_time && on->is_open(); ++i) {
          descriptor accepted = on->try_accept();
          if (!accepted && on->ended()) co_return;
          if (!accepted) break;
          start(any_handle(on->accepts(), std::move(accepted)));
        }
      } catch (const std::system_error& error) {
        if (!on->is_open()) co_return;
        if (!listener::is_shortage(error.code())) throw;
        shortage = true;
      }
      if (shortage) co_await on->pause();
    }
  }

  void start(any_handle socket) {
    try {
      connections_.start(handler_(std::move(socket), get_executor(), *this), [this](std::exception_ptr failure) {
        if (failure) judge(failure);
        if (draining() && connections_.size() == 0) hurry_.set();
      });
    } catch (...) {
      // A handler that is no coroutine throws here. It must not end the accepting with its own connection.
      judge(std::current_exception());
    }
  }

  /// Ends the worker for an exception that is not a connection's own.
  void judge(const std::exception_ptr& failure) {
    try {
      std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
      if (!is_of_connection(error.code())) fail(error.what());
    } catch (const std::exception& error) {
      fail(error.what());
    } catch (...) {
      fail("an exception that is no std::exception");
    }
  }

  /// What a peer, the network or a time limit does to one connection.
  static bool is_of_connection(const std::error_code& code) noexcept {
    if (code == asio::error::eof || code == asio::error::operation_aborted || code == errc::timed_out) return true;
    // Asio's errno category is not the standard library's, and does not compare equal to its conditions.
    const auto& category = code.category();
    if (category != asio::error::get_system_category() && category != std::system_category() &&
        category != std::generic_category()) {
      return false;
    }
    switch (code.value()) {
      case ECONNRESET:
      case ECONNABORTED:
      case ECONNREFUSED:
      case EPIPE:
      case ENOTCONN:
      case ETIMEDOUT:
      case EHOSTUNREACH:
      case ENETUNREACH:
      case ENETDOWN:
      case ENETRESET: return true;
      default: return false;
    }
  }

  asio::awaitable<void> heed_signals() {
    asio::signal_set signals(get_executor(), SIGTERM);
    // Counted apart from the parent's order: a service manager that signals the whole group at once means one stop.
    for (bool again = false;; again = true) {
      co_await signals.async_wait(asio::use_awaitable);
      if (again) hurry_.set();
      begin_drain(worker_exit::asked, "SIGTERM", true);
    }
  }

  asio::awaitable<void> keep_grace() {
    co_await drain_.wait();
    asio::steady_timer grace(get_executor(), options_.idle_grace);
    co_await grace.async_wait(asio::use_awaitable);
    end_grace();
  }

  static int rank(worker_exit status) noexcept {
    switch (status) {
      case worker_exit::fatal: return 3;
      case worker_exit::do_not_restart: return 2;
      case worker_exit::orphaned: return 1;
      default: return 0;
    }
  }

  void begin_drain(worker_exit why, const std::string& reason, bool empty_queues) {
    if (draining() && why == worker_exit::orphaned) return;  // it was on its way out for another reason
    if (rank(why) > rank(exit_)) exit_ = why;
    if (draining()) return;
    drain_.set();
    // The parent hears of it before anything else happens, and starts the replacement meanwhile.
    try {
      control::draining word;
      word.status = static_cast<std::int32_t>(why);
      word.reason = reason;
      channel_.post(word);
      channel_.decline_handles();
    } catch (const std::system_error&) {
      // No parent, nobody to tell.
    }
    if (empty_queues) accept_what_waits();
    close_listeners();
  }

  void accept_what_waits() {
    for (const auto& each : listeners_) {
      try {
        const auto kind = each.second->accepts();
        while (descriptor accepted = each.second->try_accept()) start(any_handle(kind, std::move(accepted)));
      } catch (const std::system_error&) {
        // No room for more of them; the queue goes down with the listener if nobody else has it.
      }
    }
  }

  void end_grace() {
    grace_over_ = true;
    for (idle_wait* each = idle_; each != nullptr;) {
      idle_wait* const next = each->next;
      each->wake.emit(asio::cancellation_type::terminal);
      each = next;
    }
  }

  asio::awaitable<void> finish_connections() {
    if (connections_.size() == 0) co_return;
    try {
      co_await with_timeout(hurry_.wait(), options_.drain_timeout);
    } catch (const std::system_error&) {
      // The deadline has passed.
    }
    if (connections_.size() == 0) co_return;
    end_grace();
    connections_.cancel();
    try {
      co_await with_timeout(connections_.wait_empty(), std::chrono::seconds(1));
    } catch (const std::system_error&) {
      // They do not end for being cancelled, and end with the process.
    }
  }

  void close_listener(listener_key key) {
    const auto at = listeners_.find(key);
    if (at == listeners_.end()) return;
    at->second->close();
    listeners_.erase(at);
  }

  void close_listeners() {
    for (const auto& each : listeners_) each.second->close();
    listeners_.clear();
  }

  worker_options options_;
  connection_handler handler_;
  channel<control::protocol::to_parent, control::protocol::to_child> channel_;
  task_group connections_;
  task_group background_;  // of the worker itself
  std::map<listener_key, std::shared_ptr<listener>> listeners_;
  event drain_;
  event hurry_;  // a second SIGTERM came, or nothing is left to wait for
  idle_wait* idle_ = nullptr;
  worker_exit exit_ = worker_exit::asked;
  unsigned slot_ = 0;
  bool grace_over_ = false;
};

namespace detail {

/// Lets go of the coroutines that have not ended before the worker goes that they use.
class worker_loop : public asio::io_context {
 public:
  worker_loop() : asio::io_context(1) {}

  struct ending {
    worker_loop& loop;
    ~ending() { loop.shutdown(); }
  };
};

}  // namespace detail

/// The whole of a worker process: call it from main and return what it returns.
///
/// Serves the parent that started this process with a channel (a cluster's primary, or any program that speaks
/// control::protocol) until it drains: see `worker`. Prints what keeps it from starting to stderr and returns 1.
inline int run_worker(connection_handler handler, const worker_options& options = {}) {
  try {
    // A worker ends by draining when its parent dies, which its channel tells; being killed for it would lose requests.
    ::prctl(PR_SET_PDEATHSIG, 0);
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    detail::worker_loop context;
    worker self(context.get_executor(), parent<control::protocol>(context.get_executor()), std::move(handler), options);
    const detail::worker_loop::ending before_worker{context};
    int status = static_cast<int>(worker_exit::fatal);
    std::exception_ptr failure;
    asio::co_spawn(context, self.run(), [&](std::exception_ptr escaped, int returned) {
      failure = escaped;
      if (!escaped) status = returned;
      context.stop();
    });
    while (!context.stopped()) {
      try {
        context.run();
      } catch (const std::exception& error) {
        self.fail(error.what());
      } catch (...) {
        self.fail("an exception that is no std::exception");
      }
    }
    if (failure) std::rethrow_exception(failure);
    return status;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker: %s\n", error.what());
    return static_cast<int>(worker_exit::fatal);
  }
}

}  // namespace cohort
