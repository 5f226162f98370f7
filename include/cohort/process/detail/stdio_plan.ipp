// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "stdio_plan.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <cstddef>

#include <fcntl.h>

#include "../../core/system.hpp"
#include "checks.hpp"

namespace cohort::detail {

COHORT_INLINE connections::connections(const std::map<int, stdio>& wanted) : wanted_(wanted) {
  // All that may be refused, before a file is emptied.
  for (const auto& [number, what] : wanted_) check(number, what);

  std::map<int, int> sources;
  for (const auto& [number, what] : wanted_) {
    if (what.kind_ != stdio::kind::same) sources.emplace(number, open(number, what));
  }
  for (const auto& [number, what] : wanted_) {
    // Open or closed, 0, 1 and 2 go on as they are.
    if (what.kind_ == stdio::kind::inherit && number <= 2) continue;
    const int first = origin(number);
    const auto source = sources.find(first);
    list_.push_back({source == sources.end() ? first : source->second, number});
  }
}

COHORT_INLINE void connections::check(int number, const stdio& what) const {
  if (number < 0) refuse("fd", number);
  if (what.kind_ == stdio::kind::pipe && number > 2) refuse("pipe for", descriptor_name(number));
  if (what.kind_ == stdio::kind::file) check_string("path", what.path_);
  if (what.kind_ == stdio::kind::same && origin(number) == -1) {
    refuse(descriptor_name(number) + " same as", descriptor_name(what.number_));
  }
}

COHORT_INLINE int connections::origin(int number) const {
  for (std::size_t step = 0; step <= wanted_.size(); ++step) {
    const auto found = wanted_.find(number);
    if (found == wanted_.end()) return number >= 0 && number <= 2 ? number : -1;
    if (found->second.kind_ != stdio::kind::same) return number;
    number = found->second.number_;
  }
  return -1;
}

COHORT_INLINE int connections::open(int number, const stdio& what) {
  switch (what.kind_) {
    case stdio::kind::pipe: return keep(make_pipe(number));
    case stdio::kind::null: return keep(open_file("/dev/null", O_RDWR));
    case stdio::kind::file: return keep(open_file(what.path_, what.flags_));
    case stdio::kind::number: return what.number_;
    case stdio::kind::inherit:
    case stdio::kind::same: break;
  }
  return number;
}

COHORT_INLINE descriptor connections::make_pipe(int number) {
  int made[2];
  if (system::call.pipe2(made, O_CLOEXEC) == -1) throw_error("spawn: pipe for " + descriptor_name(number), errno);
  descriptor reading(made[0]), writing(made[1]);
  const bool child_reads = number == 0;
  ends_[number] = std::move(child_reads ? writing : reading);
  return std::move(child_reads ? reading : writing);
}

COHORT_INLINE descriptor connections::open_file(const std::string& path, int flags) {
  descriptor file(system::retry(system::call.open, path.c_str(), flags | O_CLOEXEC, mode_t(0666)));
  if (!file) throw_error("spawn: open " + in_quotes(path), errno);
  return file;
}

}  // namespace cohort::detail
