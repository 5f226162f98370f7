// SPDX-License-Identifier: BSL-1.0
/// Where the bodies of functions that are no templates are compiled.
///
/// Header-only, the default: each header brings its bodies, NAME.ipp beside it, as inline functions. With
/// COHORT_SEPARATE_COMPILATION, defined for the whole program, headers only declare, and one translation unit includes
/// impl/src.hpp, which brings all bodies once.
#pragma once

#ifdef COHORT_SEPARATE_COMPILATION
#define COHORT_INLINE

namespace cohort::detail {
// Undefined in a program that has left out impl/src.hpp: the linker names what to do.
extern const char include_cohort_impl_src_hpp_in_one_translation_unit;
[[gnu::used]] static const char* const separate_compilation = &include_cohort_impl_src_hpp_in_one_translation_unit;
}  // namespace cohort::detail
#else
#define COHORT_INLINE inline
#endif
