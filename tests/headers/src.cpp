// SPDX-License-Identifier: BSL-1.0
#include <cohort/impl/src.hpp>
