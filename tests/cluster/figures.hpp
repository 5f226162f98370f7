// SPDX-License-Identifier: BSL-1.0
/// What an attack costs a primary that is the test itself: memory, descriptors, and the time of an honest worker's
/// answer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <unistd.h>

namespace cohort::test {

/// The most of each that was seen.
struct figures {
  std::size_t descriptors = 0;
  std::size_t memory = 0;  // resident, in MiB
  std::chrono::milliseconds latency{0};

  /// Looks at this process. The time is that of an answer that has just come.
  void add(std::chrono::steady_clock::duration answer) {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    descriptors = std::max(descriptors,
                           static_cast<std::size_t>(std::distance(begin(all), std::filesystem::directory_iterator())));
    std::size_t whole = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> whole >> resident;
    memory = std::max(memory, resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) >> 20);
    latency = std::max(latency, std::chrono::duration_cast<std::chrono::milliseconds>(answer));
  }

  std::string text() const {
    return std::to_string(memory) + " MiB, " + std::to_string(descriptors) + " descriptors, " +
           std::to_string(latency.count()) + " ms";
  }
};

}  // namespace cohort::test
