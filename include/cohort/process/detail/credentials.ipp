// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "credentials.hpp"

#include "../../core/config.hpp"

#include <charconv>
#include <limits>
#include <string>
#include <system_error>
#include <variant>

#include <sys/prctl.h>

namespace cohort::detail {

COHORT_INLINE account account_in(const std::string& text) {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return number;
  return text;
}

COHORT_INLINE credentials credentials_lookup::find(const std::optional<account>& user,
                                                   const std::optional<account>& group,
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

COHORT_INLINE void credentials_lookup::find_user(const account& who, credentials& found) {
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

COHORT_INLINE gid_t credentials_lookup::find_group(const account& which) {
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

COHORT_INLINE std::vector<gid_t> credentials_lookup::groups_of(const passwd& entry) {
  std::vector<gid_t> groups(64);
  for (;;) {
    int count = static_cast<int>(groups.size());
    const bool all = ::getgrouplist(entry.pw_name, entry.pw_gid, groups.data(), &count) != -1;
    groups.resize(static_cast<std::size_t>(count));
    if (all) return groups;
  }
}

COHORT_INLINE std::uint32_t credentials_lookup::checked_number(std::string_view what, std::int64_t number) {
  if (number < 0 || number >= std::numeric_limits<std::uint32_t>::max()) refuse(what, number);
  return static_cast<std::uint32_t>(number);
}

COHORT_INLINE dumpable_keeper::dumpable_keeper(bool needed) {
  if (!needed) return;
  lock_ = std::unique_lock(one_at_a_time_);  // or one would find the flag as the other's child has left it
  dumpable_ = ::prctl(PR_GET_DUMPABLE) == 1;
}

COHORT_INLINE dumpable_keeper::~dumpable_keeper() {
  if (dumpable_ && ::prctl(PR_GET_DUMPABLE) != 1) ::prctl(PR_SET_DUMPABLE, 1);
}

}  // namespace cohort::detail
