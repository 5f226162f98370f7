// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "command.hpp"

#include "../core/config.hpp"

namespace cohort {

COHORT_INLINE command& command::clear_env() {
  environment_.clear();
  inherit_environment_ = false;
  return *this;
}

COHORT_INLINE command& command::fd(int number, stdio what) {
  descriptors_.insert_or_assign(number, std::move(what));
  return *this;
}

COHORT_INLINE command& command::umask(mode_t mask) {
  umask_ = mask;
  return *this;
}

COHORT_INLINE command& command::limit(int resource, rlim_t soft, rlim_t hard) {
  limits_.insert_or_assign(resource, rlimit{soft, hard});
  return *this;
}

COHORT_INLINE command& command::nice(int value) {
  nice_ = value;
  return *this;
}

COHORT_INLINE command& command::io_priority(io_class served, int level) {
  io_priority_.emplace(served, level);
  return *this;
}

COHORT_INLINE command& command::new_session() {
  new_session_ = true;
  return *this;
}

COHORT_INLINE command& command::process_group(cohort::process_group group) {
  process_group_ = group;
  return *this;
}

COHORT_INLINE command& command::process_group(pid_t leader) {
  process_group_ = leader;
  return *this;
}

COHORT_INLINE command& command::block_signal(int number) {
  blocked_signals_.push_back(number);
  return *this;
}

COHORT_INLINE command& command::file(std::shared_ptr<const descriptor> opened) {
  file_ = std::move(opened);
  return *this;
}

COHORT_INLINE command& command::ignore_signal(int number) {
  ignored_signals_.push_back(number);
  return *this;
}

COHORT_INLINE command& command::no_new_privileges() {
  no_new_privileges_ = true;
  return *this;
}

COHORT_INLINE command& command::die_with_parent(bool on) {
  die_with_parent_ = on;
  return *this;
}

}  // namespace cohort
