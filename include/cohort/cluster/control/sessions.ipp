// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "sessions.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>

#include <unistd.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/scope.hpp"
#include "../../core/timeout.hpp"

namespace cohort::detail {

COHORT_INLINE control_sessions::control_sessions(cluster& primary, asio::local::stream_protocol::endpoint at,
                                                 variables environment, std::string group)
    : primary_(primary),
      at_(std::move(at)),
      clients_(primary.get_executor()),
      reloads_(primary.get_executor()),
      answered_(primary.get_executor()),
      environment_(std::move(environment)),
      group_(std::move(group)) {
  // Nothing keeps others from an abstract name.
  if (!group_.empty() && at_.path().front() == '\0') {
    throw_error(fmt::format("control socket {}: a group wants a path", cohort::to_string(at_)), errc::invalid_option);
  }
  open();
}

COHORT_INLINE void control_sessions::open() {
  constexpr int backlog = 16;
  constexpr mode_t for_its_owner = 0600, for_the_group = 0660;
  socket_rights rights(group_.empty() ? for_its_owner : for_the_group);
  rights.group = group_;
  auto opened = open_unix_listener(at_, backlog, rights);
  file_ = std::move(opened.file);
  acceptor_ = std::make_shared<acceptor>(clients_.get_executor(), std::move(opened.socket));
}

COHORT_INLINE void control_sessions::look() {
  if (stopped_ || at_.path().front() == '\0' || file_.is_there()) return;
  const auto before = acceptor_;
  open();
  before->close();
}

COHORT_INLINE void control_sessions::note(const cluster_event& event) {
  for (follower* each : followers_) {
    if (!each->events.try_push(event)) each->of.line.close();
  }
}

COHORT_INLINE asio::awaitable<void> control_sessions::run() {
  std::exception_ptr failure;
  try {
    co_await accept();
    co_await finish();
  } catch (...) {
    failure = std::current_exception();
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  stop();
  co_await clients_.cancel_and_wait();
  co_await reloads_.cancel_and_wait();
  if (failure) std::rethrow_exception(failure);
}

COHORT_INLINE void control_sessions::stop() {
  if (std::exchange(stopped_, true)) return;
  acceptor_->close();
  file_.remove();
}

COHORT_INLINE channel_options control_sessions::session::limits() {
  channel_options result;
  result.max_message = 1024 * 1024;
  result.max_calls = 8;
  result.max_peer_ring = 0;
  return result;
}

COHORT_INLINE control_sessions::answering::~answering() {
  of.last_asked = std::chrono::steady_clock::now();
  if (--of.answering == 0) owner.answered_.notify();
}

COHORT_INLINE asio::awaitable<cluster_stats> control_sessions::handler::operator()(control_protocol::get_stats) {
  const answering mine(owner, *of);
  auto result = owner.primary_.stats();
  for (auto& each : result.slots) shorten(each.last_trouble);
  co_return result;
}

COHORT_INLINE asio::awaitable<reload_result> control_sessions::handler::operator()(control_protocol::reload) {
  const answering mine(owner, *of);
  if (owner.reloads_.size() >= control_server::max_reloads) throw_error("reload: others wait already", EBUSY);
  // Not a part of this coroutine: it is not to be left half done because a terminal was closed.
  const auto one = owner.begin<reload_result>();
  owner.reloads_.start(reload(owner.primary_, of->name(), one), end_of(one));
  co_await one->over.wait();
  if (one->failure) std::rethrow_exception(one->failure);
  co_return one->result;
}

COHORT_INLINE asio::awaitable<upgrade_result> control_sessions::handler::operator()(control_protocol::upgrade) {
  const answering mine(owner, *of);
  if (owner.reloads_.size() >= control_server::max_reloads) throw_error("upgrade: others wait already", EBUSY);
  const auto one = owner.begin<upgrade_result>();
  owner.reloads_.start(upgrade(owner.primary_, owner.environment_, one), end_of(one));
  co_await one->over.wait();
  if (one->failure) std::rethrow_exception(one->failure);
  co_return one->result;
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_sessions::handler::operator()(
    control_protocol::scale wish) {
  const answering mine(owner, *of);
  control_protocol::outcome result;
  if (wish.workers == 0 || wish.workers > control_server::max_workers) {
    result.reason = fmt::format("scale: want 1 to {} workers, got {}", control_server::max_workers, wish.workers);
  } else if (owner.primary_.stats().stopping) {
    result.reason = "scale: the cluster stops";
  } else {
    owner.primary_.scale(wish.workers);
  }
  co_return result;
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_sessions::handler::operator()(control_protocol::stop) {
  const answering mine(owner, *of);
  control_protocol::outcome result;
  owner.primary_.stop(of->name());
  co_return result;
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_sessions::handler::operator()(
    control_protocol::kill_worker which) {
  const answering mine(owner, *of);
  control_protocol::outcome result;
  if (!owner.primary_.kill_worker(which.slot)) result.reason = fmt::format("no worker in slot {}", which.slot);
  co_return result;
}

COHORT_INLINE asio::awaitable<control_protocol::outcome> control_sessions::handler::operator()(
    control_protocol::follow, caller<control_protocol::protocol::to_client>& who) {
  const answering mine(owner, *of);
  follower here(owner.clients_.get_executor(), *of);
  const listed<follower*> entry(owner.followers_, &here);
  while (auto event = co_await here.events.pop()) {
    control_protocol::happened word;
    word.what = event->what;
    word.slot = event->slot;
    word.pid = event->pid;
    word.text = std::move(event->text);
    word.agent = std::move(event->agent);
    word.after = event->after;
    if (const auto run = event->run) {
      word.schedule = run->name;
      word.text = run->what;
      word.after = run->duration;
      word.attempt = run->attempt;
    }
    shorten(word.text);
    word.status = event->status;
    word.reason = event->reason;
    co_await who.progress(word);
  }
  control_protocol::outcome result;
  co_return result;
}

COHORT_INLINE void control_sessions::shorten(std::string& text) {
  constexpr std::size_t longest = 256;
  if (text.size() > longest) text.resize(longest);
}

COHORT_INLINE asio::awaitable<void> control_sessions::reload(cluster& primary, std::string why,
                                                             std::shared_ptr<pending<reload_result>> one) {
  one->result = co_await primary.reload(std::move(why));
}

COHORT_INLINE asio::awaitable<void> control_sessions::upgrade(cluster& primary, variables environment,
                                                              std::shared_ptr<pending<upgrade_result>> one) {
  one->result = co_await primary.upgrade(std::move(environment));
}

COHORT_INLINE asio::awaitable<void> control_sessions::accept() {
  constexpr std::size_t at_a_time = 16;
  const acceptor::taker take = [this](descriptor accepted) {
    try {
      admit(std::move(accepted));
    } catch (const std::exception&) {
      // It costs this client alone: there is no memory, or its socket is broken.
    }
  };
  const acceptor::condition wanted = [this] { return !stopped_; };
  while (!stopped_) {
    const auto here = acceptor_;  // look() may put another one in its place
    const auto result = co_await here->accept_some(at_a_time, take, wanted);
    if (result == accept_result::ended && here == acceptor_) co_return;
  }
}

COHORT_INLINE void control_sessions::admit(descriptor socket) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return;
  std::string reason;
  if (group_.empty() && who.uid != 0 && who.uid != ::geteuid()) {
    reason = fmt::format("only root and user {} may, and this is user {}", ::geteuid(), who.uid);
  } else if (!make_room()) {
    reason = fmt::format("there are {} clients already", control_server::max_clients);
  }
  const auto one = std::make_shared<session>(clients_.get_executor(), std::move(socket), who);
  if (reason.empty()) {
    clients_.start(attend(one), ignored("it is this client that is gone"));
  } else {
    clients_.start(turn_away(one, std::move(reason)), ignored("it is this client that is gone"));
  }
}

COHORT_INLINE bool control_sessions::make_room() {
  const auto stays = [](const auto& one) { return !one->dismissed; };
  const auto served = std::count_if(sessions_.begin(), sessions_.end(), stays);
  if (static_cast<std::size_t>(served) < control_server::max_clients) return true;
  session_ptr idle;
  for (const auto& one : sessions_) {
    if (one->dismissed || one->answering != 0) continue;
    if (!idle || one->last_asked < idle->last_asked) idle = one;
  }
  if (!idle) return false;
  idle->dismissed = true;
  idle->line.close();
  return true;
}

COHORT_INLINE asio::awaitable<void> control_sessions::turn_away(session_ptr one, std::string reason) {
  control_protocol::refused word;
  word.reason = std::move(reason);
  co_await one->line.send(word);
  co_await one->line.disconnect();
}

COHORT_INLINE asio::awaitable<void> control_sessions::attend(session_ptr one) {
  const listed<session_ptr> here(sessions_, one);
  one->line.decline_handles();
  control_protocol::welcome word;
  word.pid = ::getpid();
  co_await one->line.send(word);
  task_group answers(clients_.get_executor());
  const handler answer{*this, one};
  answers.start(one->line.serve_calls(answer), ignored("attend() sees the end of the channel too"));
  try {
    // A client only calls: any message is one too many, and nothing means that it is gone.
    co_await one->line.receive();
  } catch (const std::exception&) {
    // It sends nonsense, or more than there is memory for, or is cancelled.
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  one->line.close();
  co_await answers.cancel_and_wait();
}

COHORT_INLINE asio::awaitable<void> control_sessions::finish() {
  for (follower* each : followers_) each->events.close();
  task_group farewells(clients_.get_executor());
  for (const auto& each : sessions_) farewells.start(dismiss(each), ignored("it is this client that is gone"));
  std::exception_ptr cancelled;
  try {
    co_await with_timeout(farewells.wait_empty(), std::chrono::seconds(1));
  } catch (...) {
    const auto error = caught();
    if (error.code() != errc::timed_out) cancelled = std::current_exception();
  }
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await farewells.cancel_and_wait();
  if (cancelled) std::rethrow_exception(cancelled);
}

COHORT_INLINE asio::awaitable<void> control_sessions::dismiss(session_ptr one) {
  while (one->answering != 0) co_await answered_.wait();
  co_await one->line.disconnect();
}

}  // namespace cohort::detail
