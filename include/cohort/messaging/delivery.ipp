// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "delivery.hpp"

#include "../core/config.hpp"

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE std::string to_string(const member& who) {
  std::string text = who.slot != 0        ? fmt::format("worker {}", who.slot)
                     : !who.agent.empty() ? fmt::format("agent \"{}\"", who.agent)
                                          : std::string("primary");
  if (who.pid != 0) text += fmt::format(" (pid {})", who.pid);
  return text;
}

COHORT_INLINE std::string to_string(const receipt::failure& failure) {
  const char* why = "gone";
  switch (failure.why) {
    case undelivered::gone: break;
    case undelivered::not_ready: why = "not ready"; break;
    case undelivered::unheard: why = "nobody listens to it"; break;
    case undelivered::failed: why = "failed"; break;
    case undelivered::dropped: why = "dropped, too slow"; break;
    case undelivered::slow: why = "too slow"; break;
  }
  return failure.what.empty() ? why : fmt::format("{}: {}", why, failure.what);
}

COHORT_INLINE std::string to_string(const receipt& what) {
  std::string text = fmt::format("delivered to {} of {}", what.delivered, what.recipients());
  for (const auto& each : what.failures) {
    // A primary that is gone carries no receipts any more: this is a process that is none of the cluster's.
    const bool stranger = each.who.slot == 0 && each.who.agent.empty() && each.why == undelivered::gone;
    const std::string who = stranger ? fmt::format("process {}", each.who.pid) : to_string(each.who);
    text += fmt::format("; {}: {}", who, to_string(each));
  }
  return text;
}

namespace detail {

COHORT_INLINE recipient address_of(const routed_message& what) {
  switch (static_cast<recipient::kind>(what.to)) {
    case recipient::kind::everyone: return recipient::everyone();
    case recipient::kind::workers: return recipient::workers();
    case recipient::kind::any_worker: return recipient::any_worker();
    case recipient::kind::slot: return recipient::slot(static_cast<unsigned>(what.number));
    case recipient::kind::process: return recipient::process(static_cast<pid_t>(what.number));
    case recipient::kind::agent: return recipient::agent(what.name);
    case recipient::kind::primary: return recipient::primary();
  }
  return recipient::process(0);
}

COHORT_INLINE receipt not_delivered(member who, undelivered why, std::string what) {
  receipt result;
  result.failures.push_back({std::move(who), why, std::move(what)});
  return result;
}

}  // namespace detail

}  // namespace cohort
