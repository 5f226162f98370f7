// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "schedule.hpp"

#include "../core/config.hpp"

#include <utility>

#include <fmt/format.h>

namespace cohort {

COHORT_INLINE schedule::schedule(std::string name) : name_(std::move(name)) {
  if (name_.empty()) throw_error("schedule: an empty name", errc::invalid_option);
}

COHORT_INLINE schedule& schedule::every(duration interval) {
  if (interval < duration(1)) refuse("every", interval);
  expect_first("every");
  times_ = check("every", interval);
  return *this;
}

COHORT_INLINE schedule& schedule::at(cron times, time_zone zone) {
  expect_first("at");
  times_ = timetable{std::move(times), zone};
  return *this;
}

COHORT_INLINE schedule& schedule::at_start() {
  at_start_ = true;
  return *this;
}

COHORT_INLINE schedule& schedule::on_agent(std::string name) {
  agent_ = std::move(name);
  return on(schedule_place::agent);
}

COHORT_INLINE schedule& schedule::allow_overlap() {
  overlap_ = true;
  return *this;
}

COHORT_INLINE schedule& schedule::missed(missed_runs policy) {
  missed_ = policy;
  return *this;
}

COHORT_INLINE schedule& schedule::lateness(duration limit) {
  lateness_ = check("lateness", limit);
  return *this;
}

COHORT_INLINE schedule& schedule::jitter(duration limit) {
  jitter_ = check("jitter", limit);
  return *this;
}

COHORT_INLINE schedule& schedule::at_least_once(unsigned attempts) {
  attempts_ = attempts == 0 ? 1 : attempts;
  return *this;
}

COHORT_INLINE schedule& schedule::last_run(time_point when) {
  last_run_ = when;
  return *this;
}

COHORT_INLINE schedule& schedule::on(schedule_place place) {
  place_ = place;
  return *this;
}

COHORT_INLINE void schedule::refuse(const char* step, duration value) const {
  throw_error(fmt::format("schedule \"{}\": {} {} ms", name_, step, value.count()), errc::invalid_option);
}

COHORT_INLINE schedule::duration schedule::check(const char* step, duration value) const {
  if (value < duration(0) || value > longest) refuse(step, value);
  return value;
}

COHORT_INLINE void schedule::expect_first(const char* step) const {
  if (times_.index() == 0) return;
  throw_error(fmt::format("schedule \"{}\": {}: it has times already", name_, step), errc::invalid_option);
}

}  // namespace cohort
