// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker.hpp"

#include "../core/config.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <variant>

#include <signal.h>

#include <fmt/format.h>

#include "../core/timeout.hpp"
#include "../net/acceptor.hpp"
#include "../process/this_process.hpp"
#include "detail/connection_error.hpp"

namespace cohort {

COHORT_INLINE worker::worker(asio::any_io_executor executor,
                             channel<worker_protocol::to_parent, worker_protocol::to_child> channel,
                             connection_handler handler, const worker_options& options)
    : options_(options),
      handler_(std::move(handler)),
      channel_(std::move(channel)),
      connections_(executor),
      background_(executor),
      drain_(executor),
      hurry_(executor),
      accepting_(
          executor, [this](asio::awaitable<void> work) { start_background(std::move(work)); },
          [this] { return has_room(); }, [this](any_handle socket) { start(std::move(socket), false); }),
      jobs_(*this, options.jobs, [this] { note_idle(); }),
      work_(executor),
      all_ready_(executor),
      messages_(executor, this_member(),
                [this](routed_message what, bool directly) { return carry(std::move(what), directly); }),
      direct_(executor, channel_, messages_) {
  options_.drain_timeout = std::min(options_.drain_timeout, detail::longest_time);
  options_.idle_grace = std::min(options_.idle_grace, detail::longest_time);
  generation_ = number_from(detail::generation_variable);
}

COHORT_INLINE void worker::on_exception(const std::exception_ptr& failure) {
  std::string what = "an exception that is no std::exception";
  try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {
  }
  if (!options_.survives_exceptions) return fail(what);
  try {
    worker_protocol::failed word;
    word.what = what;
    channel_.post(word);
  } catch (const std::system_error&) {
    // No parent, nobody to tell.
  }
}

COHORT_INLINE asio::awaitable<int> worker::run() {
  start_background(handle_signals());
  start_background(keep_grace());
  start_background(take_orders());
  start_background(answer_calls());
  if (options_.set_up) co_await or_fail(options_.set_up(*this));
  if (!draining()) {
    try {
      show("");
      channel_.post(worker_protocol::ready());
    } catch (const std::system_error& error) {
      // A parent that is gone already is an orphaning like any other, of which take_orders() tells.
      if (error.code() != errc::peer_closed) fail(error.what());
    }
    start_background(take_handles());
    if (options_.run) start_work();
  }

  co_await drain_.wait();
  co_await finish_connections();
  work_.cancel();
  co_await give_a_second(work_);
  if (options_.tear_down) co_await or_fail(with_timeout(options_.tear_down(*this), options_.drain_timeout));

  try {
    co_await with_timeout(channel_.disconnect(), std::chrono::seconds(1));
  } catch (const std::system_error&) {
    // A parent that is gone, or does not read, will learn it from the exit status.
  }
  channel_.close();
  background_.cancel();
  direct_.tasks().cancel();
  co_await give_a_second(background_);
  co_await give_a_second(direct_.tasks());
  co_return static_cast<int>(exit_);
}

COHORT_INLINE void worker::show(std::string_view state) {
  if (options_.title.empty()) return;
  try {
    const std::string who =
        agent().empty() ? fmt::format("worker {} gen {}", slot(), generation_) : fmt::format("agent {}", agent());
    this_process::set_title(fmt::format("{}: {}{}", options_.title, who, state));
  } catch (const std::system_error&) {
    // No /proc: ps would not show it either.
  }
}

COHORT_INLINE member worker::this_member() {
  member self;
  self.slot = number_from(detail::slot_variable);
  self.pid = ::getpid();
  if (const char* const name = std::getenv(detail::agent_variable)) self.agent = name;
  return self;
}

COHORT_INLINE unsigned worker::number_from(const char* variable) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : 0;
}

COHORT_INLINE asio::awaitable<void> worker::or_fail(asio::awaitable<void> work) {
  try {
    co_await std::move(work);
  } catch (const std::exception& error) {
    fail(error.what());
  } catch (...) {
    fail("an exception that is no std::exception");
  }
}

COHORT_INLINE void worker::start_background(asio::awaitable<void> work) {
  background_.start(std::move(work), [this](std::exception_ptr failure) {
    if (failure) end_on(failure);
  });
}

COHORT_INLINE void worker::start_work() {
  work_.start(options_.run(*this), [this](std::exception_ptr failure) {
    if (failure && !draining()) on_exception(failure);
  });
}

COHORT_INLINE asio::awaitable<void> worker::give_a_second(task_group& tasks) {
  try {
    co_await with_timeout(tasks.wait_empty(), std::chrono::seconds(1));
  } catch (const std::system_error&) {
    // Time is up.
  }
}

COHORT_INLINE asio::awaitable<worker_protocol::job_result> worker::callee::operator()(
    worker_protocol::start_job what) const {
  return self.jobs_.run(std::move(what.schedule));
}

