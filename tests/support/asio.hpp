// SPDX-License-Identifier: BSL-1.0
/// What tests use of Asio beyond what the library includes, from the Asio that it stands on.
#pragma once

#include "../../include/cohort/core/asio.hpp"

#ifdef COHORT_BOOST_ASIO
#include <boost/asio/buffer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#else
#include <asio/buffer.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_future.hpp>
#endif
