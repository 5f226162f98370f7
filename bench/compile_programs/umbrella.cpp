// SPDX-License-Identifier: BSL-1.0
#include <cohort/cohort.hpp>

int main() {}
