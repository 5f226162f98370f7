// SPDX-License-Identifier: BSL-1.0
/// Memory that is refused once, at a request that a test chooses.
#pragma once

#include <cstdint>

namespace cohort::test::scarcity {

/// Has the n-th request for memory from now on fail, counted from 1, whoever makes it: operator new, malloc, realloc
/// and aligned_alloc. Those after it succeed. 0: none fails.
///
/// With a sanitizer, operator new alone is refused.
///
/// A file with the name `mark`, if one is given, is made then.
///
/// Asio starts what `use_awaitable` waits for in a function that must not throw, so that a request that is refused
/// there ends the process: no library can help that. Such a request is granted, and counts as one that
/// `is_out_of_reach`.
void refuse(std::uint64_t n, const char* mark = nullptr) noexcept;

/// Whether the chosen request has been made and refused.
bool has_refused() noexcept;

/// Whether the chosen request has been made where Asio cannot do without.
bool is_out_of_reach() noexcept;

}  // namespace cohort::test::scarcity
