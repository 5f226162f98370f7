// SPDX-License-Identifier: BSL-1.0
// One of several processes, on whatever machine: a lock in Redis that expires, with a token that rises with each
// holder.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include <cohort/core/asio.hpp>

#include "../sessions/redis.hpp"

/// Asks for the lock until it is held, holds it as long as Redis lets it, and asks again.
///
/// The holder counts by its own monotonic clock, from before it asked, and stops a margin before Redis lets another one
/// have the lock. That clock stands while a machine sleeps, and a process may be stopped at any instruction: so
/// whatever must never be done by two checks the token, and refuses one that is lower than one it has seen.
class elected {
 public:
  using clock = std::chrono::steady_clock;

  struct term {
    long long token = 0;
    clock::time_point until;
  };

  /// `name`: of the lock; `self`: of this process, and no other one's.
  elected(const asio::any_io_executor& executor, const redis::address& where, std::string name, std::string self,
          std::chrono::milliseconds expiry)
      : redis_(executor, where, expiry / 3),
        pause_(executor),
        name_(std::move(name)),
        self_(std::move(self)),
        expiry_(expiry) {}

  /// Whether this process has the lock now, and until when at least.
  std::optional<term> held() const {
    if (term_ && clock::now() < term_->until) return term_;
    return std::nullopt;
  }

  /// Until it is cancelled.
  asio::awaitable<void> run() {
    for (;;) {
      try {
        co_await ask();
      } catch (const redis::error&) {
        // The term that there is goes on until its end: Redis keeps the lock as long, whether it is there or not.
      }
      pause_.expires_after(expiry_ / 3);
      co_await pause_.async_wait(asio::use_awaitable);
    }
  }

  /// Lets another one have the lock now, and not only when it expires. Nothing may run any more that needs it.
  asio::awaitable<void> release() {
    if (!std::exchange(term_, std::nullopt)) co_return;
    try {
      co_await redis_.command("EVAL", release_script, "1", name_, value_);
    } catch (const redis::error&) {  // it expires
    }
  }

 private:
  asio::awaitable<void> ask() {
    const auto end = clock::now() + expiry_ - expiry_ / 5;
    const auto time = std::to_string(expiry_.count());
    if (held()) {
      const auto renewed = co_await redis_.command("EVAL", renew_script, "1", name_, value_, time);
      if (renewed.number == 1 && term_) {
        term_->until = end;
      } else {
        term_.reset();
      }
      co_return;
    }
    term_.reset();
    // Another value each time: an order of an earlier term that reaches Redis late is not for this one.
    value_ = fmt::format("{}-{}", self_, ++asked_);
    const auto token = co_await redis_.command("EVAL", acquire_script, "2", name_, name_ + ":token", value_, time);
    if (token.number > 0) term_ = term{token.number, end};
  }

  static constexpr const char* acquire_script =
      "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return redis.call('INCR', KEYS[2]) end return "
      "0";
  static constexpr const char* renew_script =
      "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])";
  static constexpr const char* release_script =
      "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])";

  redis::client redis_;
  asio::steady_timer pause_;
  std::string name_, self_, value_;
  std::chrono::milliseconds expiry_;
  std::optional<term> term_;
  unsigned long long asked_ = 0;
};
