// SPDX-License-Identifier: BSL-1.0
/// One pool for several functions.
#pragma once

#include <concepts>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "../core/asio.hpp"
#include "../core/safe_in_await.hpp"
#include "job.hpp"
#include "process_pool.hpp"

namespace cohort {

namespace pool {

/// A call of a function, as a message.
template <auto Function>
struct call_of {
  typename function_job<Function>::argument arguments;
};

/// What a function has returned, as a message.
template <auto Function>
struct value_of {
  using type = typename function_job<Function>::result;
  std::conditional_t<std::is_void_v<type>, std::monostate, type> value{};
};

}  // namespace pool

/// Several functions as one job, for a pool that does all of them: see pool::blocking().
///
/// For each of them, what function_job says holds.
template <auto... Function>
struct function_jobs {
  using argument = std::variant<pool::call_of<Function>...>;
  using result = std::variant<pool::value_of<Function>...>;

  static asio::awaitable<result> run(argument what) {
    return std::visit(
        []<auto Called>(pool::call_of<Called> && call) { return perform<Called>(std::move(call)); }, std::move(what));
  }

 private:
  template <auto Called>
  static asio::awaitable<result> perform(pool::call_of<Called> call) {
    pool::value_of<Called> done;
    auto running = function_job<Called>::run(std::move(call.arguments));
    if constexpr (std::is_void_v<typename function_job<Called>::result>) {
      co_await std::move(running);
    } else {
      done.value = co_await std::move(running);
    }
    co_return std::move(done);
  }
};

namespace pool {
namespace detail {

template <auto Function, class Result>
asio::awaitable<typename function_job<Function>::result> value_in(asio::awaitable<Result> running) {
  if constexpr (std::is_void_v<typename function_job<Function>::result>) {
    co_await std::move(running);
  } else {
    auto result = co_await std::move(running);
    co_return std::move(std::get<value_of<Function>>(result).value);
  }
}

}  // namespace detail

/// Calls a function, which may block, in a process of the pool:
///
///     cohort::process_pool<cohort::function_jobs<&is_prime, &thumbnail>> pool(executor);
///     const bool prime = co_await cohort::pool::blocking<&is_prime>(pool, 4294967291);
///
/// It is a function that the pool names, and takes the arguments that its parameters can be made of. Otherwise as
/// process_pool::run().
template <auto Function, auto... Known, class... Arguments>
  requires((std::same_as<call_of<Function>, call_of<Known>> || ...) &&
           sizeof...(Arguments) == std::tuple_size_v<typename function_job<Function>::argument> &&
           std::constructible_from<typename function_job<Function>::argument, Arguments...>)
[[nodiscard]] asio::awaitable<typename function_job<Function>::result> blocking(
        process_pool<function_jobs<Known...>>& pool, Arguments&&... arguments) {
  static_assert((cohort::detail::safe_in_await<Arguments&&> && ...),
                "GCC before 13 would destroy this argument twice inside co_await: name it first");
  using argument = typename function_job<Function>::argument;
  typename function_jobs<Known...>::argument what(std::in_place_type<call_of<Function>>,
                                                  argument(std::forward<Arguments>(arguments)...));
  return detail::value_in<Function>(pool.run(std::move(what)));
}

}  // namespace pool
}  // namespace cohort
