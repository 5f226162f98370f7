// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "worker_session.hpp"

#include <algorithm>
#include <cerrno>
#include <exception>
#include <fstream>
#include <system_error>
#include <utility>

#include <linux/sockios.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "../../core/text_of.hpp"
#include "../../core/timeout.hpp"
#include "message.hpp"

namespace cohort::node_cluster {

namespace detail {

/// The resident memory of a process, in bytes; 0 if there is none.
COHORT_INLINE std::uint64_t resident_memory(pid_t pid) {
  std::uint64_t total = 0, resident = 0;
  std::ifstream(fmt::format("/proc/{}/statm", pid)) >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace detail

COHORT_INLINE worker_session::worker_session(primary_context& context, listener_table& listeners,
                                             const node_workers_options& options, worker_ptr who, node_link wire,
                                             primary_channel to_primary)
    : context_(context),
      listeners_(listeners),
      options_(options),
      who_(std::move(who)),
      wire_(std::move(wire)),
      to_primary_(std::move(to_primary)),
      tasks_(context.get_executor()) {}

COHORT_INLINE asio::awaitable<void> worker_session::run() {
  const auto self = shared_from_this();
  co_await asio::post(context_.get_executor(), asio::use_awaitable);  // who started the process has it by then
  start(take_orders());
  start(take_messages());
  co_await listen_to();
  ended_ = true;
  for (const auto& [number, each] : offers_) each->answered.set();  // what the worker has not taken goes to another one
  wire_.close();
  co_await tasks_.cancel_and_wait();
  listeners_.leave(who_);
  co_await wait_for_exit();
  say_figures();
  try {
    co_await with_timeout(to_primary_.disconnect(), std::chrono::seconds(1));
  } catch (...) {
    cohort::detail::caught();  // it has closed its end already
  }
  to_primary_.close();
}

COHORT_INLINE void worker_session::start(asio::awaitable<void> work) {
  tasks_.start(std::move(work), [self = shared_from_this()](const std::exception_ptr& failure) {
    if (!failure || self->ended_) return;
    if (cohort::detail::system_error_in(failure)) return;
    self->say_failed(cohort::detail::text_of(failure));
    self->who_->kill();
  });
}

COHORT_INLINE asio::awaitable<void> worker_session::listen_to() {
  return or_end([](worker_session& self) -> asio::awaitable<void> {
    while (auto message = co_await self.wire_.receive_internal()) self.hear(message->value);
  });
}

COHORT_INLINE asio::awaitable<void> worker_session::take_messages() {
  return or_end([](worker_session& self) -> asio::awaitable<void> {
    const auto& use = self.options_.on_message;
    while (auto message = co_await self.wire_.receive()) {
      if (use) use(self.who_->number(), message->value);
    }
  });
}

COHORT_INLINE asio::awaitable<void> worker_session::or_end(asio::awaitable<void> (*part)(worker_session&)) {
  std::string trouble;
  try {
    co_await part(*this);
  } catch (...) {  // a message that there is no memory for, say, costs its sender
    const auto error = cohort::detail::system_error_in(std::current_exception());
    const bool is_end = error && (error->code() == errc::peer_closed || error->code() == errc::closed ||
                                  error->code() == operation_aborted());
    if (!is_end) trouble = cohort::detail::text_of(std::current_exception());
  }
  if (trouble.empty()) co_return;
  say_failed(trouble);
  who_->kill();
}

COHORT_INLINE void worker_session::hear(const json& message) {
  if (detail::text_in(message, "cmd") != "NODE_CLUSTER") return;
  const auto answered = detail::number_in(message, "ack");
  if (answered && offers_.contains(*answered)) return hear_answer(*answered, message);
  const std::string act = detail::text_in(message, "act");
  if (act == "online") {
    if (options_.ready_when_online) say_ready();
  } else if (act == "queryServer") {
    if (!leaving_) answer(answer_query(message));
  } else if (act == "listening") {
    say_ready();
  } else if (act == "close") {
    listeners_.close(who_, detail::text_in(message, "key"));
  } else if (act == "exitedAfterDisconnect") {
    if (!std::exchange(leaving_, true)) {
      worker_protocol::draining word;
      word.reason = "it leaves by itself";
      to_primary_.post_if_open(word);
    }
    answer(send(message_with("ack", detail::member_of(message, "seq"))));
  }
}

COHORT_INLINE void worker_session::answer(asio::awaitable<void> work) {
  constexpr std::size_t most = 2048;  // more than any program has listeners
  if (unsent_ >= most || wire_.connection()->waiting_bytes() > wire_.options().max_message) {
    throw_error("cluster: the worker asks and does not read", ENOBUFS);
  }
  start(count_answer(std::move(work)));
}

COHORT_INLINE asio::awaitable<void> worker_session::count_answer(asio::awaitable<void> work) {
  const cohort::detail::counted one(unsent_);
  co_await std::move(work);
}

COHORT_INLINE void worker_session::hear_answer(std::uint64_t number, const json& message) {
  const auto offered = offers_.find(number)->second;
  const json& accepted = detail::member_of(message, "accepted");
  offered->accepted = accepted.is_boolean() && accepted.get<bool>();
  if (offered->accepted) ++taken_;
  offered->answered.set();
}

COHORT_INLINE json worker_session::message_with(const char* name, json value) {
  json message = json::object();
  message[name] = std::move(value);
  return detail::cluster_message(std::move(message), next_number_);
}

COHORT_INLINE asio::awaitable<void> worker_session::send(json message) { co_await wire_.send_internal(message); }

COHORT_INLINE asio::awaitable<bool> worker_session::give(std::string key, any_handle& socket) {
  if (ended_) throw_error("newconn", errc::peer_closed);
  const auto self = shared_from_this();
  const std::uint64_t number = next_number_;
  json message = message_with("act", "newconn");
  message["key"] = std::move(key);
  const auto mine = std::make_shared<offer>(context_.get_executor());
  offers_.emplace(number, mine);
  const cohort::detail::on_exit forget([&] { offers_.erase(number); });
  co_await wire_.send_internal_handle(message, socket.native_handle(), node_handle_type::native);
  co_await mine->answered.wait();
  if (ended_ && !mine->accepted) throw_error("newconn", errc::peer_closed);
  if (mine->accepted) socket = any_handle();
  co_return mine->accepted;
}

COHORT_INLINE listen_answer worker_session::find(const json& query) {
  try {
    return listeners_.ask(who_, parse_listen_query(query));
  } catch (...) {  // no query at all: who has sent it waits for an answer all the same
    const auto error = cohort::detail::caught();
    listen_answer answer;
    answer.error = -EINVAL;
    answer.trouble = error.what();
    return answer;
  }
}

COHORT_INLINE asio::awaitable<void> worker_session::answer_query(json query) {
  const listen_answer found = find(query);
  if (found.error != 0) say_failed(found.trouble);
  bool sent = true;
  try {
    co_await send_answer(query, found);
  } catch (...) {
    // Its descriptor table is full. It waits for the answer, so that it must get another one.
    const auto error = cohort::detail::caught();
    sent = ended_ || error.code() == operation_aborted() || error.code() == errc::peer_closed;
  }
  if (sent) co_return;
  listeners_.close(who_, found.key);
  listen_answer sorry;
  sorry.key = found.key;
  sorry.error = -EMFILE;
  co_await send_answer(query, sorry);
}

COHORT_INLINE asio::awaitable<void> worker_session::send_answer(const json& query, const listen_answer& what) {
  json message = message_with("ack", detail::member_of(query, "seq"));
  message["errno"] = what.error;
  message["key"] = what.key;
  message["data"] = what.data;
  if (what.error == 0 && what.shared >= 0) {
    const auto type = what.datagrams ? node_handle_type::native_datagram : node_handle_type::native;
    co_await wire_.send_internal_handle(message, what.shared, type);
    co_return;
  }
  if (!what.sockname.is_null()) message["sockname"] = what.sockname;
  co_await wire_.send_internal(message);
}

COHORT_INLINE void worker_session::say_ready() {
  if (!std::exchange(ready_, true)) to_primary_.post_if_open(worker_protocol::ready());
}

COHORT_INLINE void worker_session::say_failed(std::string what) {
  worker_protocol::failed word;
  word.what = std::move(what);
  to_primary_.post_if_open(word);
}

COHORT_INLINE asio::awaitable<void> worker_session::take_orders() {
  for (;;) {
    std::optional<orders> order;
    try {
      order = co_await to_primary_.receive();
    } catch (...) {
      const auto error = cohort::detail::caught();
      if (error.code() != errc::unknown_message) throw;
      continue;  // one that a Node program would not understand
    }
    if (!order) co_return;
    if (const auto* question = std::get_if<worker_protocol::ping>(&*order)) {
      start(answer_ping(question->number));
    } else {
      start(ask_to_leave());
    }
  }
}

COHORT_INLINE asio::awaitable<void> worker_session::ask_to_leave() {
  if (std::exchange(leaving_, true)) co_return;
  co_await send(message_with("act", "disconnect"));
}

COHORT_INLINE asio::awaitable<void> worker_session::answer_ping(std::uint64_t number) {
  // Node leaves alone what it does not know, and has read it when its loop turns.
  json message;
  message["cmd"] = "NODE_COHORT_PING";
  co_await wire_.send_internal(message);
  co_await wait_until_read();
  last_ping_ = number;
  say_figures();
}

COHORT_INLINE asio::awaitable<void> worker_session::wait_until_read() {
  using std::chrono::milliseconds;
  asio::steady_timer timer(context_.get_executor());
  int unread = 0;
  for (milliseconds pause{1}; ::ioctl(wire_.connection()->native_handle(), SIOCOUTQ, &unread) == 0 && unread > 0;
       pause = std::min(2 * pause, milliseconds(50))) {
    timer.expires_after(pause);
    co_await timer.async_wait(cohort::detail::awaited);
  }
}

COHORT_INLINE void worker_session::say_figures() {
  worker_protocol::pong how;
  how.number = last_ping_;
  how.served = taken_;
  how.memory = detail::resident_memory(who_->pid());
  to_primary_.post_if_open(how);
  worker_protocol::ended word;
  word.connections = taken_;
  to_primary_.post_if_open(word);
}

COHORT_INLINE asio::awaitable<void> worker_session::wait_for_exit() {
  const auto exits_within = [this](std::chrono::milliseconds limit) -> asio::awaitable<bool> {
    bool late = false;
    try {
      co_await with_timeout(who_->peer.wait(), limit);
    } catch (...) {
      const auto error = cohort::detail::caught();
      late = error.code() == errc::timed_out;
    }
    co_return !late;
  };
  bool ended = co_await exits_within(options_.linger);
  if (ended) co_return;
  who_->signal(SIGTERM);
  ended = co_await exits_within(primary_context::kill_after);
}

}  // namespace cohort::node_cluster
