// SPDX-License-Identifier: BSL-1.0
/// The one place that names Asio: which parts of it the library stands on, and from which version on. With
/// COHORT_BOOST_ASIO defined it is the one in Boost.
///
/// Standalone Asio 1.22 to 1.38 serve, and Boost 1.81 and later. What changed its name or place between them is
/// settled here, so that no other header tests a version. Narrow headers, because <asio.hpp> doubles the time that a
/// translation unit takes to parse.
#pragma once

#include <system_error>

#include "config.hpp"  // first: what the compiler lacks is said before Asio fails for want of it

#ifdef COHORT_BOOST_ASIO

#if !__has_include(<boost/asio.hpp>)
#error "cohort needs Boost 1.81 or later: there is no <boost/asio.hpp> on the include path"
#include "the compilation ends here because of the error above"
#endif

#include <boost/version.hpp>

// Before the headers that an older one lacks.
#if BOOST_VERSION < 108100
#error "cohort needs Boost 1.81 or later: <boost/version.hpp> on the include path is older"
#include "the compilation ends here because of the error above"
#endif

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/detail/scheduler.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/local/datagram_protocol.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/system_executor.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#if !defined(BOOST_ASIO_HAS_CO_AWAIT)
#error "cohort needs Asio with C++20 coroutines, and this Boost has not found them: define BOOST_ASIO_HAS_CO_AWAIT"
#include "the compilation ends here because of the error above"
#endif

namespace cohort {

namespace asio = boost::asio;

namespace detail {

/// What Asio's operations report an error in, and what those throw that report none.
using asio_error = boost::system::error_code;
using asio_exception = boost::system::system_error;

}  // namespace detail
}  // namespace cohort

#else

#if !__has_include(<asio/version.hpp>)
#error "cohort needs standalone Asio 1.22 or later: there is no <asio/version.hpp> on the include path"
#include "the compilation ends here because of the error above"
#endif

#include <asio/version.hpp>

// Before the headers that an older one lacks.
#if ASIO_VERSION < 102200
#error "cohort needs Asio 1.22 or later: <asio/version.hpp> on the include path is older"
#include "the compilation ends here because of the error above"
#endif

// clang does not set the feature macro that Asio up to 1.25 looks for, so it must be told before its first header.
#if defined(__clang__) && ASIO_VERSION < 102600 && !defined(ASIO_HAS_CO_AWAIT)
#error "Clang with Asio before 1.26: define ASIO_HAS_CO_AWAIT and ASIO_HAS_STD_COROUTINE for the whole program"
#include "the compilation ends here because of the error above"
#endif

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/bind_cancellation_slot.hpp>
#include <asio/buffer.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/detail/scheduler.hpp>
#include <asio/dispatch.hpp>
#include <asio/error.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/ip/udp.hpp>
#include <asio/local/datagram_protocol.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/strand.hpp>
#include <asio/system_executor.hpp>
#include <asio/this_coro.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>

#if !defined(ASIO_HAS_CO_AWAIT)
#error "cohort needs Asio with C++20 coroutines, and this Asio has not found them: define ASIO_HAS_CO_AWAIT"
#include "the compilation ends here because of the error above"
#endif

namespace cohort {

namespace asio = ::asio;

namespace detail {

using asio_error = std::error_code;
using asio_exception = std::system_error;

}  // namespace detail
}  // namespace cohort

#endif
