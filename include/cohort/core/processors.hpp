// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <optional>
#include <string>

namespace cohort {

/// How many processors this process can keep busy: those of its affinity mask (sched_getaffinity(2)), or as many as the
/// time makes up that its control groups get, rounded up, if that is less (cpu.max, cgroups(7); cpu.cfs_quota_us of
/// version 1). One at least.
unsigned usable_processors();

namespace detail {

/// The processors' worth of time that a control group of this process or one above it may use; nothing if none is
/// limited. `root` is the directory that stands for `/`.
std::optional<double> processor_quota(const std::string& root = "");

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "processors.ipp"
#endif
