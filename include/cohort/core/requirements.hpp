// SPDX-License-Identifier: BSL-1.0
/// What the compiler, its options and fmt must bring. Whatever is missing is one sentence, and the first error: the
/// include of a file that cannot exist ends the compilation after it, because `#error` alone does not.
///
/// core/config.hpp includes this first. What Asio must bring stands in core/asio.hpp.
#pragma once

#if __cplusplus < 202002L
#error "cohort needs C++20: compile with -std=c++20 or later"
#define COHORT_UNMET
#elif (defined(__clang__) && __clang_major__ < 16) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ < 12)
#error "cohort needs GCC 12 or Clang 16, or later"
#define COHORT_UNMET
#elif !defined(__linux__)
#error "cohort needs Linux 5.10 or later"
#define COHORT_UNMET
#elif !defined(__cpp_exceptions)
#error "cohort reports failures by exceptions: compile without -fno-exceptions"
#define COHORT_UNMET
#elif !defined(__cpp_rtti)
#error "cohort and Asio need run-time type information: compile without -fno-rtti"
#define COHORT_UNMET
#elif !__has_include(<fmt/format.h>)
#error "cohort needs fmt 9 or later: there is no <fmt/format.h> on the include path"
#define COHORT_UNMET
#elif !__has_include(<fmt/std.h>)  // which fmt 9 brought; <fmt/format.h> knows its version only when it is parsed
#error "cohort needs fmt 9 or later: this fmt is older, for it has no <fmt/std.h>"
#define COHORT_UNMET
#endif

#ifdef COHORT_UNMET
#include "the compilation ends here because of the error above"
#endif
