// SPDX-License-Identifier: BSL-1.0
/// Cancels an operation at each of its suspension points.
///
///     PLAIN_TEST("a cancelled pop takes nothing") {
///       cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
///         queue<int> numbers(co_await asio::this_coro::executor, 1);
///         feed_later(numbers, 7);
///         auto popped = co_await cancelled(numbers.pop());    // empty when it has ended with operation_aborted
///         if (!popped) popped = co_await numbers.pop();       // nothing is lost: the next one finds it
///         CHECK(**popped == 7);
///       });
///     }
#pragma once

#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "harness.hpp"

namespace cohort::test {

/// Runs the operation that is to be cancelled, in one run of a scenario.
class cancellation {
 public:
  explicit cancellation(unsigned turns) : turns_left_(turns) {}
  cancellation(const cancellation&) = delete;

  /// Runs `operation` and cancels it after the turns of the loop that this run is about.
  ///
  /// An optional with the result, or, when T is void, whether it has completed; empty or false when it has ended with
  /// operation_aborted. Other exceptions go through. To be awaited once in each run.
  template <class T>
  auto operator()(asio::awaitable<T> operation)
      -> asio::awaitable<std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>> {
    std::conditional_t<std::is_void_v<T>, bool, std::optional<T>> result{};
    const auto executor = co_await asio::this_coro::executor;
    used_ = running_ = true;
    try {
      auto ending = asio::co_spawn(executor, std::move(operation),
                                   asio::bind_cancellation_slot(signal_.slot(), asio::use_awaitable));
      if constexpr (std::is_void_v<T>) {
        co_await std::move(ending);
        result = true;
      } else {
        result.emplace(co_await std::move(ending));
      }
    } catch (...) {
      running_ = false;
      if (detail::caught().code() != operation_aborted()) throw;
    }
    running_ = false;
    co_return result;
  }

  /// Whether the operation has been cancelled before it ended.
  bool emitted() const noexcept { return emitted_; }
  bool used() const noexcept { return used_; }

  void after_turn() {
    if (!running_ || emitted_ || turns_left_-- > 0) return;
    emitted_ = true;
    signal_.emit(asio::cancellation_type::terminal);
  }

 private:
  asio::cancellation_signal signal_;
  unsigned turns_left_;
  bool used_ = false, running_ = false, emitted_ = false;
};

/// Runs `scenario(cancellation&)` again and again, each time on an io_context of its own and with the checks of a test,
/// cancelling its operation one turn of the loop later each time, until the operation ends before it is cancelled.
///
/// Returns how many runs were cancelled.
template <class Scenario>
unsigned cancel_at_every_turn(Scenario scenario) {
  constexpr unsigned too_many = 10'000;
  for (unsigned turns = 0; turns < too_many; ++turns) {
    INFO("cancelled after ", turns, " turns");
    cancellation cancelled(turns);
    run_isolated([&]() -> asio::awaitable<void> { return scenario(cancelled); }, [&] { cancelled.after_turn(); });
    REQUIRE_MESSAGE(cancelled.used(), "the scenario has run no operation to cancel");
    if (!cancelled.emitted()) return turns;
  }
  FAIL("the operation does not end, even if cancelled after ", too_many, " turns");
  return too_many;
}

}  // namespace cohort::test
