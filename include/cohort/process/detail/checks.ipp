// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "checks.hpp"

#include "../../core/config.hpp"

#include <variant>

namespace cohort::detail {

COHORT_INLINE std::string in_quotes(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) c == '\0' ? text += "\\0" : text += c;
  return text += '"';
}

COHORT_INLINE std::string shown(const account& who) {
  const auto* name = std::get_if<std::string>(&who);
  return name ? in_quotes(*name) : fmt::to_string(std::get<std::int64_t>(who));
}

COHORT_INLINE std::string shown(const std::vector<account>& list) {
  std::string text;
  for (const auto& each : list) text += (text.empty() ? "" : ", ") + shown(each);
  return text.empty() ? "none" : text;
}

COHORT_INLINE std::string descriptor_name(int number) {
  switch (number) {
    case 0: return "stdin";
    case 1: return "stdout";
    case 2: return "stderr";
    default: return fmt::format("fd {}", number);
  }
}

COHORT_INLINE std::string_view shown(io_class served) {
  switch (served) {
    case io_class::realtime: return "realtime";
    case io_class::best_effort: return "best effort";
    case io_class::idle: return "idle";
  }
  return "unknown";
}

COHORT_INLINE std::string shown(int resource, const rlimit& limit) {
  const auto name = [&]() -> std::string {
    switch (resource) {
      case RLIMIT_AS: return "RLIMIT_AS";
      case RLIMIT_CORE: return "RLIMIT_CORE";
      case RLIMIT_CPU: return "RLIMIT_CPU";
      case RLIMIT_DATA: return "RLIMIT_DATA";
      case RLIMIT_FSIZE: return "RLIMIT_FSIZE";
      case RLIMIT_LOCKS: return "RLIMIT_LOCKS";
      case RLIMIT_MEMLOCK: return "RLIMIT_MEMLOCK";
      case RLIMIT_MSGQUEUE: return "RLIMIT_MSGQUEUE";
      case RLIMIT_NICE: return "RLIMIT_NICE";
      case RLIMIT_NOFILE: return "RLIMIT_NOFILE";
      case RLIMIT_NPROC: return "RLIMIT_NPROC";
      case RLIMIT_RSS: return "RLIMIT_RSS";
      case RLIMIT_RTPRIO: return "RLIMIT_RTPRIO";
      case RLIMIT_RTTIME: return "RLIMIT_RTTIME";
      case RLIMIT_SIGPENDING: return "RLIMIT_SIGPENDING";
      case RLIMIT_STACK: return "RLIMIT_STACK";
      default: return fmt::to_string(resource);
    }
  };
  const auto value = [](rlim_t units) { return units == RLIM_INFINITY ? "unlimited" : fmt::to_string(units); };
  return fmt::format("{} {}:{}", name(), value(limit.rlim_cur), value(limit.rlim_max));
}

COHORT_INLINE void check_string(std::string_view what, const std::string& value) {
  if (value.find('\0') != value.npos) refuse(what, in_quotes(value));
}

}  // namespace cohort::detail
