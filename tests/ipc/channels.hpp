// SPDX-License-Identifier: BSL-1.0
/// Both ends of a channel in one process, and messages of a known size.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "../../include/cohort/ipc/channel.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../support/harness.hpp"
#include "over_transport.hpp"
#include "protocol.hpp"

namespace cohort::test {

/// Two channels that are connected to each other: `here` sends Out and `there` sends In.
template <class Out, class In>
struct connected {
  using here_type = channel<Out, In>;
  using there_type = channel<In, Out>;

  explicit connected(const asio::any_io_executor& executor, const channel_options& of_here = {},
                     const channel_options& of_there = {})
      : connected(executor, make_channel_pair(), of_here, of_there) {}

  here_type here;
  there_type there;

 private:
  connected(const asio::any_io_executor& executor, std::pair<descriptor, descriptor> ends,
            const channel_options& of_here, const channel_options& of_there)
      : here(executor, std::move(ends.first), over_transport(of_here)),
        there(executor, std::move(ends.second), of_there) {}
};

using any_message = std::variant<number, text, nothing>;
using talking = connected<any_message, any_message>;

/// A text whose message takes `size` bytes of the wire, 6 at least, no two of its parts alike.
inline text text_of_size(std::size_t size, unsigned seed = 0) {
  text result;
  result.value.resize(size - 6);  // the type and the length of the string take the rest
  unsigned state = seed * 2654435761u + 1;
  for (char& each : result.value) {
    state = state * 1664525u + 1013904223u;
    each = static_cast<char>(state >> 24);
  }
  return result;
}

inline std::string as_string(const any_message& message) {
  if (const auto* n = std::get_if<number>(&message)) return std::to_string(n->value);
  if (const auto* t = std::get_if<text>(&message)) {
    if (t->value.size() <= 32) return t->value;
    return std::to_string(t->value.size()) + " bytes, hash " + std::to_string(std::hash<std::string>()(t->value));
  }
  return "nothing";
}

/// The next message as a string: a number in digits, "(end)" when there is none.
template <class Out, class In>
asio::awaitable<std::string> next(channel<Out, In>& from) {
  const auto message = co_await from.receive();
  co_return message ? as_string(any_message(*message)) : std::string("(end)");
}

/// All messages up to the end, or up to `last`.
template <class Out, class In>
asio::awaitable<std::vector<std::string>> all(channel<Out, In>& from, std::string last = "(end)") {
  std::vector<std::string> result;
  for (;;) {
    auto message = co_await next(from);
    if (message == last) co_return result;
    result.push_back(std::move(message));
  }
}

/// Runs `work` beside the test, which fails with what it throws. It must end before what it uses does.
template <class T>
void beside(const asio::any_io_executor& executor, asio::awaitable<T> work) {
  asio::co_spawn(executor, std::move(work), [](std::exception_ptr failure, auto&&...) {
    if (failure) std::rethrow_exception(failure);
  });
}

/// The outcome of an operation that runs beside the test.
template <class T>
class outcome_of {
 public:
  explicit outcome_of(const asio::any_io_executor& executor, asio::awaitable<T> work) : done_(executor) {
    asio::co_spawn(executor, store(std::move(work)), asio::detached);
  }

  bool is_there() const noexcept { return done_.is_set(); }
  event& done() noexcept { return done_; }

  /// What it has returned, or throws what it has thrown.
  asio::awaitable<T> get() {
    co_await done_.wait();
    if (failure_) std::rethrow_exception(failure_);
    if constexpr (!std::is_void_v<T>) co_return std::move(*result_);
  }

 private:
  asio::awaitable<void> store(asio::awaitable<T> work) {
    try {
      if constexpr (std::is_void_v<T>) {
        co_await std::move(work);
      } else {
        result_.emplace(co_await std::move(work));
      }
    } catch (...) {
      failure_ = std::current_exception();
    }
    done_.set();
  }

  event done_;
  std::conditional_t<std::is_void_v<T>, bool, std::optional<T>> result_{};
  std::exception_ptr failure_;
};

}  // namespace cohort::test
