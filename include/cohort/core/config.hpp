// SPDX-License-Identifier: BSL-1.0
/// Where the bodies of functions that are no templates are compiled: see impl/src.hpp.
///
/// Two symbols tell by their names what is wrong with a program whose parts do not agree:
///
/// - include_cohort_impl_src_hpp_… is undefined if COHORT_SEPARATE_COMPILATION is defined, and neither a
///   translation unit nor a library has the bodies.
/// - define_COHORT_SEPARATE_COMPILATION_… is thread-local in a translation unit without the definition, and not in one
///   with it. GNU ld and gold refuse such a program, mold warns, lld does not see it.
#pragma once

#include "requirements.hpp"

#ifdef COHORT_SEPARATE_COMPILATION
#define COHORT_INLINE
#else
#define COHORT_INLINE inline
#endif

namespace cohort::detail {

#ifdef COHORT_SEPARATE_COMPILATION
extern const char include_cohort_impl_src_hpp_in_one_translation_unit;

[[gnu::used]] static const char* const bodies_are_elsewhere = &include_cohort_impl_src_hpp_in_one_translation_unit;

[[gnu::used]] inline const char define_COHORT_SEPARATE_COMPILATION_in_all_translation_units_or_in_none = 0;
#else
[[gnu::used]] inline constinit thread_local char
    define_COHORT_SEPARATE_COMPILATION_in_all_translation_units_or_in_none = 0;
#endif

}  // namespace cohort::detail
