// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "inherited_sockets.hpp"

#include "../core/config.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include <fcntl.h>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE inherited_sockets inherited_sockets::from_environment() {
  const auto fds = take_variable("LISTEN_FDS");
  const auto pid = take_variable("LISTEN_PID");
  const auto names = take_variable("LISTEN_FDNAMES");
  ::unsetenv("LISTEN_PIDFDID");  // which newer managers set beside LISTEN_PID
  inherited_sockets result;
  if (!fds || !pid || number("LISTEN_PID", *pid, INT_MAX) != ::getpid()) return result;

  const int count = number("LISTEN_FDS", *fds, INT_MAX - first);
  const auto known = names ? split(*names) : std::vector<std::string>();
  if (names && known.size() != static_cast<std::size_t>(count)) {
    throw_error(fmt::format("inherited sockets: LISTEN_FDNAMES={} with LISTEN_FDS={}", *names, count),
                errc::invalid_option);
  }
  // The number is only a claim: it is not reserved for before the descriptors have been seen.
  for (int fd = first; fd < first + count; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == -1) throw_error(fmt::format("inherited sockets: fd {}", fd), errno);
    const auto index = static_cast<std::size_t>(fd - first);
    result.sockets_.push_back({names ? known[index] : "unknown", fd, kind_of(fd), descriptor(fd)});
  }
  return result;
}

COHORT_INLINE std::vector<inherited_socket> inherited_sockets::take(std::string_view name) {
  return take_if([&](const inherited_socket& each) { return each.name == name; });
}

COHORT_INLINE std::vector<inherited_socket> inherited_sockets::take(int number) {
  return take_if([&](const inherited_socket& each) { return each.number == number; });
}

COHORT_INLINE std::optional<std::string> inherited_sockets::take_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  std::optional<std::string> result(value);
  ::unsetenv(name);
  return result;
}

COHORT_INLINE int inherited_sockets::number(const char* variable, const std::string& text, int most) {
  int result = -1;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, result);
  if (parsed.ec != std::errc() || parsed.ptr != end || result < 0 || result > most) {
    throw_error(fmt::format("inherited sockets: {}={}", variable, text), errc::invalid_option);
  }
  return result;
}

COHORT_INLINE std::vector<std::string> inherited_sockets::split(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty() || !result.empty()) {
    const auto colon = text.find(':');
    result.emplace_back(text.substr(0, colon));
    if (colon == text.npos) break;
    text.remove_prefix(colon + 1);
  }
  return result;
}

}  // namespace cohort
