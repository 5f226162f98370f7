// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../stdio.hpp"
#include "child_plan.hpp"

namespace cohort::detail {

/// The descriptors that a child is to have: opens what is to be opened, and holds it until the child has it.
class connections {
 public:
  explicit connections(const std::map<int, stdio>& wanted);
  connections(const connections&) = delete;

  /// What to connect, sorted by target.
  std::vector<child_plan::connection>& list() noexcept { return list_; }

  /// The parent's end of the pipe to the child's descriptor 0, 1 or 2; empty if that is no pipe.
  descriptor take_end(int number) { return std::move(ends_[number]); }

 private:
  void check(int number, const stdio& what) const;

  // The descriptor of the child at the end of a chain of `same_as`; -1 if there is none, or the chain is a ring.
  int origin(int number) const;

  int open(int number, const stdio& what);

  int keep(descriptor source) { return opened_.emplace_back(std::move(source)).get(); }

  // The child's end; the parent's is kept in ends_.
  descriptor make_pipe(int number);

  static descriptor open_file(const std::string& path, int flags);

  const std::map<int, stdio>& wanted_;
  std::vector<child_plan::connection> list_;
  std::vector<descriptor> opened_;
  descriptor ends_[3];
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "stdio_plan.ipp"
#endif
