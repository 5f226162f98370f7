// SPDX-License-Identifier: BSL-1.0
/// doctest under either of its spellings: distributions install <doctest/doctest.h>, old wraps have <doctest.h>.
#pragma once

#if __has_include(<doctest/doctest.h>)
#include <doctest/doctest.h>
#else
#include <doctest.h>
#endif
