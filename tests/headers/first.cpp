// SPDX-License-Identifier: BSL-1.0
// With second.cpp: two translation units that include everything make one program.
#include <cohort/cohort.hpp>

static_assert(COHORT_VERSION == PROJECT_VERSION, "meson.build and cohort.hpp must state the same version");

namespace cohort::test {

const void* category_of_second();

}  // namespace cohort::test

int main() { return &cohort::error_category() == cohort::test::category_of_second() ? 0 : 1; }
