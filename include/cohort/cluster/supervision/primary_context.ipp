// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "primary_context.hpp"

#include <utility>
#include <variant>

#include "../../core/config.hpp"
#include "../../process/detail/credentials.hpp"

namespace cohort {

COHORT_INLINE cluster_event event_about(const worker_process& who, cluster_event::kind what, std::string text) {
  cluster_event event(what, who.number(), who.pid(), std::move(text));
  event.agent = who.agent;
  return event;
}

COHORT_INLINE command primary_context::as_user(command program) const {
  const auto name = [](const std::string& text, auto set) {
    if (!text.empty()) std::visit(set, detail::account_in(text));
  };
  name(options.user, [&](const auto& who) { program.user(who); });
  name(options.group, [&](const auto& which) { program.group(which); });
  return program;
}

COHORT_INLINE void primary_context::enter(worker_process& who, worker_state next) {
  who.enter(next);
  changed.notify();
}

COHORT_INLINE void primary_context::fail(worker_process& who, const std::string& why) {
  who.end.trouble = why;
  emit(event_about(who, cluster_event::kind::failed, why));
}

}  // namespace cohort
