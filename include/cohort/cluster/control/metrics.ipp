// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "metrics.hpp"

#include "../../core/config.hpp"

#include <cstddef>
#include <cstdint>

namespace cohort {

namespace detail {

COHORT_INLINE std::string escape_label(std::string_view value) {
  std::string result;
  for (const char c : value) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') result += '\\';
    result += c;
  }
  return result;
}

COHORT_INLINE void metrics_text::begin(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace detail

COHORT_INLINE std::string to_prometheus(const cluster_stats& stats) {
  detail::metrics_text out;
  out.single("cohort_uptime_seconds", "gauge", "Time since the cluster was started.", detail::in_seconds(stats.uptime));
  out.single("cohort_stopping", "gauge", "1 while the cluster stops.", stats.stopping ? 1 : 0);
  out.single("cohort_in_service", "gauge", "1 while clients should come here.", stats.in_service ? 1 : 0);
  out.single("cohort_generation", "gauge", "1, and one more for each reload.", stats.generation);
  out.single("cohort_workers_wanted", "gauge", "Workers that there should be.", stats.wanted);
  out.single("cohort_workers_ready", "gauge", "Workers that serve.", stats.ready);
  out.single("cohort_restarts_total", "counter", "Workers that took the place of one that had ended by itself.",
             stats.restarts);
  out.single("cohort_reloads_total", "counter", "Reloads that were completed.", stats.reloads);

  out.single("cohort_served_connections_total", "counter", "Connections that have ended, as the workers have said.",
             stats.served);
  out.single("cohort_lost_log_lines_total", "counter", "Lines that the error output has not taken.",
             stats.lost_log_lines);

  if (!stats.counters.empty()) {
    out.begin("cohort_application_total", "counter", "What the application counts under each name.");
    for (const auto& [name, value] : stats.counters)
      out.value(value, fmt::format("name=\"{}\"", detail::escape_label(name)));
  }

  out.begin("cohort_workers", "gauge", "Workers in each state.");
  for (const auto state : {worker_state::waiting, worker_state::starting, worker_state::ready, worker_state::draining,
                           worker_state::stopping, worker_state::dead}) {
    std::size_t count = 0;
    for (const auto& each : stats.workers) count += each.state == state ? 1 : 0;
    out.value(count, fmt::format("state=\"{}\"", to_string(state)));
  }

  const auto of_listeners = [&](std::string_view name, std::string_view help, std::uint32_t accept_queue::* figure) {
    out.begin(name, "gauge", help);
    for (const auto& each : stats.listeners) {
      if (!each.queue) continue;
      out.value((*each.queue).*figure, fmt::format("address=\"{}\"", detail::escape_label(each.address)));
    }
  };
  of_listeners("cohort_listen_queue_connections", "Connections that wait to be accepted.", &accept_queue::waiting);
  of_listeners("cohort_listen_queue_limit", "Connections that may wait to be accepted.", &accept_queue::limit);

  const auto of_workers = [&](std::string_view name, std::string_view type, std::string_view help, auto figure) {
    out.begin(name, type, help);
    for (const auto& each : stats.workers) {
      if (each.pid == 0 || each.state == worker_state::dead)
        continue;  // not begun, and those are not told apart; or gone
      figure(each, fmt::format("slot=\"{}\",generation=\"{}\",pid=\"{}\"", each.slot, each.generation, each.pid));
    }
  };
  of_workers("cohort_worker_state", "gauge", "1 for the state that the worker is in.",
             [&](const worker_stats& each, const std::string& labels) {
               out.value(1, fmt::format("{},state=\"{}\"", labels, to_string(each.state)));
             });
  of_workers("cohort_worker_uptime_seconds", "gauge", "Time since the worker was started.",
             [&](const auto& each, const auto& labels) { out.value(detail::in_seconds(each.uptime), labels); });
  of_workers("cohort_worker_open_connections", "gauge", "Connections that the worker serves.",
             [&](const auto& each, const auto& labels) { out.value(each.open, labels); });
  of_workers("cohort_worker_leased_connections", "gauge",
             "Connections that the primary has accepted for the worker and that have not ended.",
             [&](const auto& each, const auto& labels) { out.value(each.leased, labels); });
  of_workers("cohort_worker_served_connections", "gauge", "Connections of this worker that have ended.",
             [&](const auto& each, const auto& labels) { out.value(each.served, labels); });
  of_workers("cohort_worker_refused", "gauge", "What the worker wanted beyond its limits, and has not got.",
             [&](const auto& each, const auto& labels) { out.value(each.refused, labels); });
  of_workers("cohort_worker_resident_memory_bytes", "gauge", "Resident memory of the worker.",
             [&](const auto& each, const auto& labels) { out.value(each.memory, labels); });
  of_workers("cohort_worker_loop_lag_seconds", "gauge", "From the last ping to its answer.",
             [&](const auto& each, const auto& labels) { out.value(detail::in_seconds(each.lag), labels); });

  if (!stats.agents.empty()) {
    const auto of_agents = [&](std::string_view name, std::string_view type, std::string_view help, auto figure) {
      out.begin(name, type, help);
      for (const auto& each : stats.agents) {
        out.value(figure(each), fmt::format("agent=\"{}\"", detail::escape_label(each.name)));
      }
    };
    of_agents("cohort_agent_ready", "gauge", "1 if the agent is ready.",
              [](const auto& each) { return each.state == worker_state::ready ? 1 : 0; });
    of_agents("cohort_agent_restarts_total", "counter", "Restarts of the agent.",
              [](const auto& each) { return each.restarts; });
    of_agents("cohort_agent_resident_memory_bytes", "gauge", "Resident memory of the agent.",
              [](const auto& each) { return each.memory; });
  }

  out.begin("cohort_slot_restarts_total", "counter", "Restarts in the slot.");
  for (const auto& each : stats.slots) out.value(each.restarts, fmt::format("slot=\"{}\"", each.slot));
  out.begin("cohort_slot_degraded", "gauge", "1 if the slot was given up, and is empty until the next reload.");
  for (const auto& each : stats.slots) out.value(each.degraded ? 1 : 0, fmt::format("slot=\"{}\"", each.slot));
  out.begin("cohort_slot_last_exit_status", "gauge", "Of the worker that ended last; 128 and more: that signal.");
  for (const auto& each : stats.slots) {
    if (!each.last_exit) continue;
    const int status = each.last_exit->code().value_or(128 + each.last_exit->signal().value_or(0));
    out.value(status, fmt::format("slot=\"{}\"", each.slot));
  }
  return out.text();
}

}  // namespace cohort
