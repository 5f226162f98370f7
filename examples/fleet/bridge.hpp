// SPDX-License-Identifier: BSL-1.0
// The agent that carries messages between the processes of its cluster, by the messenger, and other clusters, by Redis.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <cohort/cohort.hpp>

#include "../sessions/redis.hpp"
#include "messages.hpp"

/// Each cluster has an inbox in Redis, a stream. Other bridges add to it; its own one reads it from its beginning, and
/// deletes an entry when that has been heard: so what is in it has not been heard, whoever was killed meanwhile.
class bridge {
  using clock = std::chrono::steady_clock;

 public:
  bridge(cohort::worker& self, const redis::address& where, std::string name, std::string inbox_limit)
      : executor_(self.get_executor()),
        where_(where),
        name_(std::move(name)),
        inbox_limit_(std::move(inbox_limit)),
        redis_(executor_, where),
        reading_(executor_, where),
        talk_(self) {
    talk_.on<request>([this](const request& what, const cohort::member& from) { return send(what, from); });
  }

  bus& talk() { return talk_; }

  /// Until it is cancelled.
  asio::awaitable<void> run() {
    cohort::task_group tasks(executor_);
    std::exception_ptr failure;
    tasks.start(read_inbox());
    tasks.start(listen());
    tasks.start(beat());
    try {
      co_await tasks.wait_empty();
    } catch (...) {
      failure = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await tasks.cancel_and_wait();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  static constexpr const char* channel = "fleet:channel";
  static constexpr const char* store_script =
      "if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end "
      "redis.call('XADD', KEYS[1], '*', 'parcel', ARGV[2]) return 1";
  static constexpr const char* bury_script =
      "redis.call('XADD', KEYS[2], '*', 'parcel', ARGV[2]) return redis.call('XDEL', KEYS[1], ARGV[1])";

  static std::string inbox(const std::string& cluster) { return "fleet:inbox:" + cluster; }

  static std::string bytes_of(const auto& message) {
    cohort::byte_buffer bytes;
    cohort::encode(bytes, message);
    return std::string(bytes.view());
  }

  // Longer each time, up to a second: 10 bridges that come back do not come back together.
  asio::awaitable<void> pause(unsigned& failures) {
    const auto longest = std::min(1000u, 50u << std::min(failures++, 5u));
    asio::steady_timer timer(executor_);
    timer.expires_after(std::chrono::milliseconds(longest / 2 + cohort::detail::random_index(longest / 2)));
    co_await timer.async_wait(asio::use_awaitable);
  }

  // -- from this cluster
  // -----------------------------------------------------------------------------------------------

  asio::awaitable<void> send(const request& what, const cohort::member& from) {
    outcome result;
    result.id = what.what.id;
    const auto until = clock::now() + patience;
    const std::string bytes = what.keep ? bytes_of(what.what) : bytes_of(what);
    if (!what.keep) {
      const auto state = co_await ask(until, false, "PUBLISH", channel, bytes);
      for (const auto& each : what.clusters) result.parts.push_back({each, state});
    } else {
      for (const auto& each : what.clusters) {
        const auto state = co_await ask(until, true, "EVAL", store_script, "1", inbox(each), inbox_limit_, bytes);
        result.parts.push_back({each, state});
      }
    }
    // Heard before the worker's own send ends, so the worker need not wait for it.
    co_await talk_.send_to(from, result);
  }

  /// Asks Redis, again and again while that keeps what is asked; each time with the same id, which receivers remember.
  template <class... Words>
  asio::awaitable<known> ask(clock::time_point until, bool keep, Words... words) {
    unsigned failures = 0, asked = 0;
    while (clock::now() < until) {
      try {
        // After a failure first something that does no harm: what is not asked is known not to be there.
        if (!up_) co_await redis_.command("PING");
        up_ = true;
        ++asked;
        const auto answer = co_await redis_.command(words...);
        if (!keep) co_return known::published;
        if (answer.number != 0) co_return known::stored;
        co_return asked == 1 ? known::refused : known::unknown;
      } catch (const redis::error&) {
        up_ = false;
      }
      if (!keep) break;
      co_await pause(failures);
    }
    co_return asked == 0 ? known::unsent : known::unknown;
  }

  // -- to this cluster
  // -------------------------------------------------------------------------------------------------

  asio::awaitable<void> read_inbox() {
    const std::string key = inbox(name_);
    std::string last = "0-0";
    for (unsigned failures = 0;;) {
      try {
        const auto found = co_await reading_.command("XREAD", "COUNT", "64", "BLOCK", "1000", "STREAMS", key, last);
        failures = 0;
        if (found.list.empty()) continue;
        for (const auto& entry : found.list.at(0).list.at(1).list) {
          last = entry.list.at(0).text.value();
          co_await take(key, last, entry.list.at(1).list.at(1).text.value());
        }
        continue;
      } catch (const redis::error&) {
        last = "0-0";  // an entry may be there still that was to be deleted
      }
      co_await pause(failures);
    }
  }

  asio::awaitable<void> take(const std::string& key, const std::string& entry, const std::string& bytes) {
    parcel what;
    std::string problem;
    try {
      what = cohort::decode<parcel>(bytes.data(), bytes.size());
    } catch (const std::exception& error) {
      problem = error.what();
    }
    if (problem.empty() && !heard_.knows(what.id)) {
      problem = co_await deliver(what, 5);
      if (problem.empty()) heard_.add(what.id);
    }
    if (problem.empty()) {
      co_await reading_.command("XDEL", key, entry);
      co_return;
    }
    fmt::print(stderr, "bridge {}: message {} of {} is kept in fleet:dead:{}: {}\n", name_, what.id, what.from, name_,
               problem);
    co_await reading_.command("EVAL", bury_script, "2", key, "fleet:dead:" + name_, entry, bytes);
  }

  /// Returns why nobody has heard it, or not everybody; empty when all is well.
  asio::awaitable<std::string> deliver(const parcel& what, unsigned attempts) {
    std::string problem;
    for (unsigned failures = 0; failures < attempts;) {
      try {
        const auto receipt = co_await cohort::with_timeout(talk_.send_to(address_of(what), what), patience);
        // A process that is gone misses nothing that it would still need, if others have heard it.
        const bool heard = std::ranges::all_of(receipt.failures,
                                               [](const auto& each) { return each.why == cohort::undelivered::gone; });
        if (heard && receipt.delivered != 0) co_return std::string();
        problem = cohort::to_string(receipt);
      } catch (const std::system_error& error) {
        if (error.code() != cohort::errc::timed_out) throw;
        problem = error.what();
      }
      co_await pause(failures);
    }
    co_return problem;
  }

  asio::awaitable<void> listen() {
    for (unsigned failures = 0;;) {
      try {
        redis::subscriber said(executor_, where_, channel);
        for (;;) {
          const std::string bytes = co_await cohort::with_timeout(said.next(), std::chrono::seconds(3));
          failures = 0;
          const auto what = cohort::decode<request>(bytes.data(), bytes.size());
          if (std::ranges::find(what.clusters, name_) != what.clusters.end()) co_await deliver(what.what, 1);
        }
      } catch (const redis::error&) {
      } catch (const std::system_error& error) {
        if (error.code() == asio::error::operation_aborted) throw;
      }
      co_await pause(failures);
    }
  }

  /// Something to hear each second: so a subscription that hears nothing is known to be none.
  asio::awaitable<void> beat() {
    asio::steady_timer timer(executor_);
    const std::string nothing = bytes_of(request());
    for (std::string problem, said;; said = problem) {
      try {
        problem.clear();
        co_await redis_.command("PUBLISH", channel, nothing);
      } catch (const redis::error& error) {
        problem = error.what();
      }
      if (said.empty() != problem.empty()) {
        fmt::print(stderr, "bridge {}: {}\n", name_, problem.empty() ? "redis is there again" : problem);
      }
      timer.expires_after(std::chrono::seconds(1));
      co_await timer.async_wait(asio::use_awaitable);
    }
  }

  asio::any_io_executor executor_;
  redis::address where_;
  std::string name_, inbox_limit_;
  redis::client redis_, reading_;  // two, because an answer to XREAD takes its time
  bus talk_;
  memory heard_;
  bool up_ = false;  // whether Redis has answered what it was asked last
};
