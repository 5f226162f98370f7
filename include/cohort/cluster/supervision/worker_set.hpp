// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "../worker_state.hpp"
#include "worker_process.hpp"

namespace cohort {

/// The processes of one kind that there are, in the order of their starts: the workers of a cluster, or its agents. The
/// supervisor of that kind adds and removes them; messages and schedules look for them here.
///
/// Distinct objects: safe. Shared objects: unsafe.
class worker_set {
 public:
  using list = std::vector<worker_ptr>;

  worker_set() = default;
  worker_set(const worker_set&) = delete;
  worker_set& operator=(const worker_set&) = delete;

  list::const_iterator begin() const noexcept { return all_.begin(); }
  list::const_iterator end() const noexcept { return all_.end(); }
  bool empty() const noexcept { return all_.empty(); }

  /// A copy, for a loop whose body may add or remove some.
  list copy() const { return all_; }

  void add(worker_ptr who) { all_.push_back(std::move(who)); }
  void remove(const worker_ptr& who) { std::erase(all_, who); }

  std::size_t count_in(worker_state state) const noexcept;
  std::size_t serving() const noexcept;

  /// The worker that serves in a slot; null if none does.
  worker_ptr serving_in(unsigned slot) const;

  /// The agent of this name that is ready, any if the name is empty; null if there is none.
  worker_ptr ready_agent(const std::string& name) const;

 private:
  list all_;
};

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "worker_set.ipp"
#endif
