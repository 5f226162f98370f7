// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <iterator>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "../stats.hpp"

namespace cohort {
namespace detail {

/// What stands between the quotation marks of a label (text format 0.0.4).
std::string escape_label(std::string_view value);

class metrics_text {
 public:
  /// Begins a metric, whose values follow.
  void begin(std::string_view name, std::string_view type, std::string_view help);

  template <class Number>
  void value(const Number& number, std::string_view labels = {}) {
    const auto out = std::back_inserter(text_);
    if (labels.empty()) {
      fmt::format_to(out, "{} {}\n", name_, number);
    } else {
      fmt::format_to(out, "{}{{{}}} {}\n", name_, labels, number);
    }
  }

  template <class Number>
  void single(std::string_view name, std::string_view type, std::string_view help, const Number& number) {
    begin(name, type, help);
    value(number);
  }

  std::string text() const { return fmt::to_string(text_); }

 private:
  fmt::memory_buffer text_;
  std::string_view name_;
};

template <class Duration>
double in_seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace detail

/// The figures in the text format 0.0.4 of Prometheus (Content-Type `text/plain; version=0.0.4`), in seconds and bytes.
///
/// Counters are those of the cluster, of a slot or of an agent, and only grow. What is said of one worker process,
/// which the labels slot, generation and pid tell (while one is replaced there are two of a slot), are gauges.
std::string to_prometheus(const cluster_stats& stats);

}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "metrics.ipp"
#endif
