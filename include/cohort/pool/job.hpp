// SPDX-License-Identifier: BSL-1.0
/// What a pool's processes do: jobs.
#pragma once

#include <concepts>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../core/asio.hpp"
#include "../ipc/codec/detail/reflect.hpp"

namespace cohort {

template <class Job>
class job_context;

namespace detail {

template <class T>
struct without_awaitable {
  using type = T;
};
template <class T>
struct without_awaitable<asio::awaitable<T>> {
  using type = T;
};

template <class Returned, class Result>
concept gives = std::same_as<Returned, Result> || std::same_as<Returned, asio::awaitable<Result>>;

template <class Job>
concept runs_with_context = requires(typename Job::argument argument, job_context<Job>& context) {
  { Job::run(std::move(argument), context) } -> gives<typename Job::result>;
};

template <class Job>
concept runs_alone = requires(typename Job::argument argument) {
  { Job::run(std::move(argument)) } -> gives<typename Job::result>;
};

template <class Job>
inline constexpr bool reports_progress = requires { typename Job::progress; };

}  // namespace detail

/// A kind of work for a process_pool: what goes in, what comes out, and the function, which runs in another process.
///
///     struct sum_job {
///       using argument = range;     // these three are messages (see codec, handle); result may be void
///       using result = double;
///       using progress = percent;   // if it reports any
///       static asio::awaitable<double> run(range numbers, cohort::job_context<sum_job>& context);
///     };
///
/// `run` is a coroutine or a plain function, and takes the context or not. It may block: it has its process for itself.
/// What it throws arrives as text, see job_failed. A `static constexpr std::string_view name` tells the job apart from
/// others in a program, and in error texts; the type's own name does without.
template <class Job>
concept pool_job = (detail::runs_with_context<Job> || detail::runs_alone<Job>) &&
                   (std::is_void_v<typename Job::result> || std::default_initializable<typename Job::result>);

/// The name of a job: `Job::name`, or that of its type.
template <class Job>
constexpr std::string_view job_name() {
  if constexpr (requires { std::string_view(Job::name); }) {
    return Job::name;
  } else {
    return detail::type_name<Job>();
  }
}

namespace detail {

template <auto Function, class Type>
struct function_job_of;

template <auto Function, class Result, class... Parameter>
struct function_job_of<Function, Result (*)(Parameter...)> {
  using argument = std::tuple<std::decay_t<Parameter>...>;
  using result = typename without_awaitable<std::decay_t<Result>>::type;

  static asio::awaitable<result> run(argument arguments) {
    if constexpr (std::is_same_v<std::decay_t<Result>, result>) {
      co_return std::apply(Function, std::move(arguments));
    } else {
      auto running = std::apply(Function, std::move(arguments));  // with references into this frame
      co_return co_await std::move(running);
    }
  }
};

template <auto Function, class Result, class... Parameter>
struct function_job_of<Function, Result (*)(Parameter...) noexcept>
    : function_job_of<Function, Result (*)(Parameter...)> {};

}  // namespace detail

/// A function as a job:
///
///     bool is_prime(std::uint64_t n);
///     cohort::process_pool<cohort::function_job<&is_prime>> pool(executor);
///     const bool prime = co_await pool.run(4294967291);
///
/// Its parameters are messages, taken by value or by const reference. It may be a coroutine.
template <auto Function>
struct function_job : detail::function_job_of<Function, decltype(Function)> {};

}  // namespace cohort
