// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "loan_memory.hpp"

#include "../../core/config.hpp"

#include <cerrno>
#include <string>

#include <sys/mman.h>

#include "../../core/error.hpp"
#include "sealed_memory.hpp"

namespace cohort::detail {

COHORT_INLINE loan_memory::loan_memory(std::size_t size, descriptor& fd) : size_(size) {
  const std::string what = "a pool of " + std::to_string(size) + " bytes to lend";
  descriptor memory = make_memory("cohort loans", size, what);
  map(memory.get(), PROT_READ | PROT_WRITE);
  try {
    seal_memory(memory.get(), true, what);
  } catch (...) {
    ::munmap(at_, size_);
    throw;
  }
  fd = std::move(memory);
}

COHORT_INLINE loan_memory::loan_memory(const descriptor& fd, std::uint64_t size) {
  const std::uint64_t is = sealed_size(fd.get(), "a pool of loans");
  if (size == 0 || size % loan_unit != 0 || is != size) {
    throw_error("receive: a pool of " + std::to_string(size) + " bytes in a file of " + std::to_string(is),
                errc::malformed);
  }
  size_ = static_cast<std::size_t>(size);
  map(fd.get(), PROT_READ);
}

COHORT_INLINE loan_memory::~loan_memory() { ::munmap(at_, size_); }

COHORT_INLINE void loan_memory::map(int fd, int protection) {
  void* const at = ::mmap(nullptr, size_, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) throw_error("channel: map a pool of " + std::to_string(size_) + " bytes", errno);
  at_ = static_cast<char*>(at);
}

}  // namespace cohort::detail
