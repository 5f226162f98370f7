// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "protocol.hpp"

#include "../../core/config.hpp"

#include <filesystem>
#include <memory>
#include <utility>

#include <errno.h>
#include <sys/un.h>

#include <fmt/format.h>

namespace cohort {

namespace control_protocol {

COHORT_INLINE cluster_event happened::event() const {
  cluster_event result(what, slot, pid, text);
  result.agent = agent;
  result.after = after;
  result.status = status;
  result.reason = reason;
  if (what != cluster_event::kind::schedule_ran) return result;
  schedule_result run;
  run.name = schedule;
  run.worker = slot;
  run.duration = after;
  run.attempt = attempt;
  run.ok = text.empty();
  run.what = text;
  result.run = std::make_shared<const schedule_result>(std::move(run));
  return result;
}

COHORT_INLINE asio::local::stream_protocol::endpoint endpoint_of(std::string_view step, const std::string& path) {
  if (path.empty()) throw_error(fmt::format("{} \"\"", step), EINVAL);
  std::string name = path.front() == '@' ? path : std::filesystem::absolute(path).string();
  if (name.size() >= sizeof(sockaddr_un::sun_path)) throw_error(fmt::format("{} {}", step, path), ENAMETOOLONG);
  if (name.front() == '@') name.front() = '\0';
  return {name};
}

}  // namespace control_protocol

}  // namespace cohort
