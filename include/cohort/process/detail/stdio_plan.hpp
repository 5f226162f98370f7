// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>

#include "../../core/descriptor.hpp"
#include "../../core/error.hpp"
#include "../../core/system.hpp"
#include "../stdio.hpp"
#include "checks.hpp"
#include "child_plan.hpp"

namespace cohort::detail {

/// The descriptors that a child is to have: opens what is to be opened, and holds it until the child has it.
class connections {
 public:
  explicit connections(const std::map<int, stdio>& wanted) : wanted_(wanted) {
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
  connections(const connections&) = delete;

  /// What to connect, sorted by target.
  std::vector<child_plan::connection>& list() noexcept { return list_; }

  /// The parent's end of the pipe to the child's descriptor 0, 1 or 2; empty if that is no pipe.
  descriptor take_end(int number) { return std::move(ends_[number]); }

 private:
  void check(int number, const stdio& what) const {
    if (number < 0) refuse("fd", number);
    if (what.kind_ == stdio::kind::pipe && number > 2) refuse("pipe for", descriptor_name(number));
    if (what.kind_ == stdio::kind::file) check_string("path", what.path_);
    if (what.kind_ == stdio::kind::same && origin(number) == -1) {
      refuse(descriptor_name(number) + " same as", descriptor_name(what.number_));
    }
  }

  // The descriptor of the child at the end of a chain of `same_as`; -1 if there is none, or the chain is a ring.
  int origin(int number) const {
    for (std::size_t step = 0; step <= wanted_.size(); ++step) {
      const auto found = wanted_.find(number);
      if (found == wanted_.end()) return number >= 0 && number <= 2 ? number : -1;
      if (found->second.kind_ != stdio::kind::same) return number;
      number = found->second.number_;
    }
    return -1;
  }

  int open(int number, const stdio& what) {
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

  int keep(descriptor source) { return opened_.emplace_back(std::move(source)).get(); }

  // The child's end; the parent's is kept in ends_.
  descriptor make_pipe(int number) {
    int made[2];
    if (system::call.pipe2(made, O_CLOEXEC) == -1) throw_error("spawn: pipe for " + descriptor_name(number), errno);
    descriptor reading(made[0]), writing(made[1]);
    const bool child_reads = number == 0;
    ends_[number] = std::move(child_reads ? writing : reading);
    return std::move(child_reads ? reading : writing);
  }

  static descriptor open_file(const std::string& path, int flags) {
    descriptor file(system::retry(system::call.open, path.c_str(), flags | O_CLOEXEC, mode_t(0666)));
    if (!file) throw_error("spawn: open " + in_quotes(path), errno);
    return file;
  }

  const std::map<int, stdio>& wanted_;
  std::vector<child_plan::connection> list_;
  std::vector<descriptor> opened_;
  descriptor ends_[3];
};

}  // namespace cohort::detail
