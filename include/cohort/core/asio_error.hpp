// SPDX-License-Identifier: BSL-1.0
/// What Asio reports, as the library speaks of it: in std::error_code and std::system_error, also where Asio is
/// Boost's, whose operations report boost::system::error_code and throw boost::system::system_error.
#pragma once

#include <exception>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include "asio.hpp"
#include "descriptor.hpp"

namespace cohort {

namespace detail {

/// Whether what Asio throws is no std::system_error.
inline constexpr bool throws_its_own = !std::is_same_v<asio_exception, std::system_error>;

/// The completion token of an operation that ends with an error of Boost's.
struct converting_token {};

/// The handler of a coroutine that waits so: an error becomes a std::system_error on its way to it.
template <class Handler>
struct throwing_handler {
  Handler handler;

  template <class... T>
  void operator()(const asio_error& error, T... values) {
    std::exception_ptr failure;
    if (error) failure = std::make_exception_ptr(std::system_error(std::error_code(error)));
    std::move(handler)(std::move(failure), std::move(values)...);
  }
};

/// The completion token for an operation that ends with an error and perhaps a value: throws std::system_error.
inline constexpr std::conditional_t<throws_its_own, converting_token, asio::use_awaitable_t<>> awaited;

}  // namespace detail

/// What every operation ends with that has been cancelled, whichever Asio it is: asio::error::operation_aborted.
inline std::error_code operation_aborted() noexcept { return detail::asio_error(asio::error::operation_aborted); }

namespace detail {

/// Gives a descriptor to an object of Asio; one that it does not take stays the caller's.
template <class Object, class... Protocol>
void assign(Object& to, descriptor& fd, const Protocol&... protocol) {
  asio_error error;
  to.assign(protocol..., fd.get(), error);
  if (error) throw std::system_error(std::error_code(error), "assign");
  (void)fd.release();
}

/// The system_error that is being handled. Anything else is thrown on. Only while an exception is being handled.
std::system_error caught();

/// The system_error in `failure`; nothing if it holds something else, or nothing.
std::optional<std::system_error> system_error_in(const std::exception_ptr& failure);

}  // namespace detail

}  // namespace cohort

template <template <class, class> class Associator, class Handler, class Default>
struct cohort::asio::associator<Associator, cohort::detail::throwing_handler<Handler>, Default>
    : Associator<Handler, Default> {
  static auto get(const cohort::detail::throwing_handler<Handler>& self) noexcept {
    return Associator<Handler, Default>::get(self.handler);
  }

  static auto get(const cohort::detail::throwing_handler<Handler>& self, const Default& other) noexcept {
    return Associator<Handler, Default>::get(self.handler, other);
  }
};

template <class... T>
struct cohort::asio::async_result<cohort::detail::converting_token, void(cohort::detail::asio_error, T...)> {
  template <class Initiation, class... Arguments>
  static auto initiate(Initiation initiation, cohort::detail::converting_token, Arguments... arguments) {
    return async_initiate<const use_awaitable_t<>&, void(std::exception_ptr, T...)>(
        [](auto handler, Initiation start, Arguments... with) {
          std::move(start)(cohort::detail::throwing_handler<decltype(handler)>{std::move(handler)}, std::move(with)...);
        },
        use_awaitable, std::move(initiation), std::move(arguments)...);
  }
};

#ifndef COHORT_SEPARATE_COMPILATION
#include "asio_error.ipp"
#endif
