// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "process_watch.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <fstream>
#include <system_error>
#include <utility>
#include <variant>

#include <signal.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/text_of.hpp"
#include "../../core/timeout.hpp"
#include "../../worker/environment.hpp"
#include "worker_dialect.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> process_watch::launch(worker_ptr who, command program) {
  program.in(stdio::null).die_with_parent(false).process_group(process_group::own);
  program.env(detail::slot_variable, std::to_string(who->number()));
  program.env(detail::generation_variable, std::to_string(who->generation()));
  if (!who->agent.empty()) program.env(detail::agent_variable, who->agent);
  const auto& on_start = context_.options.on_start;
  if (on_start && who->agent.empty()) on_start(who->number(), program);
  // From its first moment on: what is sent to all processes of a server must not end one that is not set up yet.
  for (const auto& [number, action] : context_.options.signals) {
    if (action != cluster_action::none && number != SIGTERM) program.ignore_signal(number);
  }
  who->on_refused_signal = [this, one = who.get()](const std::string& why) { context_.fail(*one, why); };
  context_.enter(*who, worker_state::starting);
  who->end.oom_kills = detail::count_oom_kills();
  try {
    const auto& limits = context_.options.limits;
    channel_options channel;
    channel.max_message = limits.max_message;
    channel.max_calls = limits.max_messages;
    channel.max_peer_ring = 0;
    if (context_.dialect != nullptr && who->agent.empty()) {
      who->peer = co_await context_.dialect->start(who, std::move(program), channel);
    } else {
      who->peer = co_await spawn<worker_protocol>(std::move(program), channel);
    }
  } catch (const std::exception& error) {
    context_.fail(*who, error.what());
    co_return;
  }
  who->limit_state(context_.options.start_timeout);
  context_.emit(event_about(*who, cluster_event::kind::started));
  if (const auto score = context_.options.oom_score_adj) {
    const auto path = fmt::format("/proc/{}/oom_score_adj", who->pid());
    std::ofstream file(path);
    if (!(file << *score).flush())
      context_.fail(*who, fmt::format("oom_score_adj: cannot write {} to {}", *score, path));
  }
}

COHORT_INLINE asio::awaitable<worker_ending> process_watch::attend(worker_ptr who) {
  semaphore introductions(context_.get_executor(), context_.options.limits.max_introductions);
  task_group beside(context_.get_executor());
  const auto broken = [this, who](const std::exception_ptr& failure) { end_broken(*who, failure); };
  std::string trouble;
  try {
    beside.start(close_after_exit(who), ignored("reap() learns the status"));
    beside.start(warn_if_silent(who), broken);
    beside.start(intake_.take_messages(who), broken);
    beside.start(intake_.take_introductions(who, beside, introductions), broken);
    if (context_.options.hang_timeout.count() != 0) beside.start(ping_loop(who), broken);
    trouble = co_await listen_to(who);
  } catch (...) {  // there is no memory to attend to it
    who->kill();
    trouble = detail::text_of(std::current_exception());
  }
  co_await beside.cancel_and_wait();
  to_.on_end(who);
  if (!trouble.empty()) context_.fail(*who, trouble);
  worker_ending how;
  how.status = co_await reap(who);
  how.was_ready = who->ready_since.has_value();
  how.asked = who->end.asked;
  how.hung = who->end.cause == end_cause::hung;
  how.killed = who->end.cause.has_value();
  how.out_of_memory = detail::count_oom_kills() > who->end.oom_kills;
  co_return how;
}

COHORT_INLINE asio::awaitable<void> process_watch::close_after_exit(worker_ptr who) {
  co_await who->peer.wait();
  asio::steady_timer last_words(co_await asio::this_coro::executor, std::chrono::milliseconds(200));
  co_await last_words.async_wait(detail::awaited);
  who->peer.close();
}

COHORT_INLINE asio::awaitable<void> process_watch::warn_if_silent(worker_ptr who) {
  const std::chrono::milliseconds patience =
      std::min<std::chrono::milliseconds>(std::chrono::seconds(5), context_.options.start_timeout / 2);
  asio::steady_timer timer(co_await asio::this_coro::executor, patience);
  co_await timer.async_wait(detail::awaited);
  if (who->peer.has_greeted() || who->state() != worker_state::starting) co_return;
  context_.fail(
      *who, fmt::format("no word for {} s: does its program call {}?", std::chrono::duration<double>(patience).count(),
                        who->agent.empty() ? "run_worker()" : "run_agent()"));
}

COHORT_INLINE void process_watch::end_broken(worker_process& who, const std::exception_ptr& failure) {
  if (!failure || detail::system_error_in(failure)) return;  // of an error of the channel listen_to() is told too
  // There was no memory for it, say. It costs this process, and nobody else.
  context_.fail(who, detail::text_of(failure));
  who.kill();
}