COHORT_INLINE asio::awaitable<void> worker::answer_calls() {
  const callee here{*this};
  try {
    co_await channel_.serve_calls(here);
  } catch (const std::system_error&) {
    // Its end, and whatever else is wrong with the channel, take_orders() learns too.
  }
}

COHORT_INLINE asio::awaitable<receipt> worker::carry(routed_message what, bool directly) {
  using kind = recipient::kind;
  const auto to = detail::address_of(what).what();
  const bool to_primary = to == kind::process && what.number == ::getppid();
  if (directly && !to_primary && (to == kind::slot || to == kind::process || to == kind::agent)) {
    return direct_.send(std::move(what));
  }
  return channel_.call<receipt>(what);
}

COHORT_INLINE asio::awaitable<void> worker::take_orders() {
  try {
    while (auto message = co_await channel_.receive()) {
      if (const auto* gone = std::get_if<worker_protocol::unlisten>(&*message)) {
        close_listener({gone->listener, gone->grant});
      } else if (const auto* drain = std::get_if<worker_protocol::drain>(&*message)) {
        begin_drain(worker_exit::asked, "asked by the parent", drain->empty_queues);
      } else if (const auto* question = std::get_if<worker_protocol::ping>(&*message)) {
        answer(*question);
      } else if (std::holds_alternative<worker_protocol::reopen>(*message)) {
        if (options_.on_reopen) options_.on_reopen();
      } else if (std::holds_alternative<worker_protocol::all_ready>(*message)) {
        all_ready_.set();
      } else if (std::holds_alternative<worker_protocol::count_connections>(*message)) {
        counts_connections_ = true;
        if (ended_ != 0) tell_ended_soon();
      }
    }
  } catch (const std::system_error& error) {
    if (error.code() != errc::peer_closed && error.code() != asio::error::operation_aborted) throw;
  }
  begin_drain(worker_exit::orphaned, "the parent is gone", true);
}

COHORT_INLINE void worker::answer(const worker_protocol::ping& question) {
  worker_protocol::pong how;
  how.number = question.number;
  how.served = served_;
  how.open = static_cast<std::uint32_t>(connections_.size());
  how.memory = resident_memory();
  channel_.post(how);
  if (counts_connections_ || ended_ == 0) return;
  worker_protocol::ended word;  // nobody waits for it: with the other figures will do
  word.connections = ended_;
  channel_.post(word);
}

COHORT_INLINE std::uint64_t worker::resident_memory() {
  std::uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

COHORT_INLINE void worker::on_connection_ended(bool leased, const std::exception_ptr& failure) {
  ++served_;
  accepting_.note_room();
  if (leased) {
    ++ended_;
    tell_ended_soon();
  }
  if (failure) end_on(failure);
  note_idle();
}

COHORT_INLINE void worker::note_idle() {
  if (draining() && is_idle()) hurry_.set();
}

COHORT_INLINE void worker::tell_ended_soon() {
  if (counts_connections_ && !std::exchange(tells_, true)) start_background(tell_ended());
}

COHORT_INLINE asio::awaitable<void> worker::tell_ended() {
  asio::steady_timer pause(get_executor(), std::chrono::milliseconds(1));
  co_await pause.async_wait(asio::use_awaitable);
  tells_ = false;
  worker_protocol::ended word;
  word.connections = ended_;
  if (!channel_.is_open()) co_return;
  try {
    channel_.post(word);
  } catch (const std::system_error&) {
    // No parent, nobody to tell.
  }
}

COHORT_INLINE asio::awaitable<void> worker::take_handles() {
  try {
    for (;;) {
      // What is not received is not this worker's yet: it goes to another one should this one die.
      while (!has_room() && !draining()) co_await accepting_.wait_room();
      auto given = co_await channel_.receive_handle();
      if (!given) break;
      if (const auto* where = std::get_if<worker_protocol::listen>(&given->message)) {
        listen({where->listener, where->grant}, std::move(given->handle));
      } else if (std::holds_alternative<worker_protocol::serve>(given->message)) {
        start(std::move(given->handle), true);
      } else if (std::holds_alternative<worker_protocol::connect_offer>(given->message)) {
        direct_.accept_offer(std::move(given->handle).as<descriptor>(get_executor()));
      }
    }
  } catch (const std::system_error& error) {
    if (error.code() != errc::peer_closed && error.code() != asio::error::operation_aborted) throw;
  }
}

COHORT_INLINE void worker::listen(accept_loop::key key, any_handle handle) {
  if (draining()) return;
  if (handle.kind() == handle_kind::udp_socket) {
    serve_datagrams(key, std::move(handle).as<asio::ip::udp::socket>(get_executor()));
    return;
  }
  const bool listens = handle.kind() == handle_kind::tcp_acceptor || handle.kind() == handle_kind::local_acceptor;
  auto on = std::make_shared<acceptor>(get_executor(), std::move(handle).as<descriptor>(get_executor()));
  if (listens && !handler_.takes(on->accepts())) {
    throw_error(fmt::format("worker: the handler takes no {}", to_string(on->accepts())), errc::wrong_handle_kind);
  }
  close_listener(key);
  accepting_.add(key, std::move(on));
}

COHORT_INLINE void worker::serve_datagrams(accept_loop::key key, asio::ip::udp::socket socket) {
  if (!options_.serve_datagrams) {
    throw_error("worker: no worker_options::serve_datagrams", errc::wrong_handle_kind);
  }
  datagrams_[key] = connections_.start(options_.serve_datagrams(std::move(socket), *this),
                                       [this](std::exception_ptr failure) { on_connection_ended(false, failure); });
}

COHORT_INLINE asio::awaitable<void> worker::serve_leased(any_handle socket) {
  co_await asio::post(get_executor(), asio::use_awaitable);  // it leaves at the end of this turn, with all the others
  try {
    co_await channel_.flush();  // unless the parent is stopped, and what it has not read fills the socket
  } catch (const std::system_error& error) {
    if (error.code() == asio::error::operation_aborted) throw;
    // The parent is gone, and gives it to nobody else.
  }
  co_await handler_(std::move(socket), get_executor(), *this);
}

COHORT_INLINE void worker::start(any_handle socket, bool leased) {
  try {
    auto serving = leased ? serve_leased(std::move(socket)) : handler_(std::move(socket), get_executor(), *this);
    connections_.start(std::move(serving),
                       [this, leased](std::exception_ptr failure) { on_connection_ended(leased, failure); });
  } catch (...) {
    // A handler that is no coroutine throws here. It must not end the accepting with its own connection.
    end_on(std::current_exception());
  }
}

COHORT_INLINE void worker::end_on(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const std::system_error& error) {
    if (is_of_connection(error.code())) return;
  } catch (...) {
  }
  on_exception(failure);
}

