// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "parent_link.hpp"

#include "../../core/config.hpp"

#include <chrono>
#include <fstream>
#include <system_error>
#include <utility>
#include <variant>

#include <unistd.h>

#include "../../core/asio_error.hpp"
#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/timeout.hpp"
#include "../environment.hpp"

namespace cohort::detail {

COHORT_INLINE parent_link::parent_link(const asio::any_io_executor& executor, parent_channel channel,
                                       parent_orders& orders)
    : orders_(orders),
      channel_(std::move(channel)),
      all_ready_(executor),
      messages_(executor, this_member(),
                [this](routed_message what, bool directly) { return carry(std::move(what), directly); }),
      direct_(executor, channel_, messages_) {}

COHORT_INLINE void parent_link::start() {
  orders_.run_beside(take_orders());
  orders_.run_beside(answer_calls());
}

COHORT_INLINE void parent_link::say_ready() {
  try {
    channel_.post(worker_protocol::ready());
  } catch (...) {
    const auto error = caught();
    // A parent that is gone already is an orphaning like any other, of which take_orders() tells.
    if (error.code() != errc::peer_closed) orders_.drain(worker_exit::fatal, error.what(), false);
  }
  orders_.run_beside(take_handles());
}

COHORT_INLINE void parent_link::say_draining(worker_exit why, const std::string& reason) {
  try {
    worker_protocol::draining word;
    word.status = static_cast<std::int32_t>(why);
    word.reason = reason;
    channel_.post(word);
    channel_.decline_handles();
    direct_.decline();
  } catch (...) {
    caught();
    // No parent, nobody to tell.
  }
}

COHORT_INLINE void parent_link::say_failed(const std::string& what) {
  worker_protocol::failed word;
  word.what = what;
  channel_.post_if_open(word);
}

COHORT_INLINE asio::awaitable<void> parent_link::flush() {
  try {
    co_await channel_.flush();  // waits if the parent is stopped, and what it has not read fills the socket
  } catch (...) {
    const auto error = caught();
    if (error.code() == operation_aborted()) throw;
    // The parent is gone, and gives nothing to anybody else.
  }
}

COHORT_INLINE void parent_link::note_ended() {
  ++ended_;
  tell_ended_soon();
}

COHORT_INLINE asio::awaitable<void> parent_link::disconnect() {
  try {
    co_await with_timeout(channel_.disconnect(), std::chrono::seconds(1));
  } catch (...) {
    caught();
    // A parent that is gone, or does not read, will learn it from the exit status.
  }
  channel_.close();
}

COHORT_INLINE asio::awaitable<receipt> parent_link::callee::operator()(routed_message what) const {
  return self.messages_.receive(std::move(what));
}

COHORT_INLINE asio::awaitable<worker_protocol::job_result> parent_link::callee::operator()(
    worker_protocol::start_job what) const {
  return self.orders_.start_job(std::move(what.schedule));
}

COHORT_INLINE asio::awaitable<void> parent_link::answer_calls() {
  const callee here{*this};
  try {
    co_await channel_.serve_calls(here);
  } catch (...) {
    caught();
    // Its end, and whatever else is wrong with the channel, take_orders() learns too.
  }
}

COHORT_INLINE asio::awaitable<void> parent_link::take_orders() {
  try {
    while (auto message = co_await channel_.receive()) obey(*message);
  } catch (...) {
    const auto error = caught();
    if (error.code() != errc::peer_closed && error.code() != operation_aborted()) throw;
  }
  orders_.drain(worker_exit::orphaned, "the parent is gone", true);
}

COHORT_INLINE void parent_link::obey(const worker_protocol::to_child& order) {
  if (const auto* listener = std::get_if<worker_protocol::unlisten>(&order)) {
    orders_.unlisten(*listener);
  } else if (const auto* drain = std::get_if<worker_protocol::drain>(&order)) {
    orders_.drain(worker_exit::asked, "asked by the parent", drain->empty_queues);
  } else if (const auto* question = std::get_if<worker_protocol::ping>(&order)) {
    answer(*question);
  } else if (std::holds_alternative<worker_protocol::reopen>(order)) {
    orders_.reopen();
  } else if (std::holds_alternative<worker_protocol::all_ready>(order)) {
    all_ready_.set();
  } else if (std::holds_alternative<worker_protocol::leaving>(order)) {
    leaving_ = true;
  } else if (std::holds_alternative<worker_protocol::count_connections>(order)) {
    counts_connections_ = true;
    if (ended_ != 0) tell_ended_soon();
  }
}

COHORT_INLINE asio::awaitable<void> parent_link::take_handles() {
  try {
    for (;;) {
      // What is not received is not this worker's yet: it goes to another one should this one die.
      while (!orders_.takes_handles()) co_await orders_.wait_room();
      auto given = co_await channel_.receive_handle();
      if (!given) break;
      if (const auto* where = std::get_if<worker_protocol::listen>(&given->message)) {
        orders_.listen(*where, std::move(given->handle));
      } else if (std::holds_alternative<worker_protocol::serve>(given->message)) {
        orders_.serve_leased(std::move(given->handle));
      } else if (const auto* who = std::get_if<worker_protocol::connect_offer>(&given->message)) {
        direct_.accept_offer(std::move(given->handle).as<descriptor>(get_executor()), who->from);
      }
    }
  } catch (...) {
    const auto error = caught();
    if (error.code() != errc::peer_closed && error.code() != operation_aborted()) throw;
  }
}

COHORT_INLINE std::uint64_t resident_memory() {
  std::uint64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

COHORT_INLINE void parent_link::say_counters() {
  // A primary ends a process that says what it does not know. What an older one knows, its hello says.
  if (!channel_.has_greeted()) return;
  counters_.say_changes([this](const std::string& name, std::uint64_t value) {
    worker_protocol::counted word;
    word.name = name;
    word.value = value;
    return channel_.post_if_open(word);
  });
}

COHORT_INLINE void parent_link::say_figures() {
  say_counters();
  worker_protocol::pong how;
  how.number = last_ping_;
  orders_.count(how);
  how.memory = resident_memory();
  channel_.post_if_open(how);
}

COHORT_INLINE void parent_link::answer(const worker_protocol::ping& question) {
  last_ping_ = question.number;
  say_figures();
  if (counts_connections_ || ended_ == 0) return;
  worker_protocol::ended word;  // nobody waits for it: with the other figures will do
  word.connections = ended_;
  channel_.post(word);
}

COHORT_INLINE void parent_link::tell_ended_soon() {
  if (counts_connections_ && !std::exchange(tells_, true)) orders_.run_beside(tell_ended());
}

COHORT_INLINE asio::awaitable<void> parent_link::tell_ended() {
  asio::steady_timer pause(get_executor(), std::chrono::milliseconds(1));
  co_await pause.async_wait(awaited);
  tells_ = false;
  worker_protocol::ended word;
  word.connections = ended_;
  channel_.post_if_open(word);
}

COHORT_INLINE asio::awaitable<receipt> parent_link::carry(routed_message what, bool directly) {
  using to_whom = recipient::kind;
  const auto to = address_of(what).what();
  const bool to_primary = to == to_whom::process && what.number == ::getppid();
  const auto& self = messages_.self();
  const bool to_itself = (to == to_whom::process && what.number == self.pid) ||
                         (to == to_whom::slot && what.number == self.slot) ||
                         (to == to_whom::agent && what.name == self.agent);
  const bool to_one = to == to_whom::slot || to == to_whom::process || to == to_whom::agent;
  if (directly && to_one && !to_primary && !to_itself) {
    return direct_.send(std::move(what));
  }
  return channel_.call<receipt>(what);
}

}  // namespace cohort::detail
