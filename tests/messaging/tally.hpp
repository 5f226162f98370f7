// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../include/cohort/core/descriptor.hpp"
#include "../../include/cohort/core/error.hpp"

namespace cohort::test {

/// Counts of several processes together, which outlive each of them: in a file that all have in their memory.
class tally {
 public:
  struct counts {
    std::atomic<std::uint64_t> begun;          ///< messages that somebody was about to send
    std::atomic<std::uint64_t> told;           ///< of those, for which there was a receipt
    std::atomic<std::uint64_t> delivered;      ///< processes that have got one, by the receipts
    std::atomic<std::uint64_t> not_delivered;  ///< those that have not
    std::atomic<std::uint64_t> heard;          ///< by the listeners
  };

  explicit tally(std::string path) : path_(std::move(path)) {
    const descriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file || ::ftruncate(file.get(), sizeof(counts)) != 0) throw_error("tally: " + path_, errno);
    void* const at = ::mmap(nullptr, sizeof(counts), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (at == MAP_FAILED) throw_error("tally: mmap", errno);
    counts_ = static_cast<counts*>(at);
  }
  tally(const tally&) = delete;
  ~tally() { ::munmap(counts_, sizeof(counts)); }

  counts* operator->() const noexcept { return counts_; }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  counts* counts_;
};

}  // namespace cohort::test
