// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
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

/// Reads the user database, and may wait for it: files, or what nsswitch.conf(5) names.
class credentials_lookup {
 public:
  static credentials find(const std::optional<account>& user, const std::optional<account>& group,
                          const std::optional<std::vector<account>>& groups) {
    credentials found;
    if (group) found.group = find_group(*group);
    if (groups) {
      found.groups.emplace();
      for (const auto& each : *groups) found.groups->push_back(find_group(each));
    }
    if (user) find_user(*user, found);
    return found;
  }

 private:
  static void find_user(const account& who, credentials& found) {
    std::vector<char> buffer(1024);
    passwd entry, *result = nullptr;
    if (const auto* name = std::get_if<std::string>(&who)) {
      check_string("user", *name);
      look_up("user", who, buffer,
              [&] { return ::getpwnam_r(name->c_str(), &entry, buffer.data(), buffer.size(), &result); });
      if (result == nullptr) refuse("unknown user", shown(who));
      found.user = entry.pw_uid;
    } else {
      found.user = checked_number("user", std::get<std::int64_t>(who));
      if (found.group && found.groups) return;
      look_up("user", who, buffer,
              [&] { return ::getpwuid_r(*found.user, &entry, buffer.data(), buffer.size(), &result); });
      if (result == nullptr && !found.group) refuse("no group for unknown user", shown(who));
    }
    if (!found.groups) found.groups = result ? groups_of(entry) : std::vector<gid_t>();
    if (!found.group) found.group = entry.pw_gid;
  }

  static gid_t find_group(const account& which) {
    const auto* name = std::get_if<std::string>(&which);
    if (name == nullptr) return checked_number("group", std::get<std::int64_t>(which));
    check_string("group", *name);
    std::vector<char> buffer(1024);
    group entry, *result = nullptr;
    look_up("group", which, buffer,
            [&] { return ::getgrnam_r(name->c_str(), &entry, buffer.data(), buffer.size(), &result); });
    if (result == nullptr) refuse("unknown group", shown(which));
    return entry.gr_gid;
  }

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

  static std::vector<gid_t> groups_of(const passwd& entry) {
    std::vector<gid_t> groups(64);
    for (;;) {
      int count = static_cast<int>(groups.size());
      const bool all = ::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) != -1;
      groups.resize(static_cast<std::size_t>(count));
      if (all) return groups;
    }
  }

  // The highest of all stands for "leave it as it is" (setresuid(2)).
  static std::uint32_t checked_number(std::string_view what, std::int64_t number) {
    if (number < 0 || number >= std::numeric_limits<std::uint32_t>::max()) refuse(what, number);
    return static_cast<std::uint32_t>(number);
  }
};

/// Keeps this process dumpable while a child that shares its memory changes its user. The kernel takes the flag away
/// from the memory, the parent's, and nobody could write a core of the parent or trace it from then on (prctl(2),
/// PR_SET_DUMPABLE). It stays away until the child has left that memory: the other user could trace it there.
class dumpable_keeper {
 public:
  explicit dumpable_keeper(bool needed) {
    if (!needed) return;
    lock_ = std::unique_lock(one_at_a_time_);  // or one would find the flag as the other's child has left it
    dumpable_ = ::prctl(PR_GET_DUMPABLE) == 1;
  }
  dumpable_keeper(const dumpable_keeper&) = delete;

  ~dumpable_keeper() {
    if (dumpable_ && ::prctl(PR_GET_DUMPABLE) != 1) ::prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  static inline std::mutex one_at_a_time_;

  std::unique_lock<std::mutex> lock_;
  bool dumpable_ = false;
};

}  // namespace cohort::detail
