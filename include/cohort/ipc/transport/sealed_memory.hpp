// SPDX-License-Identifier: BSL-1.0
/// Memory that two processes share, each with a mapping of its own: a sealed memfd.
///
/// The seals keep a hostile peer from shrinking it, so that no access can end in SIGBUS. What is in it may change at
/// any time for all that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../../core/descriptor.hpp"

namespace cohort::detail {

/// New memory of `size` bytes. It is not sealed yet. Throws what memfd_create(2) or ftruncate(2) says, with `what`.
descriptor make_memory(const char* name, std::size_t size, const std::string& what);

/// Keeps everybody from changing the size of the memory, and, if it is `read_only`, from mapping it to write once more
/// (where the kernel can, from Linux 5.1 on). Throws what fcntl(2) says, with `what`.
void seal_memory(int fd, bool read_only, const std::string& what);

/// The bytes of a memfd that came from a peer. Throws errc::malformed, with `what`, unless nobody can change its size.
std::uint64_t sealed_size(int fd, const std::string& what);

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "sealed_memory.ipp"
#endif