COHORT_INLINE asio::awaitable<void> worker::handle_signals() {
  asio::signal_set signals(get_executor(), SIGTERM);
  // Counted apart from the parent's order: a service manager that signals the whole group at once means one stop.
  for (bool again = false;; again = true) {
    co_await signals.async_wait(asio::use_awaitable);
    if (again) hurry_.set();
    begin_drain(worker_exit::asked, "SIGTERM", true);
  }
}

COHORT_INLINE asio::awaitable<void> worker::keep_grace() {
  co_await drain_.wait();
  asio::steady_timer grace(get_executor(), options_.idle_grace);
  co_await grace.async_wait(asio::use_awaitable);
  constexpr std::chrono::milliseconds step{10};
  for (auto steps = options_.idle_spread / step; steps > 0; --steps) {
    idle_.close(1 / static_cast<double>(steps));
    grace.expires_after(step);
    co_await grace.async_wait(asio::use_awaitable);
  }
  idle_.close_all();
}

COHORT_INLINE int worker::rank(worker_exit status) noexcept {
  switch (status) {
    case worker_exit::fatal: return 3;
    case worker_exit::do_not_restart: return 2;
    case worker_exit::orphaned: return 1;
    default: return 0;
  }
}

COHORT_INLINE void worker::begin_drain(worker_exit why, const std::string& reason, bool empty_queues) {
  if (draining() && why == worker_exit::orphaned) return;  // it was on its way out for another reason
  if (rank(why) > rank(exit_)) exit_ = why;
  if (draining()) return;
  drain_.set();
  jobs_.decline();
  show(" [draining]");
  // The parent hears of it before anything else happens, and starts the replacement meanwhile.
  try {
    worker_protocol::draining word;
    word.status = static_cast<std::int32_t>(why);
    word.reason = reason;
    channel_.post(word);
    channel_.decline_handles();
    direct_.decline();
  } catch (const std::system_error&) {
    // No parent, nobody to tell.
  }
  if (empty_queues) {
    accepting_.accept_what_waits([this](asio::awaitable<void> rest) {
      connections_.start(std::move(rest), [this](std::exception_ptr) { note_idle(); });
    });
  }
  accepting_.close_all();
}

COHORT_INLINE asio::awaitable<void> worker::finish_connections() {
  if (is_idle()) co_return;
  try {
    co_await with_timeout(hurry_.wait(), options_.drain_timeout);
  } catch (const std::system_error&) {
    // The deadline has passed.
  }
  if (is_idle()) co_return;
  idle_.close_all();
  connections_.cancel();
  co_await give_a_second(connections_);
}

COHORT_INLINE void worker::close_listener(accept_loop::key which) {
  if (const auto udp = datagrams_.extract(which); !udp.empty()) {
    if (const auto signal = udp.mapped().lock()) signal->emit(asio::cancellation_type::terminal);
  }
  accepting_.close(which);
}

}  // namespace cohort
