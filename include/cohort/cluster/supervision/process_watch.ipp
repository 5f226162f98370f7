// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "process_watch.hpp"

#include "../../core/config.hpp"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <variant>

#include <signal.h>

#include <fmt/format.h>

#include "../../core/timeout.hpp"
#include "../../ipc/peer.hpp"

namespace cohort {

COHORT_INLINE asio::awaitable<void> process_watch::launch(worker_ptr who) {
  command program = program_for(*who);
  program.in(stdio::null).die_with_parent(false).process_group(process_group::own);
  program.env(detail::slot_variable, std::to_string(who->number()));
  program.env(detail::generation_variable, std::to_string(who->generation()));
  if (!who->agent.empty()) program.env(detail::agent_variable, who->agent);
  if (options_.on_start && who->agent.empty()) options_.on_start(who->number(), program);
  enter(*who, worker_state::starting);
  who->oom_kills = detail::count_oom_kills();
  try {
    who->peer = co_await spawn<worker_protocol>(std::move(program));
  } catch (const std::system_error& error) {
    fail(*who, error.what());
    co_return;
  }
  who->limit_state(options_.start_timeout);
  emit(about(*who, cluster_event::kind::started));
}

COHORT_INLINE asio::awaitable<worker_ending> process_watch::attend(worker_ptr who) {
  const auto executor = co_await asio::this_coro::executor;
  task_group beside(executor);
  beside.start(watch(who), [](std::exception_ptr) {});
  beside.start(take_messages(who), [](std::exception_ptr) {});
  beside.start(take_connect_requests(who, beside), [](std::exception_ptr) {});
  if (options_.hang_timeout.count() != 0) beside.start(ping_loop(who), [](std::exception_ptr) {});
  const std::string trouble = co_await listen_to(who);
  beside.cancel();
  co_await beside.wait_empty();
  leave(who);
  if (!trouble.empty()) fail(*who, trouble);
  worker_ending how;
  how.status = co_await reap(who);
  how.was_ready = who->ready_since.has_value();
  how.asked = who->asked;
  how.hung = who->hung;
  how.killed = who->killed;
  how.out_of_memory = detail::count_oom_kills() > who->oom_kills;
  co_return how;
}

COHORT_INLINE void process_watch::enter(worker_process& who, worker_state next) {
  who.enter(next);
  on_state();
}

COHORT_INLINE void process_watch::fail(worker_process& who, const std::string& why) {
  who.trouble = why;
  emit(about(who, cluster_event::kind::failed, why));
}

COHORT_INLINE cluster_event process_watch::about(const worker_process& who, cluster_event::kind what,
                                                 std::string text) {
  cluster_event event(what, who.number(), who.pid(), std::move(text));
  event.agent = who.agent;
  return event;
}

COHORT_INLINE asio::awaitable<void> process_watch::watch(worker_ptr who) {
  co_await who->peer.wait();
  asio::steady_timer last_words(co_await asio::this_coro::executor, std::chrono::milliseconds(200));
  co_await last_words.async_wait(asio::use_awaitable);
  who->peer.close();
}

COHORT_INLINE asio::awaitable<void> process_watch::take_messages(worker_ptr who) {
  co_await who->peer.serve_calls([this](routed_message what) { return router().route(std::move(what)); });
}

COHORT_INLINE asio::awaitable<void> process_watch::take_connect_requests(worker_ptr who, task_group& beside) {
  while (auto given = co_await who->peer.receive_handle()) {
    const auto* const whom = std::get_if<worker_protocol::connect_request>(&given->message);
    if (whom == nullptr) continue;
    beside.start(router().connect(who, *whom, std::move(given->handle)), [](std::exception_ptr) {});
  }
}

COHORT_INLINE asio::awaitable<std::string> process_watch::listen_to(worker_ptr who) {
  try {
    while (auto message = co_await who->peer.receive()) {
      if (std::holds_alternative<worker_protocol::ready>(*message)) {
        on_ready(who);
      } else if (const auto* word = std::get_if<worker_protocol::draining>(&*message)) {
        on_draining(who, *word);
      } else if (const auto* answer = std::get_if<worker_protocol::pong>(&*message)) {
        who->health = *answer;
        if (answer->number == who->pinged) who->lag = worker_process::clock::now() - who->pinged_at;
        on_pong(who);
      } else if (const auto* count = std::get_if<worker_protocol::ended>(&*message)) {
        who->ended = count->connections;
        on_ended(who);
      } else if (const auto* trouble = std::get_if<worker_protocol::failed>(&*message)) {
        fail(*who, trouble->what);
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

COHORT_INLINE asio::awaitable<void> process_watch::ping_loop(worker_ptr who) {
  const auto interval = options_.ping_interval;
  const auto allowed = std::max<std::int64_t>(1, options_.hang_timeout / interval);
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (std::int64_t missed = 0; missed < allowed;) {
    timer.expires_after(interval);
    co_await timer.async_wait(asio::use_awaitable);
    if (who->state() == worker_state::starting) continue;  // it has its own limit
    if (who->health.number != who->pinged) {
      ++missed;
      continue;
    }
    missed = 0;
    worker_protocol::ping question;
    question.number = ++who->pinged;
    who->pinged_at = worker_process::clock::now();
    who->tell(question);
  }
  who->hung = true;
  fail(*who, fmt::format("hung: no answer for {} s", std::chrono::duration<double>(options_.hang_timeout).count()));
  leave(who);
  who->signal(SIGABRT);
  timer.expires_after(kill_after);
  co_await timer.async_wait(asio::use_awaitable);
  who->kill();
}

COHORT_INLINE asio::awaitable<exit_status> process_watch::reap(worker_ptr who) {
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

COHORT_INLINE std::string process_watch::timeout_text(const worker_process& who) const {
  if (who.state() == worker_state::starting) {
    return fmt::format("not ready after {} s", std::chrono::duration<double>(options_.start_timeout).count());
  }
  return fmt::format("not done {} s after the drain timeout", std::chrono::duration<double>(kill_after).count());
}

}  // namespace cohort
