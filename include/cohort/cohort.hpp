// SPDX-License-Identifier: BSL-1.0
/// All of cohort.
#pragma once

/// The version as one number: 10000 * major + 100 * minor + patch.
#define COHORT_VERSION 100

// the ground: errors, descriptors, and what coroutines wait for
#include "core/asio.hpp"
#include "core/descriptor.hpp"
#include "core/error.hpp"
#include "core/event.hpp"
#include "core/queue.hpp"
#include "core/timeout.hpp"
