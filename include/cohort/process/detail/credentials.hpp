// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/types.h>

#include "../../core/error.hpp"
#include "checks.hpp"
#include "option_types.hpp"

namespace cohort::detail {

/// The user and the groups that a child gets, as numbers; those that are empty stay the parent's.
struct credentials {
  std::optional<uid_t> user;
  std::optional<gid_t> group;
  std::optional<std::vector<gid_t>> groups;

  bool change_nothing() const noexcept { return !user && !group && !groups; }
};

/// A name, or a number in digits.
account account_in(const std::string& text);

/// Reads the user database, and may wait for it: files, or what nsswitch.conf(5) names.
class credentials_lookup {
 public:
  static credentials find(const std::optional<account>& user, const std::optional<account>& group,
                          const std::optional<std::vector<account>>& groups);

 private:
  static void find_user(const account& who, credentials& found);

  static gid_t find_group(const account& which);

  template <class Function>
  static void look_up(std::string_view what, const account& who, std::vector<char>& buffer, Function function) {
    for (;;) {
      const int error = function();
      switch (error) {
        case EINTR: continue;
        case ERANGE: buffer.resize(buffer.size() * 2); continue;
        // Beside 0 with no result, these too say that there is no such entry (getpwnam(3)).
        case 0:
        case ENOENT:
        case ESRCH: return;
        default: throw_error(fmt::format("spawn: look up {} {}", what, shown(who)), error);
      }
    }
  }

  static std::vector<gid_t> groups_of(const passwd& entry);

  // The highest of all stands for "leave it as it is" (setresuid(2)).
  static std::uint32_t checked_number(std::string_view what, std::int64_t number);
};

/// Keeps this process dumpable while a child that shares its memory changes its user. The kernel takes the flag away
/// from the memory, the parent's, and nobody could write a core of the parent or trace it from then on (prctl(2),
/// PR_SET_DUMPABLE). It stays away until the child has left that memory: the other user could trace it there.
class dumpable_keeper {
 public:
  explicit dumpable_keeper(bool needed);
  dumpable_keeper(const dumpable_keeper&) = delete;

  ~dumpable_keeper();

 private:
  static inline std::mutex one_at_a_time_;

  std::unique_lock<std::mutex> lock_;
  bool dumpable_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "credentials.ipp"
#endif
