// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include "../../include/cohort/core/descriptor.hpp"

namespace cohort::test {

/// Lets this process have no more descriptors than it has now, for as long as the object lives.
class at_the_limit {
 public:
  at_the_limit() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const descriptor first_free(::dup(0));
    rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(first_free.get());
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  at_the_limit(const at_the_limit&) = delete;
  ~at_the_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace cohort::test
