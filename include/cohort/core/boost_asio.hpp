// SPDX-License-Identifier: BSL-1.0
/// Asio as a part of Boost, for programs that define COHORT_BOOST_ASIO: Boost 1.81 to the newest.
///
/// To be included by asio.hpp alone, which has the same list for standalone Asio.
#pragma once

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
#include <boost/asio/use_awaitable.hpp>

#if !defined(BOOST_ASIO_HAS_CO_AWAIT)
#error "cohort needs Asio with C++20 coroutines, and this Boost has not found them: define BOOST_ASIO_HAS_CO_AWAIT"
#include "the compilation ends here because of the error above"
#endif

namespace cohort {
namespace asio = boost::asio;
}
