// SPDX-License-Identifier: BSL-1.0
/// What a worker or an agent does beside its connections: a step of its start or end, or the job of a schedule.
///
/// The process's options own a copy, and the process calls it on its executor.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"

namespace cohort {

class worker;

namespace detail {

/// Whether F is called with these arguments, and is a coroutine or returns nothing.
template <class F, class... Arguments>
concept does_a_step = std::is_invocable_r_v<asio::awaitable<void>, F&, Arguments...> ||
                      (std::invocable<F&, Arguments...> && std::is_void_v<std::invoke_result_t<F&, Arguments...>>);

/// Calls it inside a coroutine, so that what it throws comes out where the worker waits.
template <class F, class... Arguments>
asio::awaitable<void> do_step(F& step, Arguments&... arguments) {
  if constexpr (std::is_void_v<std::invoke_result_t<F&, Arguments&...>>) {
    step(arguments...);
    co_return;
  } else {
    co_await step(arguments...);
  }
}

}  // namespace detail

/// Holds `asio::awaitable<void> step(cohort::worker& self)`, the coroutine, or a plain function of the same arguments
/// that returns nothing and does not wait. Either may leave the worker out: `options.set_up = [] { open_log(); };`.
/// Empty by default. The function object has to be copyable; each call runs to its end before the next one begins, but
/// for jobs that may overlap.
///
/// Distinct objects: safe. Shared objects: unsafe.
class worker_function {
 public:
  worker_function() = default;
  worker_function(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor)

  template <class F>
    requires(!std::same_as<F, worker_function> && (detail::does_a_step<F, worker&> || detail::does_a_step<F>) &&
             std::is_copy_constructible_v<F>)
  worker_function(F step) {  // NOLINT(google-explicit-constructor)
    if constexpr (std::is_constructible_v<F, std::nullptr_t>) {
      if (step == nullptr) return;  // a pointer, or a std::function
    }
    if constexpr (std::is_invocable_r_v<asio::awaitable<void>, F&, worker&>) {
      step_ = std::move(step);
    } else if constexpr (detail::does_a_step<F, worker&>) {
      step_ = [step = std::move(step)](worker& self) mutable { return detail::do_step(step, self); };
    } else {
      step_ = [step = std::move(step)](worker&) mutable { return detail::do_step(step); };
    }
  }

  explicit operator bool() const noexcept { return static_cast<bool>(step_); }

  /// The object must outlive the coroutine.
  asio::awaitable<void> operator()(worker& self) const { return step_(self); }

 private:
  std::function<asio::awaitable<void>(worker&)> step_;
};

}  // namespace cohort
