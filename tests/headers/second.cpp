// SPDX-License-Identifier: BSL-1.0
#include <cohort/cohort.hpp>

namespace cohort::test {

const void* category_of_second();

const void* category_of_second() { return &error_category(); }

}  // namespace cohort::test
