// SPDX-License-Identifier: BSL-1.0
/// Where the bodies of functions that are no templates are compiled: see impl/src.hpp.
#pragma once

#ifdef COHORT_SEPARATE_COMPILATION
#define COHORT_INLINE
#else
#define COHORT_INLINE inline
#endif