COHORT_INLINE asio::awaitable<std::string> process_watch::listen_to(worker_ptr who) {
  try {
    while (auto message = co_await who->peer.receive()) hear(who, *message);
  } catch (...) {
    // A worker that died in the middle of a message is told by its exit status. One that talks nonsense is ended; and a
    // message that there is no memory for costs its sender, and nobody else.
    const auto error = detail::system_error_in(std::current_exception());
    if (!error || (error->code() != errc::peer_closed && error->code() != operation_aborted())) {
      who->kill();
      co_return detail::text_of(std::current_exception());
    }
  }
  if (who->end.cause == end_cause::timed_out) co_return timeout_text(*who);
  co_return std::string();
}

COHORT_INLINE void process_watch::hear(const worker_ptr& who, const worker_protocol::to_parent& message) {
  if (std::holds_alternative<worker_protocol::ready>(message)) {
    to_.on_ready(who);
  } else if (const auto* word = std::get_if<worker_protocol::draining>(&message)) {
    if (std::exchange(who->end.announced, true)) return;
    auto told = *word;
    told.reason = detail::one_line(std::move(told.reason));
    to_.on_draining(who, told);
  } else if (const auto* answer = std::get_if<worker_protocol::pong>(&message)) {
    auto& figures = who->figures;
    const bool first = std::exchange(figures.health, *answer).number != answer->number;
    if (first && answer->number == figures.pinged) figures.lag = worker_process::clock::now() - figures.pinged_at;
    to_.on_figures(who);
  } else if (const auto* count = std::get_if<worker_protocol::ended>(&message)) {
    who->figures.ended = std::min(count->connections, who->figures.leased);
    to_.on_figures(who);
  } else if (const auto* sum = std::get_if<worker_protocol::counted>(&message)) {
    if (!context_.counters.take(who->figures.counted, sum->name, sum->value)) ++who->figures.refused;
  } else if (const auto* trouble = std::get_if<worker_protocol::failed>(&message)) {
    complain(*who, detail::one_line(trouble->what));
  }
}

COHORT_INLINE void process_watch::complain(worker_process& who, std::string what) {
  constexpr std::chrono::seconds window{10};
  auto& figures = who.figures;
  const auto now = worker_process::clock::now();
  if (now - figures.events_since >= window) {
    figures.events_since = now;
    figures.events = 0;
    if (figures.events_left_out != 0) what += fmt::format(" ({} more before it)", figures.events_left_out);
    figures.events_left_out = 0;
  }
  if (figures.events++ < context_.options.limits.max_events) {
    context_.fail(who, what);
  } else {
    ++figures.events_left_out;
    ++figures.refused;
  }
}

COHORT_INLINE asio::awaitable<void> process_watch::ping_loop(worker_ptr who) {
  const auto interval = context_.options.ping_interval;
  const auto hang_timeout = context_.options.hang_timeout;
  const auto allowed = std::max<std::int64_t>(1, hang_timeout / interval);
  asio::steady_timer timer(co_await asio::this_coro::executor);
  auto& figures = who->figures;
  for (std::int64_t missed = 0; missed < allowed;) {
    timer.expires_after(interval);
    co_await timer.async_wait(detail::awaited);
    if (who->state() == worker_state::starting) continue;  // it has its own limit
    if (figures.health.number != figures.pinged) {
      ++missed;
      continue;
    }
    missed = 0;
    worker_protocol::ping question;
    question.number = ++figures.pinged;
    figures.pinged_at = worker_process::clock::now();
    who->tell(question);
  }
  who->end.cause = end_cause::hung;
  context_.fail(*who, fmt::format("hung: no answer for {} s", std::chrono::duration<double>(hang_timeout).count()));
  to_.on_end(who);
  who->signal(SIGABRT);
  timer.expires_after(primary_context::kill_after);
  co_await timer.async_wait(detail::awaited);
  who->kill(end_cause::hung);
}

COHORT_INLINE asio::awaitable<exit_status> process_watch::reap(worker_ptr who) {
  exit_status status;
  bool late = false;
  try {
    // Its channel has ended, so it is about to exit; one that closes it and stays has no right to.
    status = co_await with_timeout(who->peer.wait(), primary_context::kill_after);
  } catch (...) {
    const auto error = detail::caught();
    late = error.code() == errc::timed_out;
  }
  if (late) {
    who->kill();
    try {
      status = co_await who->peer.wait();
    } catch (...) {
      detail::caught();
      // Somebody else in this process took the status: it is gone all the same.
    }
  }
  co_return status;
}

COHORT_INLINE std::string process_watch::timeout_text(const worker_process& who) const {
  if (who.state() == worker_state::starting) {
    return fmt::format("not ready after {} s", std::chrono::duration<double>(context_.options.start_timeout).count());
  }
  return fmt::format("not done {} s after the drain timeout",
                     std::chrono::duration<double>(primary_context::kill_after).count());
}

}  // namespace cohort
