// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "environment.hpp"

#include "../core/config.hpp"

#include <cstdlib>

#include <unistd.h>

namespace cohort::detail {

COHORT_INLINE unsigned number_from(const char* variable) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? static_cast<unsigned>(std::strtoul(text, nullptr, 10)) : 0;
}

COHORT_INLINE member this_member() {
  member self;
  self.slot = number_from(slot_variable);
  self.pid = ::getpid();
  if (const char* const name = std::getenv(agent_variable)) self.agent = name;
  return self;
}

COHORT_INLINE unsigned this_generation() { return number_from(generation_variable); }

COHORT_INLINE void forget_environment() {
  for (const char* const name : {slot_variable, generation_variable, agent_variable}) ::unsetenv(name);
}

}  // namespace cohort::detail
