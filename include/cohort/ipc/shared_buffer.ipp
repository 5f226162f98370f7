// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "shared_buffer.hpp"

#include "../core/config.hpp"

#include <sys/stat.h>

namespace cohort {

COHORT_INLINE shared_buffer::shared_buffer(descriptor fd, std::size_t most) : fd_(std::move(fd)) {
  struct stat status = {};
  const int present = ::fcntl(fd_.get(), F_GET_SEALS);
  if (present == -1 || (present & seals) != seals || ::fstat(fd_.get(), &status) != 0) {
    throw_error("shared_buffer: memory that is not sealed", errc::wrong_handle_kind);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > most) {
    throw_error("shared_buffer: " + std::to_string(size) + " bytes, at most " + std::to_string(most),
                errc::message_too_large);
  }
  map_ = mapping(fd_.get(), size, PROT_READ);
}

COHORT_INLINE descriptor shared_buffer::release() noexcept {
  map_ = mapping();
  return std::move(fd_);
}

COHORT_INLINE shared_buffer::mapping::mapping(int fd, std::size_t bytes, int protection) {
  if (bytes == 0) return;  // EINVAL for mmap
  void* const at = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) throw_error("shared_buffer: map " + std::to_string(bytes) + " bytes", errno);
  data = static_cast<char*>(at);
  size = bytes;
}

COHORT_INLINE shared_buffer::mapping& shared_buffer::mapping::operator=(mapping&& other) noexcept {
  std::swap(data, other.data);
  std::swap(size, other.size);
  return *this;
}

COHORT_INLINE shared_buffer::mapping::~mapping() {
  if (data != nullptr) ::munmap(data, size);
}

}  // namespace cohort
