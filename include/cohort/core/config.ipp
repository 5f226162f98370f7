// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "config.hpp"

#ifdef COHORT_SEPARATE_COMPILATION

namespace cohort::detail {

const char include_cohort_impl_src_hpp_in_one_translation_unit = 0;

}  // namespace cohort::detail

#endif
