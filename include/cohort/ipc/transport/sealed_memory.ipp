// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "sealed_memory.hpp"

#include "../../core/config.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../../core/error.hpp"
#include "../../core/system.hpp"

namespace cohort::detail {

COHORT_INLINE descriptor make_memory(const char* name, std::size_t size, const std::string& what) {
  descriptor fd(system::call.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) throw_error("channel: memfd_create for " + what, errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) throw_error("channel: ftruncate for " + what, errno);
  return fd;
}

COHORT_INLINE void seal_memory(int fd, bool read_only, const std::string& what) {
  constexpr int seal_future_write = 0x0010;  // not in every <fcntl.h>
  if (read_only && ::fcntl(fd, F_ADD_SEALS, seal_future_write) != 0 && errno != EINVAL) {
    throw_error("channel: seal " + what, errno);
  }
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    throw_error("channel: seal " + what, errno);
  }
}

COHORT_INLINE std::uint64_t sealed_size(int fd, const std::string& what) {
  constexpr int wanted = F_SEAL_SHRINK | F_SEAL_GROW;
  constexpr long tmpfs = 0x01021994;  // and not huge pages, of which there may be none when one is touched (statfs(2))
  struct stat status = {};
  struct statfs system = {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals == -1 || (seals & wanted) != wanted || ::fstat(fd, &status) != 0 || ::fstatfs(fd, &system) != 0 ||
      static_cast<long>(system.f_type) != tmpfs) {
    throw_error("receive: " + what + " in memory that is not sealed", errc::malformed);
  }
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace cohort::detail
