// SPDX-License-Identifier: BSL-1.0
/// asio::thread_pool, which is not in what every header includes.
#pragma once

#include "asio.hpp"

#ifdef COHORT_BOOST_ASIO
#include <boost/asio/thread_pool.hpp>
#else
#include <asio/thread_pool.hpp>
#endif
